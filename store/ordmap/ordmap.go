// Package ordmap is an immutable ordered map from bytes to values. A change
// returns a new map that shares almost everything with the old one, so keeping
// the old one is a snapshot, and going back to it undoes the change.
//
// It is a treap: a binary tree ordered by key that is also a heap ordered by a
// secret hash of the key, which keeps it balanced whoever chooses the keys.
// All operations take O(log n) steps. It does no I/O and holds no lock.
package ordmap

import (
	"bytes"
	"hash/maphash"
	"iter"
)

var seed = maphash.MakeSeed()

// Map is an immutable ordered map; the zero Map is empty.
type Map[V any] struct {
	root *node[V]
	len  int
}

type node[V any] struct {
	key         []byte
	value       V
	rank        uint64 // not below the ranks of the children
	left, right *node[V]
}

// Len returns the number of pairs.
func (m Map[V]) Len() int { return m.len }

// Get returns the value of key.
func (m Map[V]) Get(key []byte) (value V, ok bool) {
	for n := m.root; n != nil; {
		switch c := bytes.Compare(key, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.value, true
		}
	}
	return value, false
}

// Set returns a map where key has value. It keeps key: the caller must not
// change it any more.
func (m Map[V]) Set(key []byte, value V) Map[V] {
	if _, had := m.Get(key); !had {
		m.len++
	}
	m.root = insert(m.root, &node[V]{key: key, value: value, rank: maphash.Bytes(seed, key)})
	return m
}

// Delete returns a map without key.
func (m Map[V]) Delete(key []byte) Map[V] {
	if _, had := m.Get(key); had {
		m.root = remove(m.root, key)
		m.len--
	}
	return m
}

// insert puts one node, which it may change, into the tree below n.
func insert[V any](n, put *node[V]) *node[V] {
	if n == nil {
		return put
	}
	c := bytes.Compare(put.key, n.key)
	switch {
	case c == 0:
		put.left, put.right = n.left, n.right
		return put
	case put.rank > n.rank: // then its key is nowhere below n
		put.left, put.right = split(n, put.key)
		return put
	}
	next := *n
	if c < 0 {
		next.left = insert(n.left, put)
	} else {
		next.right = insert(n.right, put)
	}
	return &next
}

// split returns what is below and what is above key, which is not in the tree.
func split[V any](n *node[V], key []byte) (below, above *node[V]) {
	if n == nil {
		return nil, nil
	}
	next := *n
	if bytes.Compare(n.key, key) < 0 {
		next.right, above = split(n.right, key)
		return &next, above
	}
	below, next.left = split(n.left, key)
	return below, &next
}

// remove takes key, which is in the tree, out of it.
func remove[V any](n *node[V], key []byte) *node[V] {
	c := bytes.Compare(key, n.key)
	if c == 0 {
		return join(n.left, n.right)
	}
	next := *n
	if c < 0 {
		next.left = remove(n.left, key)
	} else {
		next.right = remove(n.right, key)
	}
	return &next
}

// join makes one tree of two; all of low is below all of high.
func join[V any](low, high *node[V]) *node[V] {
	switch {
	case low == nil:
		return high
	case high == nil:
		return low
	case low.rank > high.rank:
		next := *low
		next.right = join(low.right, high)
		return &next
	default:
		next := *high
		next.left = join(low, high.left)
		return &next
	}
}

// Ascend yields the pairs with start <= key < end in order; a nil end is no
// bound. The keys belong to the map.
func (m Map[V]) Ascend(start, end []byte) iter.Seq2[[]byte, V] {
	return func(yield func([]byte, V) bool) { ascend(m.root, start, end, yield) }
}

// Descend yields the same pairs, the last one first.
func (m Map[V]) Descend(start, end []byte) iter.Seq2[[]byte, V] {
	return func(yield func([]byte, V) bool) { descend(m.root, start, end, yield) }
}

func ascend[V any](n *node[V], start, end []byte, yield func([]byte, V) bool) bool {
	if n == nil {
		return true
	}
	fromHere, upToHere := bytes.Compare(n.key, start) >= 0, end == nil || bytes.Compare(n.key, end) < 0
	if fromHere && !ascend(n.left, start, end, yield) {
		return false
	}
	if fromHere && upToHere && !yield(n.key, n.value) {
		return false
	}
	return !upToHere || ascend(n.right, start, end, yield)
}

func descend[V any](n *node[V], start, end []byte, yield func([]byte, V) bool) bool {
	if n == nil {
		return true
	}
	fromHere, upToHere := bytes.Compare(n.key, start) >= 0, end == nil || bytes.Compare(n.key, end) < 0
	if upToHere && !descend(n.right, start, end, yield) {
		return false
	}
	if fromHere && upToHere && !yield(n.key, n.value) {
		return false
	}
	return !fromHere || descend(n.left, start, end, yield)
}
