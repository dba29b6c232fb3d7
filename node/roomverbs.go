package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// change is something that a user does in a room.
type change struct {
	n  *Node
	tx store.Tx
	r  engine.Room
	in api.RoomRequest
}

// ChangeRoom does what a verb of the API says in a room, and returns what the room is
// then. What the rendezvous has to order is durable here when ChangeRoom returns; while
// it is connected, its answer is waited for.
func (n *Node) ChangeRoom(ctx context.Context, name, verb string, in api.RoomRequest) (api.Room, error) {
	first := engine.RoomJoined
	if verb == api.RoomJoin {
		first = engine.RoomInvited
	}
	return n.inRoomCalled(ctx, name, first, func(tx store.Tx, r engine.Room) (engine.Hint, error) {
		return change{n, tx, r, in}.do(verb)
	})
}

// inRoom is changeRoom for a room by its name.
func (n *Node) inRoom(ctx context.Context, name string, fn func(store.Tx, engine.Room) (engine.Hint, error)) (api.Room, error) {
	return n.inRoomCalled(ctx, name, engine.RoomJoined, fn)
}

func (n *Node) inRoomCalled(ctx context.Context, name string, first engine.RoomStage, fn func(store.Tx, engine.Room) (engine.Hint, error)) (api.Room, error) {
	return n.changeRoom(ctx, func(tx store.Tx) (protocol.RoomID, engine.Hint, error) {
		r, err := n.roomCalled(tx, name, first)
		if err != nil {
			return r.ID, engine.Hint{}, err
		}
		h, err := fn(tx, r)
		return r.ID, h, err
	})
}

// changeRoom does something in a room, and returns what the room is then. It is an
// error if the rendezvous refused it.
func (n *Node) changeRoom(ctx context.Context, fn func(store.Tx) (protocol.RoomID, engine.Hint, error)) (api.Room, error) {
	n.home.busy()
	var id protocol.RoomID
	var before uint64 // number of the last event
	err := n.do(ctx, func(tx store.Tx) (h engine.Hint, err error) {
		if before, err = n.eng.LastEvent(tx); err != nil {
			return h, err
		}
		id, h, err = fn(tx)
		return h, err
	})
	if err != nil {
		return api.Room{}, answer(err)
	}
	n.rooms.settle(ctx, id)
	if err := n.roomRefusal(ctx, id, before); err != nil {
		return api.Room{}, err
	}
	return n.Room(ctx, id.String())
}

// roomRefusal finds out whether something was given up in a room since an event.
func (n *Node) roomRefusal(ctx context.Context, id protocol.RoomID, after uint64) (refused error) {
	err := n.kv.View(ctx, func(tx store.Tx) error {
		events, err := n.eng.Events(tx, after, eventPage)
		for _, e := range events {
			failed := e.Cause == engine.RoomNotDone || e.Cause == engine.RoomWasUninvited
			if failed && e.Kind == engine.KindRoom && e.With == engine.Conversation(id) {
				refused = &api.Error{Code: api.ErrRefused, Text: n.names(tx).roomEvent(id, e)}
			}
		}
		return err
	})
	return errors.Join(refused, answer(err))
}

func (c change) do(verb string) (engine.Hint, error) {
	e, now := c.n.eng, c.n.now()
	switch verb {
	case api.RoomJoin:
		return e.JoinRoom(c.tx, now, c.r.ID)
	case api.RoomLeave:
		return e.LeaveRoom(c.tx, now, c.r.ID)
	}
	if c.r.ToBe == nil {
		return engine.Hint{}, engine.ErrNotInRoom
	}
	switch verb {
	case api.RoomTopic:
		return e.DescribeRoom(c.tx, now, c.r.ID, room.About{Name: c.r.Name, Topic: c.in.Text})
	case api.RoomRename:
		return e.DescribeRoom(c.tx, now, c.r.ID, room.About{Name: c.in.Text, Topic: c.r.Topic})
	case api.RoomLock:
		return c.write(room.Lock{On: c.in.On})
	case api.RoomRotate:
		return c.write(room.Rotate{})
	case api.RoomRights:
		if c.in.Who == "" {
			return c.roleRights()
		}
	}
	return c.toSomebody(verb)
}

// toSomebody does what is done to one account.
func (c change) toSomebody(verb string) (engine.Hint, error) {
	if verb == api.RoomInvite {
		k, err := c.n.contactByName(c.tx, c.in.Who)
		if err != nil {
			return engine.Hint{}, err
		}
		return c.n.eng.InviteToRoom(c.tx, c.n.now(), c.r.ID, k.Account)
	}
	a, err := c.n.whoInRoom(c.tx, c.r, c.in.Who)
	if err != nil {
		return engine.Hint{}, err
	}
	switch verb {
	case api.RoomUninvite:
		return c.write(room.Uninvite{Account: a})
	case api.RoomBan:
		return c.write(room.Ban{Account: a})
	case api.RoomUnban:
		return c.write(room.Unban{Account: a})
	}
	m, in := c.r.ToBe.Member(a)
	if !in {
		return engine.Hint{}, fmt.Errorf("%q: %w", c.in.Who, room.ErrNotMember)
	}
	switch verb {
	case api.RoomKick:
		return c.write(room.Remove{Account: a})
	case api.RoomPromote:
		return c.setRole(m, m.Role+1)
	case api.RoomDemote:
		return c.setRole(m, m.Role-1)
	case api.RoomMute:
		return c.write(room.SetMemberRights{Account: a, HasOwn: m.HasOwn, Own: m.Own, Muted: true})
	case api.RoomUnmute:
		return c.write(room.SetMemberRights{Account: a, HasOwn: m.HasOwn, Own: m.Own})
	case api.RoomRights:
		return c.memberRights(m)
	}
	return engine.Hint{}, &api.Error{Code: api.ErrNotFound, Text: "nothing to do in a room is called " + strconv.Quote(verb)}
}

