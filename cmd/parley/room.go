package main

import (
	"slices"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) roomCommands() []*cli.Command {
	return []*cli.Command{{
		Name: "room", Category: "Rooms", Usage: "talk with many at once: rooms with roles and rights",
		Description: "ROOM is the name of a room, its id, or at least 6 characters of that. Other commands take a room where\nthey take a contact, with # before it: parley history '#climbing'.\n\n" +
			"NAME is a contact, or somebody in the room: ~ begins a name that somebody chose there, which proves nothing.",
		Subcommands: slices.Concat(
			p.roomBasics(), grouped("Messages", p.roomMessages()), grouped("People", p.roomPeople()), grouped("Links", p.roomLinks()), grouped("Rules", p.roomRules()),
		),
	}}
}

func grouped(category string, all []*cli.Command) []*cli.Command {
	for _, c := range all {
		c.Category = category
	}
	return all
}

// roomBasics are the commands about which rooms there are.
func (p *program) roomBasics() []*cli.Command {
	return []*cli.Command{
		{
			Name: "create", ArgsUsage: "NAME", Usage: "make a room, which you own",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "topic", Usage: "what it is about: a `TEXT`"}},
			Action: asking(1, 1, p.createRoom),
		},
		{
			Name: "list", Usage: "your rooms, and those that you are invited to",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "also those that you left"}},
			Action: asking(0, 0, p.listRooms),
		},
		p.offeringRooms(&cli.Command{Name: "show", ArgsUsage: "ROOM", Usage: "what there is to know of a room", Action: aboutRoom(1, 1, p.showRoom)}, nil),
		p.offeringRooms(&cli.Command{
			Name: "join", ArgsUsage: "ROOM|LINK|-", Usage: "join a room that somebody invited you to, or by a link; - reads it from standard input",
			Action: aboutRoom(1, 1, p.joinRoom),
		}, nil),
		p.offeringRooms(&cli.Command{
			Name: "leave", ArgsUsage: "ROOM", Usage: "leave a room, or turn an invitation down; the history stays",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "yes", Usage: "do not ask, even if nobody is left in it then"}},
			Action: aboutRoom(1, 1, p.leaveRoom),
		}, nil),
	}
}

// roomMessages are the commands about what is said in a room.
func (p *program) roomMessages() []*cli.Command {
	all := []*cli.Command{
		{
			Name: "send", ArgsUsage: "ROOM TEXT...|PATH...|-", Usage: "send a message, files or folders to a room; - takes the text from standard input",
			Description: sendHelp, Flags: sendFlags("wait until the room's mailbox has it; exit code 7 if it is not in time"),
			Action: sending(func(c *cli.Context, client *api.Client) error {
				return p.sendTo(c, client, "#"+strings.TrimPrefix(c.Args().First(), "#"))
			}),
		},
		{
			Name: "listen", ArgsUsage: "ROOM", Usage: "print a room's messages, and what happens in it, as they come",
			Description: listenHelp, Flags: listenFlags(),
			Action: aboutRoom(1, 1, func(c *cli.Context, client *api.Client, room string) error {
				return p.listenTo(c, client, "#"+room)
			}),
		},
		{
			Name: "history", ArgsUsage: "ROOM", Usage: "what was said in a room", Flags: historyFlags(),
			Action: aboutRoom(1, 1, func(c *cli.Context, client *api.Client, room string) error {
				return p.historyOf(c, client, "#"+room)
			}),
		},
		{
			Name: "log", ArgsUsage: "ROOM", Usage: "who did what in a room: came, went, invited, changed rights",
			Flags:  []cli.Flag{&cli.IntFlag{Name: "n", Usage: "the newest `N` entries", Value: 50}},
			Action: aboutRoom(1, 1, p.roomLog),
		},
	}
	for _, c := range all {
		p.offeringRooms(c, nil)
	}
	return all
}

