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
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/store"
)

var (
	ErrExists     = errors.New("the store already holds an identity")
	ErrNoIdentity = errors.New("the store holds no identity")
	ErrRegistered = errors.New("already registered")
	ErrNotFound   = errors.New("not found")

	ErrNotContact     = errors.New("not a contact")
	ErrNotAccepted    = errors.New("the contact has not accepted yet")
	ErrBlocked        = errors.New("the contact is blocked")
	ErrSelf           = errors.New("that is this account")
	ErrTooMany        = errors.New("too many contacts")
	ErrTooLong        = errors.New("text too long")
	ErrBadText        = errors.New("text is not UTF-8")
	ErrBadName        = errors.New("names are 3 to 32 characters of a-z, 0-9 and _")
	ErrConflict       = errors.New("the message id was used for something else")
	ErrQueueFull      = errors.New("too many messages are waiting for this contact")
	ErrNoDevice       = errors.New("the contact has no valid device")
	ErrStaleDirectory = errors.New("the contact's keys were not confirmed for too long")

	// Errors of directory answers. Each is an alarm: the rendezvous, or
	// somebody in its place, does not tell the truth.
	ErrNameSwapped = errors.New("the directory binds a known name or account to another")
	ErrChainFork   = errors.New("the directory shows another history of a known account")
	ErrBadAnswer   = errors.New("the directory's answer does not verify")
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
	self   envelope.Identity
	limits limits
	rsas   rsaCache
}

// Load reads the identity; ErrNoIdentity if there is none. It parses keys, for
// about a millisecond, so call it once.
func Load(tx store.Tx) (*Engine, error) {
	id, err := loadIdentity(tx)
	if err != nil {
		return nil, err
	}
	return &Engine{
		id:     id,
		self:   envelope.Identity{Cert: id.Cert, Identity: id.DIK},
		limits: newLimits(),
	}, nil
}

// Identity returns the identity as it was when it was loaded. It must not be
// changed.
func (e *Engine) Identity() *Identity { return e.id }

// NeedAccount is the error of Open when the sender's directory record is
// needed first: look it up, call SetAccount, and open again.
type NeedAccount struct{ Account protocol.AccountID }

func (n *NeedAccount) Error() string { return "directory record needed of " + n.Account.String() }
