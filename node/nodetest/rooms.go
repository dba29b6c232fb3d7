package nodetest

import (
	"errors"
	"slices"

	"github.com/parley-chat/parley/node/api"
)

// NewRoom makes a room of the first person's with the others in it, whom it makes
// contacts of the first, and returns its id once all know that all are in it.
func (net *Net) NewRoom(name string, founder *Person, others ...*Person) string {
	net.t.Helper()
	made, err := founder.CreateRoom(net.t.Context(), api.CreateRoomRequest{Name: name})
	if err != nil {
		net.t.Fatalf("%s makes a room: %v", founder.Name, err)
	}
	for _, p := range others {
		if founder.Contact(p.Name).Relation != api.Accepted {
			net.Befriend(founder, p)
		}
		net.Enter(made.ID, founder, p)
	}
	for _, p := range others {
		for _, q := range others {
			net.Wait(p.Name+" knows that "+q.Name+" is in the room", func() bool { return p.Knows(made.ID, q) })
		}
	}
	return made.ID
}

// Enter lets somebody in whom a member invites, and waits until both know it.
func (net *Net) Enter(room string, member, p *Person) {
	net.t.Helper()
	member.In(room, api.RoomInvite, api.RoomRequest{Who: p.Name})
	net.Wait(p.Name+" is invited", func() bool { return p.InRoom(room).Stage == api.RoomInvited })
	p.In(room, api.RoomJoin, api.RoomRequest{})
	net.Wait(p.Name+" is in the room", func() bool {
		r := p.InRoom(room)
		return r.Stage == api.RoomJoined && r.Name != ""
	})
	net.Wait(member.Name+" knows that "+p.Name+" is in the room", func() bool { return member.Knows(room, p) })
}

// Knows tells whether the person sees somebody in a room.
func (p *Person) Knows(room string, other *Person) bool {
	p.net.t.Helper()
	list, err := p.RoomMembers(p.net.t.Context(), room)
	if err != nil {
		p.net.t.Fatalf("%s's members of a room: %v", p.Name, err)
	}
	account := other.Whoami().Account
	return slices.ContainsFunc(list, func(m api.RoomMember) bool { return m.Account == account && m.Role != api.RoomInvited })
}

// In does something in a room.
func (p *Person) In(room, verb string, r api.RoomRequest) api.Room {
	p.net.t.Helper()
	now, err := p.ChangeRoom(p.net.t.Context(), room, verb, r)
	if err != nil {
		p.net.t.Fatalf("%s does %q in a room: %v", p.Name, verb, err)
	}
	return now
}

// InRoom returns a room as the person sees it; the zero value if there is none.
func (p *Person) InRoom(room string) api.Room {
	p.net.t.Helper()
	r, err := p.Room(p.net.t.Context(), room)
	if e, ok := errors.AsType[*api.Error](err); ok && e.Code == api.ErrNotFound {
		return api.Room{}
	}
	if err != nil {
		p.net.t.Fatalf("%s's room: %v", p.Name, err)
	}
	return r
}

// SayIn writes a text to a room and returns the message.
func (p *Person) SayIn(room, text string) api.Message {
	p.net.t.Helper()
	m, err := p.Send(p.net.t.Context(), api.SendRequest{To: "#" + room, Text: text})
	if err != nil {
		p.net.t.Fatalf("%s writes to a room: %v", p.Name, err)
	}
	return m
}

// HistoryOf returns the newest thousand messages of a room.
func (p *Person) HistoryOf(room string) []api.Message {
	p.net.t.Helper()
	page, err := p.History(p.net.t.Context(), "#"+room, 0, 1000)
	if err != nil {
		p.net.t.Fatalf("%s's history of a room: %v", p.Name, err)
	}
	return page
}

// TextsIn returns what the person sees of a room, each text with its author before it.
func (p *Person) TextsIn(room string) (list []string) {
	p.net.t.Helper()
	for _, m := range p.HistoryOf(room) {
		list = append(list, m.From+": "+m.Text)
	}
	return list
}
