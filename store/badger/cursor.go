package badger

import (
	"bytes"

	"github.com/dgraph-io/badger/v4"

	"github.com/parley-chat/parley/store"
)

// cursor walks over the stored rows with first <= key < limit, in either
// direction.
type cursor struct {
	it           *badger.Iterator
	first, limit []byte
	down         bool

	now  store.Pair // what it stands on, if read
	read bool
	skew bool // the next pair needs a step first
}

func openCursor(txn *badger.Txn, first, limit []byte, down bool) (c *cursor, err error) {
	defer damaged(&err)
	it := txn.NewIterator(badger.IteratorOptions{Reverse: down, Prefix: commonPrefix(first, limit)})
	c = &cursor{it: it, first: first, limit: limit, down: down}
	if !down {
		it.Seek(first)
		return c, nil
	}
	it.Seek(limit)
	if it.Valid() && bytes.Equal(it.Item().Key(), limit) {
		it.Next()
	}
	return c, nil
}

// pair returns the row under the cursor; ok is false at the end. The slices
// are the caller's.
func (c *cursor) pair() (pair store.Pair, ok bool, err error) {
	defer damaged(&err)
	if c.read {
		return c.now, true, nil
	}
	if c.skew {
		c.it.Next()
		c.skew = false
	}
	if !c.it.Valid() {
		return store.Pair{}, false, nil
	}
	item := c.it.Item()
	if c.outside(item.Key()) {
		return store.Pair{}, false, nil
	}
	row := item.KeyCopy(nil)
	sealed, err := item.ValueCopy(nil)
	if err != nil {
		return store.Pair{}, false, err
	}
	value, err := unseal(row, sealed)
	if err != nil {
		return store.Pair{}, false, err
	}
	c.now, c.read = store.Pair{Key: row, Value: value}, true
	return c.now, true, nil
}

func (c *cursor) outside(row []byte) bool {
	if c.down {
		return bytes.Compare(row, c.first) < 0
	}
	return bytes.Compare(row, c.limit) >= 0
}

// skip goes on to the next row.
func (c *cursor) skip() { c.read, c.skew = false, true }

func (c *cursor) close() { c.it.Close() }

func commonPrefix(a, b []byte) []byte {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
