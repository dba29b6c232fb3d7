package directory

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// LeafSize is the length in bytes of every entry.
const LeafSize = 104

// Leaf is one entry of the log: the account that a name belongs to, and how far
// the account's statement chain went when the entry was made.
type Leaf struct {
	Label   [32]byte // Label of the name
	Account protocol.AccountID
	Seq     uint64   // of the newest statement
	Head    [32]byte // hash of the newest statement
}

// Label stands for a name in the log of an origin. It hides nothing: names can
// be guessed.
func Label(origin, name string) [32]byte {
	return key.Hash("label", []byte(origin), []byte(name))
}

// Marshal returns the LeafSize bytes of the entry (SPEC "Directory log").
func (l Leaf) Marshal() []byte {
	b := make([]byte, 0, LeafSize)
	b = append(b, l.Label[:]...)
	b = append(b, l.Account[:]...)
	b = binary.BigEndian.AppendUint64(b, l.Seq)
	return append(b, l.Head[:]...)
}

// Hash returns the hash of the entry in the tree.
func (l Leaf) Hash() tlog.Hash { return tlog.RecordHash(l.Marshal()) }

// ParseLeaf reads what Marshal returned. An error wraps ErrMalformed.
func ParseLeaf(b []byte) (l Leaf, err error) {
	if len(b) != LeafSize {
		return Leaf{}, fmt.Errorf("%w entry of %d bytes, want %d", ErrMalformed, len(b), LeafSize)
	}
	r := key.NewReader(b)
	copy(l.Label[:], r.Take(32))
	copy(l.Account[:], r.Take(32))
	l.Seq = r.Uint64()
	copy(l.Head[:], r.Take(32))
	return l, nil
}

// ParseLeaves reads entries one after the other.
func ParseLeaves(b []byte) ([]Leaf, error) {
	if len(b)%LeafSize != 0 {
		return nil, fmt.Errorf("%w entries of %d bytes", ErrMalformed, len(b))
	}
	leaves := make([]Leaf, len(b)/LeafSize)
	for i := range leaves {
		leaves[i], _ = ParseLeaf(b[i*LeafSize:][:LeafSize])
	}
	return leaves, nil
}

// Contradicts tells that no honest log holds l before next: one name of two
// accounts, or a chain that did not grow.
func (l Leaf) Contradicts(next Leaf) bool {
	return l.Label == next.Label && (l.Account != next.Account || next.Seq <= l.Seq)
}

// Inclusion is an entry and the proof of its place, from 0, in a tree.
type Inclusion struct {
	Index uint64
	Leaf  Leaf
	Proof Proof
}

// Check returns nil if the entry is in the tree of size entries with that root;
// else an error that wraps ErrUnproven. Size and root are those of one signed
// head: a proof alone does not tell sizes apart.
func (i Inclusion) Check(size uint64, root tlog.Hash) error {
	if size > MaxSize || i.Index >= size {
		return fmt.Errorf("%w: entry %d of %d", ErrUnproven, i.Index, size)
	}
	if err := tlog.CheckRecord(tlog.RecordProof(i.Proof), int64(size), root, int64(i.Index), i.Leaf.Hash()); err != nil {
		return fmt.Errorf("%w: entry %d is not in the log of %d", ErrUnproven, i.Index, size)
	}
	return nil
}

// ProveInclusion proves the entry at index, in the tree of the first size entries
// of those whose hashes are given. The errors are of hashes.
func ProveInclusion(index uint64, leaf Leaf, size uint64, hashes tlog.HashReader) (Inclusion, error) {
	p, err := tlog.ProveRecord(int64(size), int64(index), hashes)
	if err != nil {
		return Inclusion{}, fmt.Errorf("prove entry %d of %d: %w", index, size, err)
	}
	return Inclusion{Index: index, Leaf: leaf, Proof: Proof(p)}, nil
}
