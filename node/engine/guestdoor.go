package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/store"
)

// RoomPassword is a change of how guests come into a room.
type RoomPassword struct {
	Number   uint32               // from NextRoomPassword; guest.Derive needs it
	Secret   key.Hidden[[32]byte] // from guest.Derive; nil: no guests come in any more
	AskAgain bool                 // guests who are in are out until they know the new one; else they stay
}

// NextRoomPassword returns the number of the next password of a room.
func (e *Engine) NextRoomPassword(tx store.Tx, now time.Time, id protocol.RoomID) (uint32, error) {
	return 0, errNotYet
}

// SetRoomPassword changes how guests come into a room. Refusals: those of WriteRoom;
// room.ErrStalePassword if somebody else changed it since NextRoomPassword.
func (e *Engine) SetRoomPassword(tx store.Tx, now time.Time, id protocol.RoomID, p RoomPassword) (Hint, error) {
	return Hint{}, errNotYet
}

// Door returns what guest.Answer needs to let a guest into a room; ErrNoDoor, ErrNoRoom.
// It is to be read again for each guest.
func (e *Engine) Door(tx store.Tx, now time.Time, id protocol.RoomID) (guest.Door, error) {
	return guest.Door{}, errNotYet
}

// GuestLimits counts wrong passwords in a room, for guest.Admitter.Answered. It is the
// same for one room until the process ends.
func (e *Engine) GuestLimits(id protocol.RoomID) *guest.Limits { return nil }

// AdmitGuest lets in a guest who has shown to know the password: its entry waits to be
// appended, or it is in already. Call GuestAdmitted then, and after each Hint.Rooms of
// this room. The error is a *protocol.Error for guest.Admitter.Refuse, or a fault of the
// store.
func (e *Engine) AdmitGuest(tx store.Tx, now time.Time, id protocol.RoomID, r guest.Request) (Hint, error) {
	return Hint{}, errNotYet
}

// GuestAdmitted returns what guest.Admitter.Admit needs, when the log has the entry;
// until then waits. The error is as of AdmitGuest: others were first, and the guest does
// not come in.
func (e *Engine) GuestAdmitted(tx store.Tx, now time.Time, id protocol.RoomID, r guest.Request) (w guest.Welcome, waits bool, err error) {
	return w, false, errNotYet
}

// GuestAttempt is somebody who tried to come into a room as a guest at this device, or
// several from one place with one result.
type GuestAttempt struct {
	Place []byte // as the rendezvous names it, at most 16 bytes; equal for one address
	Code  protocol.Code
	Count int
	First time.Time
	Last  time.Time
}

// NoteGuestAttempt notes how an attempt at this device ended: OK, WrongPassword,
// RateLimited, or why the log did not take the guest. Moderators see it as an event, but
// not every one of many.
func (e *Engine) NoteGuestAttempt(tx store.Tx, now time.Time, id protocol.RoomID, place []byte, code protocol.Code) (Hint, error) {
	return Hint{}, errNotYet
}

// GuestAttempts returns the attempts at this device that are remembered, the newest last.
func (e *Engine) GuestAttempts(tx store.Tx, id protocol.RoomID) ([]GuestAttempt, error) {
	return nil, errNotYet
}

// GuestSeen is when a guest was last online, as the rendezvous says.
type GuestSeen struct {
	Account protocol.AccountID
	Ago     time.Duration // 0: it is online
}

// SeenGuests takes what the rendezvous answered to the call that RoomPlan.Guests asks
// for, and writes what is due: guests stay longer, or are expired.
func (e *Engine) SeenGuests(tx store.Tx, now time.Time, id protocol.RoomID, list []GuestSeen) (Hint, error) {
	return Hint{}, errNotYet
}

// RoomAuthorName returns what an account is, or was last, called in a room: also of who
// is out. Empty if it chose no name, or its key is not here.
func (e *Engine) RoomAuthorName(tx store.Tx, id protocol.RoomID, a protocol.AccountID) (string, error) {
	return "", errNotYet
}
