package badger

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/parley-chat/parley/store"
)

// Group commit. Updates take turns: each runs in its caller's goroutine on the
// open batch, joins it and lets the next one run. The committer takes its turn
// too; it commits the batch with one sync and wakes everybody in it. There is
// no timer: a batch is whatever joined while the batch before was committed.
//
// Undoing an update (its error, panic or exit) is not keeping its version of
// the batch's writes.

// batch is one commit in the making.
type batch struct {
	snapshot *badger.Txn
	writes   writes
	size     int           // of writes
	done     chan struct{} // closed when err is set
	err      error         // nil: everything is durable
}

func (db *DB) newBatch() *batch {
	return &batch{
		snapshot: db.badger.NewTransaction(false),
		done:     make(chan struct{}),
	}
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

// Update implements store.KV.
func (db *DB) Update(ctx context.Context, fn func(store.Tx) error) error {
	db.life.RLock()
	defer db.life.RUnlock()
	if db.closed {
		return store.ErrClosed
	}
	for {
		b, joined, err := db.join(ctx, fn)
		if b == nil {
			return err
		}
		<-b.done // also a refusal waits until what it is based on is durable
		switch {
		case b.err != nil:
			return b.err
		case joined:
			return err
		}
	}
}

// join waits for its turn and runs fn on the open batch. It returns no batch
// when the update is over, and joined false when its writes did not fit behind
// those of others and it must run again in the next batch.
func (db *DB) join(ctx context.Context, fn func(store.Tx) error) (b *batch, joined bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	select {
	case db.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	defer func() { <-db.turn }() // also when fn panics or exits

	space := db.spaceLevel()
	switch {
	case db.failed != nil:
		return nil, false, db.failed
	case space == critical:
		return nil, false, store.ErrFull
	}
	if db.open == nil {
		db.open = db.newBatch()
		db.wake <- struct{}{} // never blocks: the committer has taken the batch before
	}
	b = db.open
	t := &tx{snapshot: b.snapshot, recent: &db.recent, writes: b.writes, size: b.size}
	err = fn(t)
	switch {
	case t.tooBig && b.size > 0:
		return b, false, nil
	case t.tooBig:
		return nil, false, errTooBig
	case err == nil && space == low && !t.frees():
		return nil, false, store.ErrFull
	case err == nil:
		b.writes, b.size = t.writes, t.size
	}
	return b, true, err
}

// commitLoop is the committer. It ends when wake is closed.
func (db *DB) commitLoop() {
	defer close(db.stopped)
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case _, open := <-db.wake:
			if !open {
				return
			}
			runtime.Gosched() // those who can join do so first: the batch is bigger
			db.commitOpen()
		case <-tick.C:
			db.tidy()
		}
	}
}

// commitOpen commits the open batch and answers everybody in it.
func (db *DB) commitOpen() {
	db.turn <- struct{}{}
	defer func() { <-db.turn }()
	b := db.open
	db.open = nil
	b.err = db.commit(b)
	b.snapshot.Discard()
	close(b.done)
}

// commit makes the batch durable. When that fails nobody knows what is on
// disk, and asking the kernel to sync again may report success for pages it
// has dropped, so nothing is written until the store is opened again.
func (db *DB) commit(b *batch) error {
	if b.writes.Len() == 0 {
		return nil
	}
	if err := db.write(b.writes); err != nil {
		db.failed = fmt.Errorf("%w: %w", store.ErrFailed, err)
		db.log.Error("commit failed: no more writes until the store is opened again", "err", err)
		return db.failed
	}
	db.counter.commits++
	if err := db.counter.write(); err != nil {
		db.log.Warn("count a commit", "err", err)
	}
	return nil
}

func (db *DB) write(changed writes) (err error) {
	defer damaged(&err)
	txn := db.badger.NewTransaction(true)
	defer txn.Discard()
	for row, w := range changed.Ascend(nil, nil) {
		if w.deleted {
			err = txn.Delete(row)
		} else {
			err = txn.Set(row, seal(row, w.value))
		}
		if err != nil {
			return err
		}
		db.recent.put(row, w) // if the commit fails nobody reads it any more
	}
	count := binary.BigEndian.AppendUint64(nil, db.counter.commits+1)
	if err := txn.Set(counterKey, seal(counterKey, count)); err != nil {
		return err
	}
	return txn.Commit()
}
