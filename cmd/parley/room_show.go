package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) listRooms(c *cli.Context, client *api.Client) error {
	all, err := client.Rooms(c.Context)
	if err != nil {
		return err
	}
	if !c.Bool("all") {
		all = slices.DeleteFunc(all, func(r api.Room) bool { return r.Stage == api.RoomOut })
	}
	if c.Bool("json") {
		return p.json(listed("rooms", all))
	}
	if len(all) == 0 {
		p.note("no rooms yet; make one: parley room create NAME")
		return nil
	}
	p.table(roomRows(all))
	return nil
}

func roomRows(all []api.Room) (rows [][]string) {
	for _, r := range all {
		rows = append(rows, []string{roomLabel(r), describeRoom(r), r.Topic})
	}
	return rows
}

// describeRoom says in a few words what there is to know.
func describeRoom(r api.Room) string {
	switch r.Stage {
	case api.RoomInvited:
		return invitation(r)
	case api.RoomOut:
		return "you are not in it"
	case api.RoomJoining:
		return "your node asks to be let in"
	}
	parts := []string{count(r.Members, "member", "members")}
	if r.Role != "member" && r.Role != "" {
		parts = append(parts, "you are "+r.Role)
	}
	if r.Forked {
		parts = append(parts, "DIFFERENT LOGS, nothing is sent: parley room fork "+roomWord(r))
	}
	if r.Locked {
		parts = append(parts, "locked")
	}
	if r.Unread > 0 {
		parts = append(parts, fmt.Sprintf("%d unread", r.Unread))
	}
	if r.Queued > 0 {
		parts = append(parts, fmt.Sprintf("%d on their way", r.Queued))
	}
	return strings.Join(parts, ", ")
}

func invitation(r api.Room) string {
	by := r.By
	if by == "" {
		by = "somebody"
	}
	return by + " invites you: parley room join " + roomWord(r)
}

// invitations are the rooms that the user is invited to.
func invitations(ctx context.Context, client *api.Client) ([]api.Room, error) {
	all, err := client.Rooms(ctx)
	return slices.DeleteFunc(all, func(r api.Room) bool { return r.Stage != api.RoomInvited }), err
}

// describeRooms says how many there are, and what waits for the user.
func describeRooms(all []api.Room) string {
	joined, invited, unread := 0, 0, 0
	for _, r := range all {
		switch r.Stage {
		case api.RoomJoined:
			joined++
			unread += r.Unread
		case api.RoomInvited:
			invited++
		}
	}
	text := fmt.Sprint(joined)
	if unread > 0 {
		text += fmt.Sprintf(", %d unread", unread)
	}
	if invited > 0 {
		text += fmt.Sprintf("; %s (parley room list)", count(invited, "invitation", "invitations"))
	}
	return text
}

func (p *program) showRoom(c *cli.Context, client *api.Client, room string) error {
	r, err := client.Room(c.Context, room)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(r)
	}
	p.say("%-12s %s", "room", roomLabel(r))
	if r.Topic != "" {
		p.say("%-12s %s", "topic", r.Topic)
	}
	p.say("%-12s %s", "id", r.ID)
	p.say("%-12s %s", "state", describeRoom(r))
	if r.Stage == api.RoomJoined {
		p.say("%-12s %s, since %s; you may: %s", "you", r.Role, clock(r.Since), orNothing(r.Rights))
		p.say("%-12s %d, %s", "members", r.Members, count(r.Guests, "guest", "guests"))
	}
	if r.HomePeer != "" {
		p.say("%-12s %s", "rendezvous", r.HomePeer)
	}
	if r.Pending > 0 {
		p.say("%-12s %s for the room's rendezvous", "waiting", count(r.Pending, "change of yours waits", "changes of yours wait"))
	}
	if r.Forked {
		p.say("! members of this room were shown different logs of it: somebody who orders them lies, or went back to an old backup")
		p.say("  fix: ask the others, by another way, who they think is in the room; then: parley room fork %s", roomWord(r))
	}
	return nil
}

func orNothing(rights []string) string {
	if len(rights) == 0 {
		return "nothing"
	}
	return strings.Join(rights, ", ")
}

func (p *program) roomMembers(c *cli.Context, client *api.Client, room string) error {
	all, err := client.RoomMembers(c.Context, room)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(listed("members", all))
	}
	var rows [][]string
	for _, m := range all {
		rows = append(rows, []string{m.Name, m.Role, describeMember(m), m.Account[:min(len(m.Account), idShown)]})
	}
	p.table(rows)
	return nil
}

func describeMember(m api.RoomMember) string {
	var parts []string
	switch {
	case m.Self:
		parts = append(parts, "you")
	case m.Role == api.RoomInvited:
		parts = append(parts, "by "+m.By)
	case m.Online == nil:
	case *m.Online:
		parts = append(parts, "online")
	default:
		parts = append(parts, "away")
	}
	if m.Muted {
		parts = append(parts, "muted")
	}
	if m.Expires != nil {
		parts = append(parts, "until "+clock(*m.Expires))
	}
	return strings.Join(parts, ", ")
}

// showRights lists what everybody in a room may do, or only who is called who.
func (p *program) showRights(c *cli.Context, client *api.Client, room, who string) error {
	all, err := client.RoomMembers(c.Context, room)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(m api.RoomMember) bool { return m.Role == api.RoomInvited })
	if who != "" {
		called, err := client.RoomMember(c.Context, room, who)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(m api.RoomMember) bool { return m.Account != called.Account })
	}
	if c.Bool("json") {
		return p.json(listed("members", all))
	}
	var rows [][]string
	for _, m := range all {
		rows = append(rows, []string{m.Name, m.Role, orNothing(m.Rights)})
	}
	p.table(rows)
	return nil
}

func (p *program) roomLog(c *cli.Context, client *api.Client, room string) error {
	want := c.Int("n")
	if want < 1 {
		return usageError("-n is at least 1")
	}
	all := []api.RoomEntry{}
	for before := uint64(0); len(all) < want; before = all[0].Seq {
		page, err := client.RoomLog(c.Context, room, before, min(want-len(all), api.MaxRoomLog))
		if err != nil {
			return err
		}
		all = append(page, all...)
		if len(page) == 0 || page[0].Seq == 0 {
			break
		}
	}
	if c.Bool("json") {
		return p.json(listed("entries", all))
	}
	for _, e := range all {
		p.say("%s  %s", clock(e.Time), e.Text)
	}
	return nil
}
