package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/cmd/parley/display"
	"github.com/parley-chat/parley/node/api"
)

func (p *program) createRoom(c *cli.Context, client *api.Client) error {
	r, err := client.CreateRoom(c.Context, api.CreateRoomRequest{Name: strings.TrimPrefix(c.Args().First(), "#"), Topic: c.String("topic")})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(r)
	}
	p.say("%s is there, and yours", roomLabel(r))
	p.note("invite your contacts: parley room invite %s NAME...", roomWord(r))
	p.noteWaiting(r)
	return nil
}

// noteWaiting says that what was done has not reached the others.
func (p *program) noteWaiting(r api.Room) {
	if r.Pending > 0 {
		p.note("the others see it when the room's rendezvous has been reached; until then it waits here: parley room show %s", roomWord(r))
	}
}

// changed says what was done in a room, or prints what the room is now.
func (p *program) changed(c *cli.Context, r api.Room, format string, args ...any) error {
	if c.Bool("json") {
		return p.json(r)
	}
	p.say(format, args...)
	p.noteWaiting(r)
	return nil
}

// roomVerb makes a command that does one thing to people in a room. What it says takes
// who, the room, and what to type for the room.
func (p *program) roomVerb(verb, usage string, offered lister, done string) *cli.Command {
	return p.offeringRooms(&cli.Command{
		Name: verb, ArgsUsage: "ROOM NAME...", Usage: usage,
		Action: aboutRoom(2, -1, func(c *cli.Context, client *api.Client, room string) error {
			return p.toPeople(c, client, room, verb, done)
		}),
	}, offered)
}

func (p *program) toPeople(c *cli.Context, client *api.Client, room, verb, done string) error {
	var r api.Room
	for _, who := range c.Args().Tail() {
		var err error
		if r, err = client.ChangeRoom(c.Context, room, verb, api.RoomRequest{Who: who}); err != nil {
			return err
		}
		if !c.Bool("json") {
			args := []any{who, roomLabel(r), roomWord(r)}
			p.say(done, args[:strings.Count(done, "%s")]...)
		}
	}
	if c.Bool("json") {
		return p.json(r)
	}
	if verb == api.RoomInvite && r.Locked {
		p.note("the room is locked: nobody comes in before parley room unlock %s", roomWord(r))
	}
	p.noteWaiting(r)
	return nil
}

func (p *program) promoteCommand() *cli.Command {
	return p.offeringRooms(&cli.Command{
		Name: "promote", ArgsUsage: "ROOM NAME", Usage: "make a member a moderator, a moderator an owner",
		Description: "A moderator invites, mutes, kicks, and changes rights of members. An owner can do everything, and nobody can\ntake that away, or remove an owner.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "yes", Usage: "do not ask before there is another owner"}},
		Action: aboutRoom(2, 2, func(c *cli.Context, client *api.Client, room string) error {
			return p.changeRole(c, client, room, api.RoomPromote)
		}),
	}, memberNames)
}

func (p *program) demoteCommand() *cli.Command {
	return p.offeringRooms(&cli.Command{
		Name: "demote", ArgsUsage: "ROOM NAME", Usage: "make a moderator a member; also yourself, as an owner too",
		Action: aboutRoom(2, 2, func(c *cli.Context, client *api.Client, room string) error {
			return p.changeRole(c, client, room, api.RoomDemote)
		}),
	}, memberNames)
}

// changeRole promotes or demotes somebody. Whom a name means is decided once: the
// question, and what follows it, are about one account.
func (p *program) changeRole(c *cli.Context, client *api.Client, room, verb string) error {
	m, err := client.RoomMember(c.Context, room, c.Args().Get(1))
	if err != nil {
		return err
	}
	if verb == api.RoomPromote && m.Role == "moderator" {
		question := fmt.Sprintf("Make %s (account %s) an owner, for good?", display.Clean(m.Name), m.Account[:idShown])
		if err := p.sure(c, "nobody can take that away from an owner", question); err != nil {
			return err
		}
	}
	r, err := client.ChangeRoom(c.Context, room, verb, api.RoomRequest{Who: m.Account})
	if err != nil {
		return err
	}
	if m, err = client.RoomMember(c.Context, r.ID, m.Account); err != nil {
		return err
	}
	return p.changed(c, r, "%s is %s of %s now", m.Name, m.Role, roomLabel(r))
}

// sure asks before what cannot be undone, unless the flag yes is set.
func (p *program) sure(c *cli.Context, why, question string) error {
	if c.Bool("yes") {
		return nil
	}
	if !p.interactive() {
		return usageError("%s, and nobody is here to ask", why).hint("--yes does it without asking")
	}
	yes, err := p.confirm(c, question+" Type yes: ")
	if err == nil && !yes {
		err = fail(exitError, "nothing was changed")
	}
	return err
}

func (p *program) joinRoom(c *cli.Context, client *api.Client, room string) error {
	if isRoomLink(room) {
		return p.joinByLink(c, client, room)
	}
	r, err := client.ChangeRoom(c.Context, room, api.RoomJoin, api.RoomRequest{})
	if err != nil {
		return err
	}
	return p.joined(c, r)
}

