package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// RoomPassword is a change of how guests come into a room.
type RoomPassword struct {
	Number   uint32               // from NextRoomPassword; guest.Derive needs it
	Secret   key.Hidden[[32]byte] // from guest.Derive; nil: no guests come in any more
	AskAgain bool                 // guests who are in are out until they know the new one; else they stay
}

// NextRoomPassword returns the number of the next password of a room: that of the last
// one, with those that wait to be set, and one.
func (e *Engine) NextRoomPassword(tx store.Tx, now time.Time, id protocol.RoomID) (number uint32, err error) {
	_, err = e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		list, err := w.entriesToAppend(r)
		if err != nil {
			return err
		}
		number = r.state.Password().Number + 1
		for _, entry := range list {
			if op, is := entry.Op.(room.SetPassword); is {
				number = op.Number + 1
			}
		}
		return nil
	})
	return number, err
}

// SetRoomPassword changes how guests come into a room. Refusals: those of WriteRoom;
// room.ErrStalePassword if somebody else changed it since NextRoomPassword.
func (e *Engine) SetRoomPassword(tx store.Tx, now time.Time, id protocol.RoomID, p RoomPassword) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		op := room.SetPassword{Number: p.Number, Open: p.Secret != nil, AskAgain: p.AskAgain}
		if op.Open {
			k := room.NewStateKey() // who may not admit any more has the last one
			sealed, err := k.SealPassword(id, *p.Secret())
			if err != nil {
				return err
			}
			op.Secret = sealed
			if err := w.put(keyRoomKey(id, k.ID()), &roomKeyRow{key: k.Bytes()}); err != nil {
				return err
			}
		}
		return w.write(r, op)
	})
}

// givePassword gives the key of the password to those who may admit, or to one of them.
// Whom one transaction cannot reach gets it with the next chain.
func (w *work) givePassword(r *openRoom, only *protocol.AccountID) error {
	secret := r.state.Password().Secret.Key
	if _, ok, err := w.stateKey(r.id, secret); err != nil || !ok {
		return err
	}
	rows := 0
	for _, m := range r.state.Members() {
		if !r.state.Rights(m.Account).Has(room.Admit) || only != nil && m.Account != *only {
			continue
		}
		for _, to := range m.Devices() {
			if w.full(rows) {
				return nil
			}
			rows++
			if err := w.givePasswordTo(r, secret, to); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *work) givePasswordTo(r *openRoom, secret room.KeyID, to room.Device) error {
	if to.ID == w.e.id.Device {
		return nil
	}
	d, err := w.mateDevice(r, to)
	if err != nil || d == nil {
		return err
	}
	return w.postKeys(to.ID, d, &wire.RoomKeys{Room: r.id[:], PasswordKey: secret[:]})
}

// Door returns what guest.Answer needs to let a guest into a room; ErrNoDoor, ErrNoRoom.
// It is to be read again for each guest.
func (e *Engine) Door(tx store.Tx, now time.Time, id protocol.RoomID) (guest.Door, error) {
	w, r, err := e.beginRoom(tx, now, id)
	if err != nil {
		return guest.Door{}, err
	}
	if r.state == nil || r.row.fork == forkStands || e.stopped.Load() || !r.state.Rights(e.id.Account).Has(room.Admit) || !r.state.Password().Open {
		return guest.Door{}, ErrNoDoor
	}
	sealed := r.state.Password().Secret
	k, ok, err := w.stateKey(id, sealed.Key)
	if err != nil {
		return guest.Door{}, err
	}
	if !ok {
		return guest.Door{}, ErrNoDoor
	}
	derived, err := k.OpenPassword(id, sealed)
	if err != nil { // whoever sealed it did it wrong
		return guest.Door{}, fmt.Errorf("%w: %w", ErrNoDoor, err)
	}
	self, err := e.self(tx)
	if err != nil {
		return guest.Door{}, err
	}
	return guest.Door{State: r.state, Cert: self.Cert, Secret: key.Hide(&derived)}, nil
}

// AdmitGuest lets in a guest who has shown to know the password: its entry waits to be
// appended, or it is in already. Call GuestAdmitted then, and after each Hint.Rooms of
// this room. The error is a *protocol.Error for guest.Admitter.Refuse, or a fault of the
// store.
func (e *Engine) AdmitGuest(tx store.Tx, now time.Time, id protocol.RoomID, g guest.Request) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		r, err := w.atDoor(id)
		if err != nil {
			return err
		}
		in, waits, err := w.admitted(r, g)
		if err != nil || in || waits {
			return err
		}
		op, err := w.guestJoin(r, g)
		if err != nil {
			return err
		}
		if err := w.write(r, op); err != nil {
			return notAdmitted(err)
		}
		return nil
	})
}