// roomPeople are the commands about who is in a room.
func (p *program) roomPeople() []*cli.Command {
	return []*cli.Command{
		p.offeringRooms(&cli.Command{Name: "members", ArgsUsage: "ROOM", Usage: "who is in a room, and who is invited", Action: aboutRoom(1, 1, p.roomMembers)}, nil),
		p.roomVerb(api.RoomInvite, "let contacts join", contactNames, "%s is invited to %s; they type: parley room join %s"),
		p.roomVerb(api.RoomUninvite, "take an invitation back", memberNames, "%s is not invited to %s any more"),
		p.roomVerb(api.RoomKick, "remove somebody, who can be invited again", memberNames, "%s is out of %s"),
		p.roomVerb(api.RoomBan, "remove somebody for good", memberNames, "%s is banned from %s"),
		p.roomVerb(api.RoomUnban, "let somebody be invited again who was kicked or banned", nil, "%s may be invited to %s again"),
		p.roomVerb(api.RoomMute, "let somebody read, but not write", memberNames, "%s cannot write in %s any more"),
		p.roomVerb(api.RoomUnmute, "undo mute", memberNames, "%s can write in %s again"),
		p.promoteCommand(),
		p.demoteCommand(),
	}
}

// roomRules are the commands about what holds for everybody in a room.
func (p *program) roomRules() []*cli.Command {
	all := []*cli.Command{
		{Name: "topic", ArgsUsage: "ROOM [TEXT...]", Usage: "what a room is about: show it, or change it; '' removes it", Action: aboutRoom(1, -1, p.roomTopic)},
		{Name: "rename", ArgsUsage: "ROOM NEW-NAME", Usage: "call a room something else, for everybody", Action: aboutRoom(2, 2, p.renameRoom)},
		{Name: "lock", ArgsUsage: "ROOM", Usage: "let nobody in, invited or not, until unlock", Action: aboutRoom(1, 1, p.lockRoom(true))},
		{Name: "unlock", ArgsUsage: "ROOM", Usage: "undo lock", Action: aboutRoom(1, 1, p.lockRoom(false))},
		{Name: "rotate", ArgsUsage: "ROOM", Usage: "new keys for what is said from now on; joining, leaving and time do it by themselves", Action: aboutRoom(1, 1, p.rotateRoom)},
	}
	for _, c := range all {
		p.offeringRooms(c, nil)
	}
	return append(all, p.rightsCommand(), p.roomGuestsCommand(), p.forkCommand())
}

// aboutRoom makes an action of a function about the room that the first argument
// names. Min and max count all arguments.
func aboutRoom(min, max int, fn func(c *cli.Context, client *api.Client, room string) error) cli.ActionFunc {
	return asking(min, max, func(c *cli.Context, client *api.Client) error {
		return fn(c, client, strings.TrimPrefix(c.Args().First(), "#"))
	})
}

// orRoom adds to an error about somebody unknown that there is a room of that name.
func orRoom(c *cli.Context, client *api.Client, err error, name string) error {
	f := explain(err)
	if f.code != exitNotFound || strings.HasPrefix(name, "#") {
		return err
	}
	r, missing := client.Room(c.Context, name)
	if missing != nil {
		return err
	}
	return fail(f.code, "%s", f.text).hint("for the room of that name: parley room %s %s", c.Command.Name, roomWord(r))
}

// plain tells that a name needs no quotes, in a shell or in a line of ours. Other
// people choose the names of rooms: no other name is ever given to a shell.
func plain(name string) bool {
	return name != "" && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.", r)
	})
}

// typed is what one types for a room: its name, or the beginning of its id.
func typed(name, id string) string {
	if name = strings.TrimPrefix(name, "#"); plain(name) || len(id) < idShown {
		return name
	}
	return id[:idShown]
}

// idShown is how much of an id is shown: enough to name a room or an account by.
const idShown = 8

// shellWord writes what the user typed so that a shell takes it for one word.
func shellWord(text string) string {
	if plain(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// label names a room within a line: in quotes unless it is one word, so that no
// room's name passes for what somebody wrote.
func label(name string) string {
	if name = strings.TrimPrefix(name, "#"); plain(name) {
		return "#" + name
	}
	return `#"` + strings.ReplaceAll(name, `"`, "'") + `"`
}

func roomLabel(r api.Room) string {
	if r.Name == "" {
		return "#" + typed("", r.ID)
	}
	return label(r.Name)
}

// roomWord is what one types for a room.
func roomWord(r api.Room) string { return typed(r.Name, r.ID) }
