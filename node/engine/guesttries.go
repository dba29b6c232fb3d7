package engine

import (
	"bytes"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// GuestAttempt is somebody who tried to come into a room as a guest at this device, or
// several from one place with one result.
type GuestAttempt struct {
	Place []byte // as the rendezvous names it, at most MaxPlace bytes; equal for one address
	Code  protocol.Code
	Count int
	First time.Time
	Last  time.Time
}

// How many attempts in one room are remembered, and tell the user, however many there
// are.
const (
	maxTries     = 32
	maxTryEvents = 6 // in tryEventsFor
	tryEventsFor = time.Hour
	tryTogether  = time.Hour // attempts from one place that end alike count as one for so long
)

// MaxPlace bounds how the rendezvous names where a guest is, in bytes.
const MaxPlace = 16

// triesRow is the attempts that are remembered of one room, the newest last.
type triesRow struct{ list []GuestAttempt }

func (r *triesRow) encode() []byte {
	e := newRow(64 * len(r.list))
	e.u8(uint8(len(r.list)))
	for _, a := range r.list {
		e.bytes(a.Place)
		e.u32(uint32(a.Code))
		e.u32(uint32(a.Count))
		e.time(a.First)
		e.time(a.Last)
	}
	return e.b
}

func (r *triesRow) decode(b []byte) error {
	d := readRow(b)
	for range d.count(1) {
		a := GuestAttempt{Place: bytes.Clone(d.bytes()), Code: protocol.Code(d.u32()), Count: int(d.u32())}
		a.First, a.Last = d.time(), d.time()
		r.list = append(r.list, a)
	}
	return d.end("guests' attempts")
}

// note adds an attempt, and tells whether the user should hear of it.
func (r *triesRow) note(now time.Time, place []byte, code protocol.Code) (tell bool) {
	lately := 0
	for i := range r.list {
		a := &r.list[i]
		since := now.Sub(a.First)
		if bytes.Equal(a.Place, place) && a.Code == code && since >= 0 && since < tryTogether {
			a.Count++
			a.Last = now
			return false
		}
		if a.Code != protocol.OK && since < tryEventsFor {
			lately++
		}
	}
	if len(r.list) == maxTries {
		r.list = r.list[1:]
	}
	r.list = append(r.list, GuestAttempt{Place: bytes.Clone(place), Code: code, Count: 1, First: now, Last: now})
	return code != protocol.OK && lately < maxTryEvents
}

// NoteGuestAttempt notes how an attempt at this device ended: OK, WrongPassword,
// RateLimited, or why the log did not take the guest. Of those that failed an event tells
// (RoomGuestNotLetIn), but not of every one of many.
func (e *Engine) NoteGuestAttempt(tx store.Tx, now time.Time, id protocol.RoomID, place []byte, code protocol.Code) (Hint, error) {
	return e.withRoom(tx, now, id, func(w *work, r *openRoom) error {
		tries, _, err := load[triesRow](tx, keyRoomTries(id))
		if err != nil {
			return err
		}
		if tries.note(w.now, place, code) {
			if err := w.roomEvent(r, RoomGuestNotLetIn, code.String()); err != nil {
				return err
			}
		}
		return w.put(keyRoomTries(id), &tries)
	})
}

// GuestAttempts returns the attempts at this device that are remembered, the newest last.
func (e *Engine) GuestAttempts(tx store.Tx, id protocol.RoomID) ([]GuestAttempt, error) {
	tries, _, err := load[triesRow](tx, keyRoomTries(id))
	return tries.list, err
}
