package engine

import (
	"bytes"
	"errors"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/store"
)

// Members who admit see to it that guests stay, without the guests. Each looks at its
// rooms from time to time; when a guest is due it asks the rendezvous when that was
// last online, and writes what follows from it. They take turns: who is first in an order
// that is another one each time does it, and the others find it done.

const (
	guestsEvery = 30 * time.Minute // how often a device looks; how long it leaves to each that comes before it
	maxTurns    = 10               // that one device waits
)

// watchGuests notes whether the guests of a room are this device's business.
func (w *work) watchGuests(r *openRoom) {
	r.row.guests = false
	if !r.state.Rights(w.e.id.Account).Has(room.Admit) {
		return
	}
	for _, m := range r.state.Members() {
		r.row.guests = r.row.guests || m.Role == room.RoleGuest
	}
}

// sweepGuests asks for what is needed to judge the guests that are due.
func (w *work) sweepGuests(from []byte) error {
	if len(from) == 0 {
		if err := w.at(w.now.Add(guestsEvery), timerGuests, nil); err != nil {
			return err
		}
	}
	rows := 0
	for pair, err := range w.tx.Scan(store.Key(tableRoom, from), store.PrefixEnd([]byte{tableRoom})) {
		if err != nil {
			return err
		}
		row, err := decodeRow[roomRow](pair.Value)
		if err != nil {
			return err
		}
		if !row.guests {
			continue
		}
		if w.full(rows) {
			return w.at(w.now, timerGuests, pair.Key[1:])
		}
		rows++
		r, err := w.room(protocol.RoomID(pair.Key[1:]))
		if err != nil {
			return err
		}
		if w.anyGuestDue(r) {
			r.row.askGuests = true
			w.hintRoom(r.id)
		}
	}
	return nil
}

func (w *work) anyGuestDue(r *openRoom) bool {
	for _, m := range r.state.Members() {
		if w.guestDue(r, m) {
			return true
		}
	}
	return false
}

// guestDue tells whether it is this device's turn to see to a guest.
func (w *work) guestDue(r *openRoom, m room.Member) bool {
	if guest.Due(m, w.now, w.now) == guest.Leave { // whenever it was seen
		return false
	}
	at := w.now.Add(-w.turn(r, m))
	return guest.Due(m, at, at) != guest.Leave
}

// turn is how long this device leaves a guest to the devices that admit and come before it.
func (w *work) turn(r *openRoom, m room.Member) time.Duration {
	before := 0
	place := func(d protocol.DeviceID) []byte {
		h := key.Hash("guest turn", m.Account[:], key.AppendTime(nil, m.Expires), d[:])
		return h[:]
	}
	own := place(w.e.id.Device)
	for _, other := range r.state.Members() {
		if !r.state.Rights(other.Account).Has(room.Admit) {
			continue
		}
		for _, d := range other.Devices() {
			if bytes.Compare(place(d.ID), own) < 0 {
				before++
			}
		}
	}
	return time.Duration(min(before, maxTurns)) * guestsEvery
}

// GuestSeen is when a guest was last online, as the rendezvous says.
type GuestSeen struct {
	Account protocol.AccountID
	Ago     time.Duration // 0: it is online
}

// SeenGuests takes what the rendezvous answered to the call that RoomPlan.Guests asks
// for, and writes what is due: guests stay longer, or are expired. What does not fit
// into one transaction, RoomPlan asks for again.
func (e *Engine) SeenGuests(tx store.Tx, now time.Time, id protocol.RoomID, list []GuestSeen) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		r.row.askGuests = false
		for _, seen := range list {
			m, in := r.state.Member(seen.Account)
			if !in || !r.row.guests || !w.guestDue(r, m) {
				continue
			}
			err := w.careFor(r, m, w.now.Add(-max(0, seen.Ago)))
			if errors.Is(err, ErrQueueFull) {
				r.row.askGuests = true
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// careFor writes what is due about a guest that was last online at the time seen.
func (w *work) careFor(r *openRoom, m room.Member, seen time.Time) error {
	var op room.Op
	switch guest.Due(m, seen, w.now) {
	case guest.Leave:
		return nil
	case guest.Renew:
		// To the full hour, so that of two who do it at a time the second has nothing to do.
		op = room.GuestRenew{Account: m.Account, Expires: w.now.Add(room.MaxGuestStay).Truncate(time.Hour)}
	case guest.Expire:
		if w.now.Before(m.Expires.Add(guest.Skew + w.turn(r, m))) {
			return nil
		}
		op = room.GuestExpire{Account: m.Account}
	}
	err := w.write(r, op)
	for _, settled := range []error{room.ErrNoEffect, room.ErrNotMember, room.ErrForbidden} {
		if errors.Is(err, settled) { // by an entry that waits
			return nil
		}
	}
	return err
}