func (c change) write(op room.Op) (engine.Hint, error) {
	return c.n.eng.WriteRoom(c.tx, c.n.now(), c.r.ID, op)
}

func (c change) setRole(m room.Member, role room.Role) (engine.Hint, error) {
	if m.Role == room.RoleGuest || role < room.RoleMember || role > room.RoleOwner {
		return engine.Hint{}, &api.Error{Code: api.ErrConflict, Text: fmt.Sprintf("%s is %v, and cannot become anything else this way", c.n.names(c.tx).inRoom(c.r.ID, m.Account), m.Role)}
	}
	return c.write(room.SetRole{Account: m.Account, Role: role})
}

// memberRights gives rights to one member and takes some, besides those of the role.
func (c change) memberRights(m room.Member) (engine.Hint, error) {
	has := c.r.ToBe.RoleRights(m.Role)
	if m.HasOwn {
		has = m.Own
	}
	next, err := c.changed(m.Role, has)
	if err != nil {
		return engine.Hint{}, err
	}
	return c.write(room.SetMemberRights{Account: m.Account, HasOwn: true, Own: next, Muted: m.Muted})
}

func (c change) roleRights() (engine.Hint, error) {
	for _, role := range []room.Role{room.RoleGuest, room.RoleMember, room.RoleModerator} {
		if role.String() != c.in.Role {
			continue
		}
		next, err := c.changed(role, c.r.ToBe.RoleRights(role))
		if err != nil {
			return engine.Hint{}, err
		}
		return c.write(room.SetRoleRights{Role: role, Rights: next})
	}
	return engine.Hint{}, &api.Error{Code: api.ErrBadInput, Text: "say whose rights: of somebody in the room, or of a role (moderator, member, guest)"}
}

// changed adds and removes the rights of the request.
func (c change) changed(of room.Role, has room.Rights) (room.Rights, error) {
	add, err := parseRights(c.in.Add)
	if err != nil {
		return 0, err
	}
	remove, err := parseRights(c.in.Remove)
	if err != nil {
		return 0, err
	}
	if add|remove == 0 {
		return 0, &api.Error{Code: api.ErrBadInput, Text: "say which rights to add or remove"}
	}
	if of == room.RoleGuest && !room.Access.Has(add) {
		return 0, &api.Error{Code: api.ErrBadInput, Text: "guests can be given these rights only: " + strings.Join(rightNames(room.Access), ", ")}
	}
	return (has | add) &^ remove, nil
}

// rightNames are the rights by the names that the API has for them.
func rightNames(r room.Rights) []string {
	list := []string{}
	for bit := room.Rights(1); bit&room.AllRights != 0; bit <<= 1 {
		if r.Has(bit) {
			list = append(list, strings.ReplaceAll(bit.String(), " ", "_"))
		}
	}
	return list
}

func parseRights(names []string) (set room.Rights, err error) {
	all := rightNames(room.AllRights)
next:
	for _, name := range names {
		for i, known := range all {
			if name == known {
				set |= 1 << i
				continue next
			}
		}
		return 0, &api.Error{Code: api.ErrBadInput, Text: fmt.Sprintf("%q is no right; there are %s", name, strings.Join(all, ", "))}
	}
	return set, nil
}

// whoInRoom finds somebody by what a user typed: a unique name; what somebody in the
// room calls himself there, with or without ~; an account id, or the beginning of one in
// the room.
func (n *Node) whoInRoom(tx store.Tx, r engine.Room, text string) (a protocol.AccountID, err error) {
	if a.UnmarshalText([]byte(text)) == nil {
		return a, nil
	}
	if text == n.self.Name {
		return n.self.Account, nil
	}
	c, err := n.eng.ContactByName(tx, text)
	if err == nil || !errors.Is(err, engine.ErrNotFound) {
		return c.Account, err
	}
	names, chosen := n.names(tx), "~"+strings.TrimPrefix(text, "~")
	var found []protocol.AccountID
	for a := range inOrAround(r.ToBe) {
		begins := len(text) >= minPrefix && strings.HasPrefix(a.String(), text)
		if begins || names.inRoom(r.ID, a) == chosen {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		return a, &api.Error{Code: api.ErrNotFound, Text: fmt.Sprintf("nobody here is called %q", text), Hint: "parley room members " + short(r.ID.String())}
	case 1:
		return found[0], nil
	}
	return a, severalFit("in the room are called", text, found)
}

// inOrAround are those who are in a room, invited to it or banned from it.
func inOrAround(s *room.State) map[protocol.AccountID]bool {
	all := map[protocol.AccountID]bool{}
	for _, m := range s.Members() {
		all[m.Account] = true
	}
	for a := range s.Invites() {
		all[a] = true
	}
	for _, a := range s.Banned() {
		all[a] = true
	}
	return all
}
