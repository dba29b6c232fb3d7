package badger

import (
	"bytes"
	"fmt"
	"iter"

	"github.com/dgraph-io/badger/v4"

	"github.com/parley-chat/parley/store"
)

// rows is a sequence of pairs whose keys are row keys.
type rows = iter.Seq2[store.Pair, error]

// scan lays the writes over the stored rows.
func (t *tx) scan(start, end []byte, down bool) rows {
	return func(yield func(store.Pair, error) bool) {
		first, limit := rowKey(start), []byte{userPrefix + 1}
		if end != nil {
			limit = rowKey(end)
		}
		all := stored(t.snapshot, first, limit, down)
		if t.writes.Len() > 0 {
			all = overlay(t.writes, all, first, limit, down)
		}
		for pair, err := range all {
			if err != nil {
				yield(store.Pair{}, err)
				return
			}
			if !yield(store.Pair{Key: pair.Key[1:], Value: pair.Value}, nil) {
				return
			}
		}
	}
}

// overlay merges changes with the rows below them. The pairs it yields are the
// caller's.
func overlay(changes writes, below rows, first, limit []byte, down bool) rows {
	return func(yield func(store.Pair, error) bool) {
		seq := changes.Ascend(first, limit)
		if down {
			seq = changes.Descend(first, limit)
		}
		next, stop := iter.Pull2(seq)
		defer stop()
		row, change, more := next()
		emit := func() bool {
			w := change
			pair := store.Pair{Key: bytes.Clone(row), Value: bytes.Clone(w.value)}
			row, change, more = next()
			return w.deleted || yield(pair, nil)
		}
		for pair, err := range below {
			if err != nil {
				yield(store.Pair{}, err)
				return
			}
			for more && before(row, pair.Key, down) {
				if !emit() {
					return
				}
			}
			if more && bytes.Equal(row, pair.Key) {
				if !emit() { // it replaces the pair
					return
				}
			} else if !yield(pair, nil) {
				return
			}
		}
		for more {
			if !emit() {
				return
			}
		}
	}
}

func before(a, b []byte, down bool) bool {
	if down {
		return bytes.Compare(a, b) > 0
	}
	return bytes.Compare(a, b) < 0
}

// stored yields what Badger has with first <= row < limit.
func stored(txn *badger.Txn, first, limit []byte, down bool) rows {
	return func(yield func(store.Pair, error) bool) {
		c, err := openCursor(txn, first, limit, down)
		if err != nil {
			yield(store.Pair{}, err)
			return
		}
		defer c.it.Close()
		for {
			pair, ok, err := c.next()
			if err != nil {
				yield(store.Pair{}, err)
				return
			}
			if !ok || !yield(pair, nil) {
				return
			}
		}
	}
}

// cursor is a Badger iterator kept within bounds. Its methods run only
// Badger's code, so that a panic there is damage.
type cursor struct {
	it           *badger.Iterator
	first, limit []byte
	down         bool
}

func openCursor(txn *badger.Txn, first, limit []byte, down bool) (c *cursor, err error) {
	defer damaged(&err)
	it := txn.NewIterator(badger.IteratorOptions{Reverse: down, Prefix: commonPrefix(first, limit)})
	if down {
		it.Seek(limit)
	} else {
		it.Seek(first)
	}
	return &cursor{it, first, limit, down}, nil
}

// next returns a copy of the row under the iterator and steps on; ok is false
// at the end.
func (c *cursor) next() (pair store.Pair, ok bool, err error) {
	defer damaged(&err)
	if c.down && c.it.Valid() && bytes.Equal(c.it.Item().Key(), c.limit) {
		c.it.Next() // Badger starts at the limit itself
	}
	if !c.it.Valid() {
		return store.Pair{}, false, nil
	}
	item := c.it.Item()
	if bytes.Compare(item.Key(), c.first) < 0 || bytes.Compare(item.Key(), c.limit) >= 0 {
		return store.Pair{}, false, nil
	}
	row := item.KeyCopy(nil)
	sealed, err := item.ValueCopy(nil)
	if err != nil {
		return store.Pair{}, false, fmt.Errorf("badger: %w", err)
	}
	value, err := unseal(row, sealed)
	if err != nil {
		return store.Pair{}, false, err
	}
	c.it.Next()
	return store.Pair{Key: row, Value: value}, true, nil
}

func commonPrefix(a, b []byte) []byte {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
