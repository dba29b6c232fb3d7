package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// Rooms returns all rooms that this account is or was in, or is invited to.
func (n *Node) Rooms(ctx context.Context) (list []api.Room, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		all, err := n.eng.Rooms(tx, n.now())
		names := n.names(tx)
		list = make([]api.Room, 0, len(all))
		for _, r := range all {
			list = append(list, names.room(r))
		}
		return err
	})
	return list, answer(err)
}

// Room returns one room.
func (n *Node) Room(ctx context.Context, name string) (out api.Room, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		r, err := n.roomByName(tx, name)
		out = n.names(tx).room(r)
		return err
	})
	return out, answer(err)
}

// CreateRoom makes a room. It is there at once; others can be invited when the
// rendezvous has it. A name is taken once by this account: it would name neither room.
func (n *Node) CreateRoom(ctx context.Context, r api.CreateRoomRequest) (api.Room, error) {
	n.home.busy()
	var id protocol.RoomID
	err := n.do(ctx, func(tx store.Tx) (h engine.Hint, err error) {
		titles, err := n.eng.RoomTitles(tx)
		if err != nil {
			return h, err
		}
		for _, t := range titles {
			if t.Stage == engine.RoomJoined && strings.EqualFold(t.Name, r.Name) {
				return h, &api.Error{Code: api.ErrConflict, Text: "you are in a room of that name already", Hint: "choose another name; or see what is there: parley room list"}
			}
		}
		id, h, err = n.eng.CreateRoom(tx, n.now(), room.About{Name: r.Name, Topic: r.Topic})
		return h, err
	})
	if err != nil {
		return api.Room{}, answer(err)
	}
	n.rooms.settle(ctx, id)
	return n.Room(ctx, id.String())
}

// RoomMembers returns who is in a room, highest role first, then who is invited.
func (n *Node) RoomMembers(ctx context.Context, name string) (list []api.RoomMember, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		r, err := n.roomByName(tx, name)
		if err != nil || r.State == nil {
			return err
		}
		names := n.names(tx)
		for _, m := range r.State.Members() {
			list = append(list, names.member(r, m))
		}
		for a, by := range r.State.Invites() {
			list = append(list, api.RoomMember{
				Name: names.inRoom(r.ID, a), Account: a.String(), Role: api.RoomInvited, By: names.inRoom(r.ID, by),
			})
		}
		return nil
	})
	return list, answer(err)
}

// RoomMember returns whom ChangeRoom takes a name for, as what waits for the rendezvous
// will leave them.
func (n *Node) RoomMember(ctx context.Context, name, who string) (out api.RoomMember, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		r, err := n.roomByName(tx, name)
		if err != nil {
			return err
		}
		if r.ToBe == nil {
			return engine.ErrNotInRoom
		}
		a, err := n.whoInRoom(tx, r, who)
		if err != nil {
			return err
		}
		m, in := r.ToBe.Member(a)
		if !in {
			return fmt.Errorf("%q: %w", who, room.ErrNotMember)
		}
		r.State = r.ToBe
		out = n.names(tx).member(r, m)
		return nil
	})
	return out, answer(err)
}

// RoomLog returns the newest entries of a room's log before a number (0: the end),
// oldest first, at most limit.
func (n *Node) RoomLog(ctx context.Context, name string, before uint64, limit int) (list []api.RoomEntry, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		r, err := n.roomByName(tx, name)
		if err != nil {
			return err
		}
		entries, err := n.eng.RoomEntries(tx, r.ID, before, limit)
		names := n.names(tx)
		for _, e := range entries {
			list = append(list, names.entry(r.ID, e))
		}
		return err
	})
	return list, answer(err)
}

// room is what a face is told of a room.
func (s names) room(r engine.Room) api.Room {
	out := api.Room{
		ID: r.ID.String(), Name: r.Name, Topic: r.Topic, Stage: r.Stage.String(), By: s.of(r.By), Rights: []string{},
		Forked: r.Forked, Unread: r.Unread, Queued: r.Queued, Pending: r.Pending, Since: r.Since, Problem: r.Problem,
	}
	if r.Stage == engine.RoomTold && r.Joining {
		out.Stage = api.RoomJoining
	}
	if home := peerText(r.Home.Peer); home != peerText(s.n.self.Home.Peer) {
		out.HomePeer = home
	}
	if r.State == nil {
		return out
	}
	for _, m := range r.State.Members() {
		out.Members++
		if m.Role == room.RoleGuest {
			out.Guests++
		}
		if m.Account == s.n.self.Account {
			out.Role = m.Role.String()
		}
	}
	out.Locked, out.Rights = r.State.Locked(), rightNames(r.State.Rights(s.n.self.Account))
	return out
}

