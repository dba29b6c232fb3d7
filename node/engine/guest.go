package engine

import (
	"errors"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/store"
)

// A guest is an account made for the visit of one room, with a store of its own. It has
// no name, no contacts and no other device, and its chain never changes: who is in
// the room believes it because the room's log has it.

var (
	// ErrGuest is returned for what a guest cannot do: it is in one room, and knows
	// nobody outside of it.
	ErrGuest = errors.New("guests of a room cannot do this")
	// ErrNotGuest is returned for what only the store of a guest can do.
	ErrNotGuest = errors.New("this is not a guest's store")
	// ErrNoDoor is returned by Door where this device lets nobody in: the room takes no
	// guests, this account may not admit, or the password has not come here yet.
	ErrNoDoor = errors.New("this device cannot let guests into the room now")
)

// errNotYet: this is being built, and goes before the branch is merged.
var errNotYet = errors.New("not there yet")

// GuestStage is what a guest's program does next.
type GuestStage string

const (
	GuestKnocks GuestStage = "knocks" // it is not in: see Guest.Reason
	GuestIn     GuestStage = "in"     // let in: to be registered, if Identity.Registered does not say that it is, and run
	GuestOut    GuestStage = "out"    // removed or banned: with this key it does not come in again
)

func (s GuestStage) String() string { return string(s) }

// Guest is how the guest whose store this is stands.
type Guest struct {
	Room  protocol.RoomID
	Name  string // what the others see
	Stage GuestStage

	// Reason says why a guest that was in is not any more: TicketExpired, it knocks again
	// by itself; WrongPassword, another one is needed; Banned; OK, it left, or never was
	// in.
	Reason protocol.Code
	Number uint32 // of the password that is kept, see GuestSecret; 0: none
}

// GuestFounder is a guest's account that begins.
type GuestFounder struct {
	key.Redacted

	Newcomer *Newcomer
	Room     protocol.RoomID
	Name     string
	Home     Home
}

// NewGuest makes the account of a guest for one room. Name is what the others see: 1 to
// guest.MaxName bytes, ErrBadDeviceName for any other. Home is the room's rendezvous. It
// takes up to seconds (RSA), so call it outside of a transaction.
func NewGuest(now time.Time, in protocol.RoomID, name string, home Home) (*GuestFounder, error) {
	return nil, errNotYet
}

// InitGuest stores the identity of a guest in a new store; ErrExists if the store holds
// one. It is to be committed before the guest knocks: after a crash it knocks again
// with the same keys, and is the same guest. Load then works as for any account,
// Identity().Guest names the room, and Registered is for MarkRegistered after
// RegisterGuest.
func InitGuest(tx store.Tx, now time.Time, f *GuestFounder) error { return errNotYet }

// Guest returns how the guest stands; ErrNotGuest in the store of any other account.
func (e *Engine) Guest(tx store.Tx) (Guest, error) { return Guest{}, errNotYet }

// GuestSelf returns what guest.Knock needs; ErrNotGuest.
func (e *Engine) GuestSelf(tx store.Tx) (guest.Self, error) { return guest.Self{}, errNotYet }

// GuestSecret returns what was derived from the password that let the guest in, if it
// is the one with this number: then the user is not asked. Hidden, and the caller
// clears what it copies.
func (e *Engine) GuestSecret(tx store.Tx, number uint32) (secret key.Hidden[[32]byte], ok bool, err error) {
	return nil, false, errNotYet
}

// TakeWelcome notes that the guest was let in by a password with this number, and what
// was derived from it. The room is known from then on (RoomPlan follows it) and
// counts as joined when the log that the rendezvous shows goes through the welcome's
// entry; a log that does not is ErrRoomLog in TakeRoom. Taking one again changes
// nothing that the guest has of the room.
func (e *Engine) TakeWelcome(tx store.Tx, now time.Time, w guest.Welcome, number uint32, secret [32]byte) (Hint, error) {
	return Hint{}, errNotYet
}

// GuestRefused notes what the admitter, or the rendezvous, answered to the guest instead
// of letting it in: to a knock, to RegisterGuest, to its hello, to ReadRoom or PutRoom.
// It tells what to do about it.
func (e *Engine) GuestRefused(tx store.Tx, now time.Time, refusal *protocol.Error) (GuestDoes, Hint, error) {
	return "", Hint{}, errNotYet
}

// GuestDoes is what a guest's program does by itself about a refusal.
type GuestDoes string

const (
	GuestAsks       GuestDoes = "ask"   // the user for the password, then it knocks
	GuestKnocksAnew GuestDoes = "knock" // at once, with the password that is kept, or else it asks
	GuestWaits      GuestDoes = "wait"  // for RetryAfter, or backing off, and tries the same again
	GuestEnds       GuestDoes = "end"   // nothing helps; the text for the user says what may
)

func (d GuestDoes) String() string { return string(d) }

// DoAsGuest returns what a guest does about a refusal, and a plain sentence for the user.
func DoAsGuest(code protocol.Code) (GuestDoes, string) { return "", "" }