// GuestAdmitted returns what guest.Admitter.Admit needs, when the log has the entry;
// until then waits. The error is as of AdmitGuest: others were first, and the guest does
// not come in.
func (e *Engine) GuestAdmitted(tx store.Tx, now time.Time, id protocol.RoomID, g guest.Request) (welcome guest.Welcome, waits bool, err error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return welcome, false, err
	}
	r, err := w.atDoor(id)
	if err != nil {
		return welcome, false, err
	}
	in, waits, err := w.admitted(r, g)
	if err != nil || waits {
		return welcome, waits, err
	}
	if !in {
		_, _, err := r.state.Write(w.now, w.author(), g.Join(w.now, room.Sealed{}))
		return welcome, false, notAdmitted(err)
	}
	welcome, err = w.welcomeOf(r, g.Chain.Account())
	return welcome, false, err
}

// atDoor returns a room that a guest wants to come into.
func (w *work) atDoor(id protocol.RoomID) (*openRoom, error) {
	r, err := w.room(id)
	if err == ErrNoRoom || err == nil && r.state == nil {
		return nil, guest.Refusal(room.ErrForbidden)
	}
	return r, err
}

// notAdmitted is what a guest is told whose entry cannot be written; or a fault of the
// store.
func notAdmitted(err error) error {
	if errors.Is(err, store.ErrDamaged) {
		return err
	}
	return guest.Refusal(err)
}

// admitted tells whether the log has a guest, or an entry waits that lets it in.
func (w *work) admitted(r *openRoom, g guest.Request) (in, waits bool, err error) {
	chain := g.Chain.Bytes()
	if m, ok := r.state.Member(g.Chain.Account()); ok {
		if m.Role != room.RoleGuest || !slices.Equal(m.Chain.Bytes(), chain) {
			return false, false, protocol.Refuse(protocol.BadRequest, "a member, or another device")
		}
		return true, false, nil
	}
	if r.state.PeerTaken(g.Chain.Account(), g.Device.PeerID) {
		return false, false, protocol.Refuse(protocol.BadRequest, "the peer id of somebody in the room")
	}
	list, err := w.entriesToAppend(r)
	waits = slices.ContainsFunc(list, func(entry room.Entry) bool {
		op, is := entry.Op.(room.GuestJoin)
		return is && slices.Equal(op.Chain, chain)
	})
	return false, waits, err
}

func (w *work) guestJoin(r *openRoom, g guest.Request) (room.GuestJoin, error) {
	k, err := w.sealingKey(r)
	if err != nil {
		return room.GuestJoin{}, err
	}
	name, err := k.SealName(r.id, g.Name)
	return g.Join(w.now, name), err
}

// welcomeOf is what a guest who is in gets: its entry, and the keys of all texts.
func (w *work) welcomeOf(r *openRoom, a protocol.AccountID) (welcome guest.Welcome, err error) {
	m, _ := r.state.Member(a)
	b, err := w.tx.Get(keyRoomItem(tableRoomLog, r.id, m.Joined))
	if err != nil {
		return welcome, fmt.Errorf("entry of a guest: %w", err)
	}
	if welcome.Entry, err = room.ParseEntry(b); err != nil {
		return welcome, fmt.Errorf("entry of a guest: %w", store.ErrDamaged)
	}
	for _, name := range r.state.Keys() {
		k, ok, err := w.stateKey(r.id, name)
		if err != nil {
			return welcome, err
		}
		if ok {
			welcome.Keys = append(welcome.Keys, k)
		}
	}
	return welcome, nil
}