func (s names) member(r engine.Room, m room.Member) api.RoomMember {
	out := api.RoomMember{
		Name: s.inRoom(r.ID, m.Account), Account: m.Account.String(), Role: m.Role.String(),
		Rights: rightNames(r.State.Rights(m.Account)), Self: m.Account == s.n.self.Account,
		Guest: m.Role == room.RoleGuest, Expires: unlessZero(m.Expires), Muted: m.Muted, Joined: m.Joined,
	}
	if !out.Self {
		out.Online = s.n.online(s.tx, m.Account)
	}
	return out
}

// roomName names a room as faces do.
func roomName(t engine.RoomTitle) string {
	if t.Name == "" {
		return "#" + short(t.ID.String())
	}
	return "#" + t.Name
}

// author returns who wrote a message in a room.
func (s names) author(id protocol.RoomID, m engine.Message) string {
	if m.Mine {
		return s.n.ownName()
	}
	a, err := s.n.eng.RoomAuthor(s.tx, s.n.now(), id, m.Device)
	if err != nil { // the log of before is gone
		return short(m.Device.String())
	}
	return s.inRoom(id, a)
}

// inRoom returns what somebody is called in a room: his unique name; else ~ and what he
// calls himself there, which nobody vouches for; else the beginning of his account's id.
func (s names) inRoom(id protocol.RoomID, a protocol.AccountID) string {
	if a == s.n.self.Account {
		return s.n.ownName()
	}
	key := roommate{id, a}
	if name, ok := s.mates[key]; ok {
		return name
	}
	name := short(a.String())
	if c, err := s.n.eng.Contact(s.tx, a); err == nil && c.Name != "" {
		name = c.Name
	} else if chosen, err := s.n.eng.RoomAuthorName(s.tx, id, a); err == nil && chosen != "" {
		name = "~" + chosen
	}
	s.mates[key] = name
	return name
}

// roommate is somebody in a room.
type roommate struct {
	room    protocol.RoomID
	account protocol.AccountID
}

// short is the beginning of an id, by which people can name it.
func short(id string) string { return id[:8] }

// roomByName finds a room by what a user typed: its name, its id or the beginning of
// that, with or without a #. An invitation takes nobody's room its name.
func (n *Node) roomByName(tx store.Tx, text string) (engine.Room, error) {
	return n.roomCalled(tx, text, engine.RoomJoined)
}

// roomCalled is roomByName where of rooms of one name those in a stage go first.
func (n *Node) roomCalled(tx store.Tx, text string, first engine.RoomStage) (engine.Room, error) {
	titles, err := n.eng.RoomTitles(tx)
	if err != nil {
		return engine.Room{}, err
	}
	name := strings.TrimPrefix(text, "#")
	for _, fits := range []func(engine.RoomTitle) bool{
		func(t engine.RoomTitle) bool { return t.ID.String() == name },
		func(t engine.RoomTitle) bool { return t.Name == name && t.Stage == first },
		func(t engine.RoomTitle) bool { return strings.EqualFold(t.Name, name) && t.Stage == first },
		func(t engine.RoomTitle) bool { return t.Name == name && t.Stage != engine.RoomOut },
		func(t engine.RoomTitle) bool { return strings.EqualFold(t.Name, name) && t.Stage != engine.RoomOut },
		func(t engine.RoomTitle) bool { return t.Name == name },
		func(t engine.RoomTitle) bool { return len(name) >= minPrefix && strings.HasPrefix(t.ID.String(), name) },
	} {
		var found []protocol.RoomID
		for _, t := range titles {
			if fits(t) {
				found = append(found, t.ID)
			}
		}
		switch {
		case len(found) == 1:
			return n.eng.Room(tx, n.now(), found[0])
		case len(found) > 1:
			return engine.Room{}, severalFit("rooms are called", name, found)
		}
	}
	return engine.Room{}, fmt.Errorf("%q: %w", name, engine.ErrNoRoom)
}

// minPrefix is how many characters of an id name it.
const minPrefix = 6

// severalFit refuses a name that several have, with what to choose from.
func severalFit[T fmt.Stringer](what, name string, ids []T) *api.Error {
	var list []string
	for _, id := range ids {
		list = append(list, short(id.String()))
	}
	return &api.Error{
		Code: api.ErrConflict, Text: fmt.Sprintf("%d %s %q: %s", len(ids), what, name, strings.Join(list, ", ")),
		Hint: "name one of them by its id",
	}
}

// isRoom tells that a face means a room and not a contact.
func isRoom(with string) bool { return strings.HasPrefix(with, "#") }

// conversation finds the conversation that a face names: of a contact, or of a room.
func (n *Node) conversation(tx store.Tx, with string) (protocol.AccountID, error) {
	if isRoom(with) {
		r, err := n.roomByName(tx, with)
		return engine.Conversation(r.ID), err
	}
	c, err := n.contactByName(tx, with)
	return c.Account, err
}
