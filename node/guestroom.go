package node

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/store"
)

// RoomGuests returns how guests come into a room.
func (n *Node) RoomGuests(ctx context.Context, name string) (g api.RoomGuests, err error) {
	g.Guests, g.Attempts = []api.RoomMember{}, []api.GuestAttempt{}
	err = n.kv.View(ctx, func(tx store.Tx) error {
		r, err := n.roomByName(tx, name)
		if err != nil {
			return err
		}
		if r.State == nil {
			return engine.ErrNotInRoom
		}
		password := r.State.Password()
		g.Room, g.Open, g.Number = r.ID.String(), password.Open, password.Number
		if g.Open {
			l, err := n.eng.GuestLink(tx, n.now(), r.ID)
			if err != nil {
				return err
			}
			g.Link = l.String()
		}
		_, err = n.eng.Door(tx, n.now(), r.ID)
		if g.Door = err == nil; err != nil && !errors.Is(err, engine.ErrNoDoor) {
			return err
		}
		n.addGuests(tx, &g, r)
		return n.addAttempts(tx, &g, r.ID)
	})
	return g, answer(err)
}

func (n *Node) addGuests(tx store.Tx, g *api.RoomGuests, r engine.Room) {
	names := n.names(tx)
	for _, m := range r.State.Members() {
		if m.Role == room.RoleGuest {
			g.Guests = append(g.Guests, names.member(r, m))
		}
	}
}

func (n *Node) addAttempts(tx store.Tx, g *api.RoomGuests, id protocol.RoomID) error {
	list, err := n.eng.GuestAttempts(tx, id)
	for _, a := range list {
		g.Attempts = append(g.Attempts, api.GuestAttempt{
			Cause: a.Code.String(), Place: hex.EncodeToString(a.Place), Count: a.Count, First: a.First, Last: a.Last,
		})
	}
	return err
}

// SetRoomGuests changes the password by which guests come into a room, or lets no more
// in. It takes about a second: what is kept of a password costs whoever guesses it.
func (n *Node) SetRoomGuests(ctx context.Context, name string, in api.GuestsRequest) (g api.RoomGuests, err error) {
	n.home.busy()
	var id protocol.RoomID
	next := engine.RoomPassword{AskAgain: in.AskAgain}
	err = n.kv.View(ctx, func(tx store.Tx) error {
		r, err := n.roomByName(tx, name)
		if err != nil {
			return err
		}
		id = r.ID
		next.Number, err = n.eng.NextRoomPassword(tx, n.now(), id)
		return err
	})
	if err != nil {
		return g, answer(err)
	}
	if in.Password != "" {
		derived, err := guest.Derive(in.Password, id, next.Number)
		if err != nil {
			return g, answer(err)
		}
		defer clear(derived[:])
		next.Secret = key.Hide(&derived)
	}
	err = n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.SetRoomPassword(tx, n.now(), id, next) })
	if err != nil {
		return g, answer(err)
	}
	n.rooms.settle(ctx, id)
	return n.RoomGuests(ctx, id.String())
}

// isGuest tells that this device is that of a guest of a room.
func (n *Node) isGuest() bool { return n.self.Guest != protocol.RoomID{} }

// ownName is what this account is called: its unique name, or what a guest chose.
func (n *Node) ownName() string { return cmp.Or(n.self.Name, n.self.Display) }

// Guest returns how the guest whose node this is stands.
func (n *Node) Guest(ctx context.Context) (g api.Guest, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		is, err := n.eng.Guest(tx)
		if err != nil {
			return err
		}
		g = api.Guest{Room: is.Room.String(), Name: is.Name, Stage: is.Stage.String()}
		switch {
		case is.Stage == engine.GuestKnocks && is.Reason == protocol.OK:
			g.Stage = api.GuestLeft
		case is.Stage != engine.GuestIn:
			_, g.Text = engine.DoAsGuest(is.Reason)
		}
		return nil
	})
	return g, answer(err)
}
