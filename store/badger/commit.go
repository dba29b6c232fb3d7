package badger

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/parley-chat/parley/store"
)

// Group commit. Updates queue for the committer goroutine, which lets them run
// one after the other over one batch of writes, commits the batch with one
// sync, and answers them all. There is no timer: the next batch is whatever
// queued while the last one was committed.
//
// Each function runs in the goroutine that called Update, while the committer
// waits: a panic or a runtime.Goexit there is the caller's own. Undoing a
// function is dropping its version of the batch.

const (
	queueLength = 1024 // a full queue makes callers wait
	maxBatch    = 256  // updates in one commit
)

// call is one Update.
type call struct {
	state atomic.Int32 // of waiting, started, left
	turn  chan *tx     // the committer lets the function run
	ran   chan outcome // the function has ended
	done  chan error   // the batch is durable, or why not; holds one
}

const (
	waiting = iota
	started // the outcome must be awaited
	left    // the caller gave up; the function must not run
)

type outcome int

const (
	succeeded outcome = iota
	refused           // returned an error
	vanished          // panicked or exited: cannot run again
)

// Update implements store.KV.
func (db *DB) Update(ctx context.Context, fn func(store.Tx) error) error {
	db.life.RLock()
	defer db.life.RUnlock()
	if db.closed {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call{turn: make(chan *tx), ran: make(chan outcome), done: make(chan error, 1)}
	select {
	case db.queue <- c:
	case <-ctx.Done():
		return ctx.Err()
	}

	var answer error
	giveUp := ctx.Done()
	for {
		select {
		case tx := <-c.turn:
			answer = c.run(tx, fn)
		case err := <-c.done:
			if err != nil {
				return err
			}
			return answer // also a refusal waits until what it is based on is durable
		case <-giveUp:
			if c.state.CompareAndSwap(waiting, left) {
				return ctx.Err()
			}
			giveUp = nil
		}
	}
}

func (c *call) run(t *tx, fn func(store.Tx) error) error {
	result := vanished
	defer func() { c.ran <- result }()
	err := fn(t)
	result = succeeded
	if err != nil {
		result = refused
	}
	return err
}

// View implements store.KV.
func (db *DB) View(ctx context.Context, fn func(store.Tx) error) error {
	db.life.RLock()
	defer db.life.RUnlock()
	if db.closed {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	snapshot := db.badger.NewTransaction(false)
	defer snapshot.Discard()
	return fn(&tx{snapshot: snapshot, readOnly: true})
}

// commitLoop is the committer. It ends when the queue is closed and empty.
func (db *DB) commitLoop() {
	defer close(db.stopped)
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case c, open := <-db.queue:
			if !open {
				return
			}
			db.commitQueued(c)
		case <-tick.C:
			db.tidy()
		}
	}
}

// commitQueued commits first and what queued behind it.
func (db *DB) commitQueued(first *call) {
	t0 := time.Now()
	b := db.newBatch()
	for c := first; c != nil; c = db.next(b) {
		if b.run(c) {
			continue
		}
		b.finish() // c does not fit any more: it runs again in a batch of its own
		b = db.newBatch()
		b.run(c)
	}
	t1 := time.Now()
	b.finish()
	nb++; nc += len(b.calls); tf += t1.Sub(t0); tc += time.Since(t1)
	if d := time.Since(t1); d > tmax { tmax = d }
	if nb%500 == 0 { println("batches", nb, "calls/batch", nc/nb, "fn µs", tf.Microseconds()/int64(nb), "commit µs", tc.Microseconds()/int64(nb), "max ms", tmax.Milliseconds()); nb,nc,tf,tc,tmax=0,0,0,0,0 }
}
var nb, nc int
var tf, tc, tmax time.Duration

func (db *DB) next(b *batch) *call {
	if len(b.calls) >= maxBatch {
		return nil
	}
	select {
	case c := <-db.queue:
		return c
	default:
		return nil
	}
}

// batch is one commit in the making.
type batch struct {
	db       *DB
	refuse   error // nothing is run
	space    level
	snapshot *badger.Txn
	writes   writes
	size     int // of writes
	calls    []*call
}

func (db *DB) newBatch() *batch {
	b := &batch{db: db, space: db.spaceLevel(), snapshot: db.badger.NewTransaction(false)}
	switch {
	case db.failed != nil:
		b.refuse = fmt.Errorf("%w: %w", store.ErrFailed, db.failed)
	case b.space == critical:
		b.refuse = store.ErrFull
	}
	return b
}

// run lets one function run and keeps its writes if it succeeds. It returns
// false when they did not fit behind those of others and the function has to
// run again in a new batch.
func (b *batch) run(c *call) bool {
	if !c.state.CompareAndSwap(waiting, started) && c.state.Load() == left {
		return true
	}
	if b.refuse != nil {
		c.done <- b.refuse
		return true
	}
	t := &tx{snapshot: b.snapshot, writes: b.writes, size: b.size}
	c.turn <- t
	switch result := <-c.ran; {
	case result == vanished:
		return true
	case t.tooBig && b.size > 0:
		return false
	case t.tooBig:
		c.done <- errTooBig
		return true
	case result == succeeded && b.space == low && !t.frees():
		c.done <- store.ErrFull
		return true
	case result == succeeded:
		b.writes, b.size = t.writes, t.size
	}
	b.calls = append(b.calls, c)
	return true
}

// finish commits and answers everybody.
func (b *batch) finish() {
	err := b.commit()
	b.snapshot.Discard()
	for _, c := range b.calls {
		c.done <- err
	}
}

// commit makes the batch durable. When that fails nobody knows what is on
// disk, and asking the kernel to sync again may report success for pages it
// has dropped, so nothing is written until the store is opened again.
func (b *batch) commit() error {
	if b.writes.Len() == 0 {
		return nil
	}
	db := b.db
	err := b.write()
	if err != nil {
		db.failed = err
		db.log.Error("commit failed: no more writes until the store is opened again", "err", err)
		return fmt.Errorf("%w: %w", store.ErrFailed, err)
	}
	db.counter.commits++
	if err := db.counter.write(); err != nil {
		db.log.Warn("count a commit", "err", err)
	}
	return nil
}

func (b *batch) write() (err error) {
	defer damaged(&err)
	txn := b.db.badger.NewTransaction(true)
	defer txn.Discard()
	for row, w := range b.writes.Ascend(nil, nil) {
		if w.deleted {
			err = txn.Delete(row)
		} else {
			err = txn.Set(row, seal(row, w.value))
		}
		if err != nil {
			return err
		}
	}
	count := binary.BigEndian.AppendUint64(nil, b.db.counter.commits+1)
	if err := txn.Set(counterKey, seal(counterKey, count)); err != nil {
		return err
	}
	return txn.Commit()
}
