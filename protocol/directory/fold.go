package directory

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a hash of the tree of a log.
type Hash = tlog.Hash

// HashSize is the length of a Hash, in bytes.
const HashSize = tlog.HashSize

// HashCount returns how many hashes are stored of the tree of size entries: those
// that Folded.Hashes of all its pages add up to.
func HashCount(size uint64) uint64 { return uint64(tlog.StoredHashCount(int64(size))) }

// Rows is what one who reads the whole log has stored: the hashes of its tree,
// by the indexes of tlog.StoredHashIndex, and the newest entry of each label.
type Rows interface {
	tlog.HashReader

	// Newest returns the newest entry of a label, and its place in the log.
	Newest(label [32]byte) (leaf Leaf, index uint64, ok bool, err error)
}

// Page is some entries of a log: those from From on, and the proof that the tree
// which they complete is how the tree of a head begins. Without Leaves it says
// nothing.
type Page struct {
	From   uint64
	Leaves []Leaf
	Proof  Proof
}

// Folded is what a page adds to the Rows.
type Folded struct {
	Size   uint64              // entries folded by now
	Hashes []tlog.Hash         // to be stored behind those that are there
	Newest map[[32]byte]uint64 // the place of each label's newest entry in the page
}

// Fold checks a page against a head and what is stored of the size entries
// before it, and returns what to store. Errors wrap
//
//   - ErrUnproven: the page is not the next part of that log;
//   - ErrContradiction, in a *Convicted: it is, and contradicts what came before: a
//     name of two accounts, or a chain that did not grow;
//
// or are of rows. Head is one that View.Advance accepted. Entries of an excused label
// may contradict each other: who reads has seen that and goes on; nil excuses none.
func Fold(l Log, head Head, size uint64, page Page, rows Rows, excused func(label [32]byte) bool) (Folded, error) {
	end := size + uint64(len(page.Leaves))
	if page.From != size || end > head.Size || len(page.Leaves) == 0 {
		return Folded{}, fmt.Errorf("%w: entries %d to %d of %d, want those from %d", ErrUnproven, page.From, end, head.Size, size)
	}
	tree := &growing{old: rows, base: tlog.StoredHashCount(int64(size))}
	for i, leaf := range page.Leaves {
		added, err := tlog.StoredHashesForRecordHash(int64(size)+int64(i), leaf.Hash(), tree)
		if err != nil {
			return Folded{}, fmt.Errorf("hash entry %d: %w", size+uint64(i), err)
		}
		tree.added = append(tree.added, added...)
	}
	root, err := tlog.TreeHash(int64(end), tree)
	if err != nil {
		return Folded{}, fmt.Errorf("hash the first %d entries: %w", end, err)
	}
	if err := checkTree(page.Proof, head, end, root); err != nil {
		return Folded{}, err
	}
	newest, err := judge(l, head, Part{end, root, page.Proof}, page, rows, tree, excused)
	if err != nil {
		return Folded{}, err
	}
	return Folded{Size: end, Hashes: tree.added, Newest: newest}, nil
}

// judge finds the newest entry of each label, and convicts the log of the first
// entry that cannot follow the one before it.
func judge(l Log, head Head, part Part, page Page, rows Rows, tree tlog.HashReader, excused func([32]byte) bool) (map[[32]byte]uint64, error) {
	newest := map[[32]byte]uint64{}
	for i, leaf := range page.Leaves {
		index := page.From + uint64(i)
		before, at, ok, err := before(newest, page, rows, leaf.Label)
		if err != nil {
			return nil, err
		}
		if ok && before.Contradicts(leaf) && (excused == nil || !excused(leaf.Label)) {
			return nil, convictLeaves(l, head, part, tree, Inclusion{Index: at, Leaf: before}, Inclusion{Index: index, Leaf: leaf})
		}
		newest[leaf.Label] = index
	}
	return newest, nil
}

func before(newest map[[32]byte]uint64, page Page, rows Rows, label [32]byte) (leaf Leaf, index uint64, ok bool, err error) {
	if index, ok := newest[label]; ok {
		return page.Leaves[index-page.From], index, true, nil
	}
	leaf, index, ok, err = rows.Newest(label)
	if err != nil {
		return Leaf{}, 0, false, fmt.Errorf("find the newest entry of a label: %w", err)
	}
	return leaf, index, ok, nil
}

func convictLeaves(l Log, head Head, part Part, tree tlog.HashReader, pair ...Inclusion) error {
	for i, p := range pair {
		proven, err := ProveInclusion(p.Index, p.Leaf, part.Size, tree)
		if err != nil {
			return err
		}
		pair[i] = proven
	}
	return l.convict(Evidence{Kind: kindOf(pair[0].Leaf, pair[1].Leaf), Heads: []Head{head}, Part: part, Leaves: pair})
}

// growing reads the hashes of a tree that is being extended.
type growing struct {
	old   tlog.HashReader // the first base
	base  int64
	added []tlog.Hash
}

// ReadHashes implements tlog.HashReader.
func (g *growing) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	var stored []int64
	var where []int
	for i, index := range indexes {
		if index >= g.base {
			hashes[i] = g.added[index-g.base]
			continue
		}
		stored, where = append(stored, index), append(where, i)
	}
	if len(stored) == 0 {
		return hashes, nil
	}
	old, err := g.old.ReadHashes(stored)
	if err != nil {
		return nil, err
	}
	if len(old) != len(stored) {
		return nil, fmt.Errorf("%d hashes for %d indexes", len(old), len(stored))
	}
	for i, h := range old {
		hashes[where[i]] = h
	}
	return hashes, nil
}
