// Package store says what Parley needs from a database: KV, an ordered
// transactional map, which a node keeps its state in; and the interfaces of
// rendezvous.go, what a rendezvous must remember, each with the rule it keeps.
//
// Backends live below it: memory (tests), badger (one process, durable) for
// KV, and embedded for the rendezvous over any KV. storetest holds the one
// contract suite that every backend must pass.
//
// Nothing here knows what an envelope or a session is. Files do not belong in
// a KV: a value is at most MaxValue bytes.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// Limits of every KV. A key is never empty.
const (
	MaxKey   = 1024      // bytes
	MaxValue = 1<<20 - 1 // bytes
	MaxTx    = 2 << 20   // all writes of one transaction, summed by Cost
)

var (
	ErrNotFound = errors.New("not found")
	ErrReadOnly = errors.New("write in a read-only transaction")
	ErrLocked   = errors.New("another process holds the store")
	ErrFull     = errors.New("disk nearly full") // nothing was written
	ErrDamaged  = errors.New("store is damaged")
	ErrClosed   = errors.New("store is closed")
	ErrFailed   = errors.New("a commit failed; no writes until the store is opened again")
	ErrTooBig   = errors.New("too big") // a key, a value, or all writes of one transaction
)

// KV is an ordered map of bytes with serialisable transactions. All methods
// may be called from several goroutines, but a function handed to View or
// Update must not call them: it uses the store through its Tx only.
type KV interface {
	// View runs fn on a snapshot that sees every Update that returned before.
	// Views run side by side; to start, one waits for a commit that is under
	// way, at most.
	View(ctx context.Context, fn func(Tx) error) error

	// Update runs fn and commits its writes. It returns nil only when they are
	// durable. An error, panic or runtime.Goexit of fn undoes them, and only
	// this caller sees it.
	//
	// Updates run strictly one after the other, so fn must be quick. It may be
	// run more than once (only the last run counts), so it has no effects
	// outside tx.
	//
	// ctx counts until fn starts: when Update returns ctx's error, nothing was
	// written and fn will not run any more. Once fn runs, Update waits for the
	// outcome.
	Update(ctx context.Context, fn func(Tx) error) error

	// Close waits for running Views and Updates, then releases the store.
	// Calls made later get ErrClosed.
	Close() error
}

// Tx is a transaction. It is valid only inside the function it was handed to
// and only in that function's goroutine.
type Tx interface {
	// Get returns the value of key, or ErrNotFound. The slice belongs to the
	// caller.
	Get(key []byte) ([]byte, error)

	// Scan yields the pairs with start <= key < end, ascending; a nil end means
	// no upper bound. It sees the writes this transaction made before the loop
	// began; the loop may write. The slices belong to the caller. After an
	// error the sequence ends.
	Scan(start, end []byte) iter.Seq2[Pair, error]

	// ScanDown yields the same pairs, descending: the newest first, where keys
	// end in a counter.
	ScanDown(start, end []byte) iter.Seq2[Pair, error]

	// Set and Delete change one pair. Deleting what is not there is no error.
	// Both copy what they keep. In a View they return ErrReadOnly.
	Set(key, value []byte) error
	Delete(key []byte) error
}

// Pair is one row.
type Pair struct{ Key, Value []byte }

// Cost is what one write counts against MaxTx: its bytes and what a backend
// spends around them.
func Cost(key, value []byte) int { return len(key) + len(value) + 96 }

// CheckPair tells whether a pair may be stored. Every backend calls it first
// in Set and Delete, so that all refuse the same.
func CheckPair(key, value []byte) error {
	if len(key) == 0 || len(key) > MaxKey {
		return fmt.Errorf("%w: key of %d bytes, want 1 to %d", ErrTooBig, len(key), MaxKey)
	}
	if len(value) > MaxValue {
		return fmt.Errorf("%w: value of %d bytes, want at most %d", ErrTooBig, len(value), MaxValue)
	}
	return nil
}