// joined says what came of joining a room.
func (p *program) joined(c *cli.Context, r api.Room) error {
	if c.Bool("json") {
		return p.json(r)
	}
	if r.Stage != api.RoomJoined {
		p.say("your node asks to be let into %s", roomLabel(r))
		p.note("it goes on by itself; see whether you are in: parley room list")
		return nil
	}
	p.say("you are in %s, with %s", roomLabel(r), count(r.Members-1, "other", "others"))
	p.note("say something: parley room send %s TEXT", roomWord(r))
	return nil
}

func (p *program) leaveRoom(c *cli.Context, client *api.Client, room string) error {
	before, err := client.Room(c.Context, room)
	if err != nil {
		return err
	}
	if before.Stage == api.RoomJoined && before.Members == 1 {
		if err := p.sure(c, "nobody else is in this room, so that it ends", "Nobody else is in this room: it ends for good. Leave?"); err != nil {
			return err
		}
	}
	r, err := client.ChangeRoom(c.Context, before.ID, api.RoomLeave, api.RoomRequest{})
	if err != nil {
		return err
	}
	if before.Stage == api.RoomInvited {
		return p.changed(c, r, "you are not invited to %s any more", roomLabel(r))
	}
	return p.changed(c, r, "you left %s; what was said stays here: parley room history %s", roomLabel(r), roomWord(r))
}

func (p *program) roomTopic(c *cli.Context, client *api.Client, room string) error {
	if c.NArg() == 1 {
		r, err := client.Room(c.Context, room)
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return p.json(r)
		}
		p.say("%s", r.Topic)
		return nil
	}
	r, err := client.ChangeRoom(c.Context, room, api.RoomTopic, api.RoomRequest{Text: strings.Join(c.Args().Tail(), " ")})
	if err != nil {
		return err
	}
	return p.changed(c, r, "the topic of %s has been changed", roomLabel(r))
}

func (p *program) renameRoom(c *cli.Context, client *api.Client, room string) error {
	name := strings.TrimPrefix(c.Args().Get(1), "#")
	r, err := client.ChangeRoom(c.Context, room, api.RoomRename, api.RoomRequest{Text: name})
	if err != nil {
		return err
	}
	return p.changed(c, r, "the room is called %s now, for everybody in it", label(name))
}

func (p *program) lockRoom(on bool) func(*cli.Context, *api.Client, string) error {
	done := "%s is open again to who is invited"
	if on {
		done = "%s is locked: nobody comes in"
	}
	return func(c *cli.Context, client *api.Client, room string) error {
		r, err := client.ChangeRoom(c.Context, room, api.RoomLock, api.RoomRequest{On: on})
		if err != nil {
			return err
		}
		return p.changed(c, r, done, roomLabel(r))
	}
}

func (p *program) rotateRoom(c *cli.Context, client *api.Client, room string) error {
	r, err := client.ChangeRoom(c.Context, room, api.RoomRotate, api.RoomRequest{})
	if err != nil {
		return err
	}
	return p.changed(c, r, "what is said in %s from now on has new keys", roomLabel(r))
}

func (p *program) rightsCommand() *cli.Command {
	return p.offeringRooms(&cli.Command{
		Name: "rights", ArgsUsage: "ROOM [NAME]", Usage: "what everybody may do in a room, or one; and change it",
		Description: "The rights are read, send, files, react (to messages), admit (invite, let guests in), kick (remove, ban, lock),\nset_rights (of members and guests), and rename (name and topic).\n\n" +
			"parley room rights climbing --role member --remove files    nobody but moderators sends files\nparley room rights climbing bob --add files                 but bob does",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "role", Usage: "change what everybody of this `ROLE` may: moderator, member or guest"},
			&cli.StringSliceFlag{Name: "add", Usage: "give this `RIGHT`; several with commas between them"},
			&cli.StringSliceFlag{Name: "remove", Usage: "take this `RIGHT`"},
		},
		Action: aboutRoom(1, 2, p.rights),
	}, memberNames)
}

func (p *program) rights(c *cli.Context, client *api.Client, room string) error {
	req := api.RoomRequest{Who: c.Args().Get(1), Role: c.String("role"), Add: c.StringSlice("add"), Remove: c.StringSlice("remove")}
	if len(req.Add)+len(req.Remove) == 0 {
		if req.Role != "" {
			return usageError("say what changes for the role").hint("--add RIGHT, or --remove RIGHT")
		}
		return p.showRights(c, client, room, req.Who)
	}
	if (req.Who == "") == (req.Role == "") {
		return usageError("say whose rights change: either NAME or --role")
	}
	r, err := client.ChangeRoom(c.Context, room, api.RoomRights, req)
	if err != nil {
		return err
	}
	whom := req.Who
	if whom == "" {
		whom = "every " + req.Role
	}
	return p.changed(c, r, "the rights of %s in %s have been changed", whom, roomLabel(r))
}
