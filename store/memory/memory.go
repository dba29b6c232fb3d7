// Package memory is a store.KV that forgets everything: for tests of what is
// built over a KV. Durability apart it keeps the whole contract.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/ordmap"
)

var errTooBig = fmt.Errorf("%w: writes of one transaction", store.ErrTooBig)

type pairs = ordmap.Map[[]byte]

// DB is a KV in memory.
type DB struct {
	life   sync.RWMutex // held for reading by every call, so that Close waits
	closed bool         // guarded by life

	writing   chan struct{} // holds a token while an Update runs
	committed atomic.Pointer[pairs]
}

// New returns an empty store.
func New() *DB {
	db := &DB{writing: make(chan struct{}, 1)}
	db.committed.Store(&pairs{})
	return db
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
	return fn(&tx{pairs: *db.committed.Load(), readOnly: true})
}

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
	select {
	case db.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-db.writing }()

	t := &tx{pairs: *db.committed.Load()}
	if err := fn(t); err != nil {
		return err
	}
	if t.size > store.MaxTx {
		return errTooBig
	}
	db.committed.Store(&t.pairs)
	return nil
}

// Close implements store.KV.
func (db *DB) Close() error {
	db.life.Lock()
	defer db.life.Unlock()
	db.closed = true
	return nil
}

// tx works on its own version of the map; dropping it undoes everything.
type tx struct {
	pairs    pairs
	size     int
	readOnly bool
}

func (t *tx) Get(key []byte) ([]byte, error) {
	value, ok := t.pairs.Get(key)
	if !ok {
		return nil, store.ErrNotFound
	}
	return bytes.Clone(value), nil
}

func (t *tx) Scan(start, end []byte) iter.Seq2[store.Pair, error] {
	return func(yield func(store.Pair, error) bool) {
		copied(t.pairs.Ascend(start, end), yield)
	}
}

func (t *tx) ScanDown(start, end []byte) iter.Seq2[store.Pair, error] {
	return func(yield func(store.Pair, error) bool) {
		copied(t.pairs.Descend(start, end), yield)
	}
}

func copied(pairs iter.Seq2[[]byte, []byte], yield func(store.Pair, error) bool) {
	for key, value := range pairs {
		if !yield(store.Pair{Key: bytes.Clone(key), Value: bytes.Clone(value)}, nil) {
			return
		}
	}
}

func (t *tx) Set(key, value []byte) error {
	if err := t.admit(key, value); err != nil {
		return err
	}
	t.pairs = t.pairs.Set(bytes.Clone(key), append([]byte{}, value...))
	return nil
}

func (t *tx) Delete(key []byte) error {
	if err := t.admit(key, nil); err != nil {
		return err
	}
	t.pairs = t.pairs.Delete(key)
	return nil
}

func (t *tx) admit(key, value []byte) error {
	if t.readOnly {
		return store.ErrReadOnly
	}
	if err := store.CheckPair(key, value); err != nil {
		return err
	}
	if t.size += store.Cost(key, value); t.size > store.MaxTx {
		return errTooBig
	}
	return nil
}
