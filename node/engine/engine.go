// Package engine is one device's logic: what to store and what to send when a
// person writes, an envelope comes, a directory answer comes, or time passes.
//
// Every method works inside a store transaction it is handed and takes the
// time as an argument. What must be sent is a row before it is an envelope on
// a wire, so nothing leaves before it is stored, and everything may be tried
// again. After an error of a method the caller drops the transaction; a
// refusal of bad input comes before anything was written.
//
// The package must not do I/O, start a goroutine or read a clock. It imports
// the store's contract, never a backend, and trusts the rendezvous for nothing
// that a signature can prove.
package engine

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/store"
)

var (
	ErrExists     = errors.New("the store already holds an identity")
	ErrNoIdentity = errors.New("the store holds no identity")
	ErrRegistered = errors.New("already registered")
	ErrNotFound   = errors.New("not found")
	ErrNewer      = errors.New("the store was made by a newer version of parley: update")
	ErrOlder      = errors.New("the store was made by a version of parley that was never released, and cannot be read")
	ErrRevoked    = errors.New("this device was revoked: its keys are destroyed, its history stays")

	ErrNoAccountKey   = errors.New("the key of your account was replaced on another device, and has not come to this one yet")
	ErrSwapping       = errors.New("this device is being replaced by a new one")
	ErrTooManyDevices = fmt.Errorf("the account has %d devices already", protocol.MaxDevices)
	ErrThisDevice     = errors.New("that is this device")
	ErrBadMembership  = errors.New("the membership does not fit this device")
	ErrBadRequest     = errors.New("not a device request")
	ErrBadDeviceName  = fmt.Errorf("names of devices are at most %d bytes, without control characters", protocol.MaxDisplay)

	ErrNotContact     = errors.New("not a contact")
	ErrNotAccepted    = errors.New("the contact has not accepted yet")
	ErrBlocked        = errors.New("the contact is blocked")
	ErrRecovered      = errors.New("the contact's account was recovered: verify them again, or accept the change")
	ErrNoAlarm        = errors.New("there is no alarm of the directory's log")
	ErrNoComparison   = errors.New("there are no emoji to compare with this contact now")
	ErrSelf           = errors.New("that is this account")
	ErrTooMany        = errors.New("too many contacts")
	ErrTooLong        = errors.New("text too long")
	ErrBadText        = errors.New("text is not UTF-8")
	ErrBadName        = errors.New("names are 3 to 32 characters of a-z, 0-9 and _")
	ErrConflict       = errors.New("the message id was used for something else")
	ErrQueueFull      = errors.New("too many messages are waiting for this contact")
	ErrNoDevice       = errors.New("the contact has no device now: nobody would read it")
	ErrStaleDirectory = errors.New("the contact's keys were not confirmed for too long")

	// Errors of directory answers. Each is an alarm: the rendezvous, or
	// somebody in its place, does not tell the truth.
	ErrNameSwapped = errors.New("the directory binds a known name or account to another")
	ErrChainFork   = errors.New("the directory shows another history of a known account")
	ErrBadAnswer   = errors.New("the directory's answer does not verify")
	ErrUnproven    = errors.New("the directory does not prove that its log says what it answers")
	ErrLogChanged  = errors.New("the directory shows another log than before")
	ErrWithheld    = errors.New("the directory holds back what its log says is newer")
	ErrLogStale    = errors.New("the directory's log is not of this hour")

	// ErrLogMoved: the answer is from before the last one that was taken in. Ask
	// again.
	ErrLogMoved = errors.New("the directory's log went on meanwhile")
)

// Limits of what is kept for others.
const (
	maxQueued   = 10_000 // messages of one contact that are not yet durable elsewhere
	maxIncoming = 200    // unanswered contact requests
	maxVisitors = 500    // accounts kept for a day because an envelope named them
	maxEvents   = 100_000
)

// Freshness of a contact's directory record.
const (
	refreshAfter = 24 * time.Hour
	staleAfter   = 30 * 24 * time.Hour
)

// Engine is the logic of one device. It keeps the identity and rate limits in
// memory, everything else in the store. Methods may be called from several
// goroutines, each in its own transaction.
type Engine struct {
	id     *Identity
	limits limits
	rsas   rsaCache
	folded roomStates
	aheads aheads
	held   atomic.Pointer[directory.Head] // the stored head of the log that was last read, its signature checked

	autoAccept atomic.Pointer[autoAccept] // nil: no file is fetched unless the user wants it

	// stopped: the device is to be replaced, or is revoked. Nothing is sealed
	// with its sessions any more, and nothing is handed out to be sent.
	stopped atomic.Bool
	// ended: it is revoked. Its keys are gone.
	ended atomic.Bool
	// moved: a session was stored since the last hello was made.
	moved atomic.Bool
	// swapping: Reborn has begun; until it has ended the rows do not fit together.
	swapping atomic.Bool
}

// Load reads the identity: ErrNoIdentity if there is none, ErrRevoked for a
// device that was revoked, ErrNewer or ErrOlder for a store of another format.
func Load(tx store.Tx) (*Engine, error) {
	id, err := loadIdentity(tx)
	if err != nil {
		return nil, err
	}
	if id.Revoked {
		return nil, ErrRevoked
	}
	e := newEngine(id)
	pending, err := get(tx, keyReborn())
	if err != nil {
		return nil, err
	}
	begun, err := get(tx, keySwap())
	if err != nil {
		return nil, err
	}
	start, _, err := load[startRow](tx, store.Key(tableStarts))
	e.stopped.Store(pending != nil || start.refused)
	e.swapping.Store(begun != nil)
	return e, err
}

func newEngine(id *Identity) *Engine { return &Engine{id: id, limits: newLimits()} }

// Swapping tells that Reborn has begun and not ended: call it until it has, then
// Load again.
func (e *Engine) Swapping() bool { return e.swapping.Load() }

// Identity returns the identity as it was when it was loaded. It must not be
// changed.
func (e *Engine) Identity() *Identity { return e.id }

// NeedAccount is the error of Open when the sender's directory record is
// needed first: look it up, call SetAccount, and open again.
type NeedAccount struct{ Account protocol.AccountID }

func (n *NeedAccount) Error() string { return "directory record needed of " + n.Account.String() }
