package directory

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || err == nil {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// history is a log as its rendezvous keeps it, honest or not.
type history struct {
	t      testing.TB
	signer Signer
	leaves []Leaf
	hashes []tlog.Hash
}

func newHistory(t testing.TB, leaves ...Leaf) *history {
	t.Helper()
	host, err := key.ParseHost(keytest.Seed("rendezvous", 32))
	check(t, err)
	s, err := NewSigner(host)
	check(t, err)
	h := &history{t: t, signer: s}
	return h.add(leaves...)
}

func (h *history) add(leaves ...Leaf) *history {
	h.t.Helper()
	for _, l := range leaves {
		added, err := tlog.StoredHashes(int64(len(h.leaves)), l.Marshal(), h)
		check(h.t, err)
		h.leaves, h.hashes = append(h.leaves, l), append(h.hashes, added...)
	}
	return h
}

// fork is the same log up to size entries, free to go on otherwise.
func (h *history) fork(size int) *history {
	h.t.Helper()
	return newHistory(h.t, h.leaves[:size]...)
}

func (h *history) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		if i < 0 || i >= int64(len(h.hashes)) {
			return nil, fmt.Errorf("no hash %d", i)
		}
		out = append(out, h.hashes[i])
	}
	return out, nil
}

func (h *history) Newest(label [32]byte) (Leaf, uint64, bool, error) {
	for i, l := range slices.Backward(h.leaves) {
		if l.Label == label {
			return l, uint64(i), true, nil
		}
	}
	return Leaf{}, 0, false, nil
}

func (h *history) size() uint64 { return uint64(len(h.leaves)) }

func (h *history) root() tlog.Hash {
	h.t.Helper()
	root, err := tlog.TreeHash(int64(len(h.leaves)), h)
	check(h.t, err)
	return root
}

func (h *history) headAt(now time.Time) Head {
	h.t.Helper()
	head, err := h.signer.Head(h.size(), h.root(), now)
	check(h.t, err)
	return head
}

func (h *history) head() Head { return h.headAt(start) }

func (h *history) from(size uint64) Consistency {
	h.t.Helper()
	c, err := ProveConsistency(size, h.size(), h)
	check(h.t, err)
	return c
}

func (h *history) include(i uint64) Inclusion {
	h.t.Helper()
	in, err := ProveInclusion(i, h.leaves[i], h.size(), h)
	check(h.t, err)
	return in
}

// page is the n entries from on, with what proves them to who holds the head.
func (h *history) page(from, n uint64) Page {
	h.t.Helper()
	c := h.from(from + n)
	return Page{From: from, Leaves: h.leaves[from : from+n], Proof: c.Proof}
}

func (h *history) view() View { return View{Log: h.signer.Log(), Head: h.head()} }

// entry is statement seq of the account that this name has.
func entry(name string, seq uint64) Leaf {
	return Leaf{
		Label: sha256.Sum256([]byte(name)), Account: sha256.Sum256([]byte("account of " + name)),
		Seq: seq, Head: sha256.Sum256(fmt.Append(nil, name, seq)),
	}
}

// entries are n first statements.
func entries(n int) []Leaf {
	var leaves []Leaf
	for i := range n {
		leaves = append(leaves, entry(fmt.Sprint("user", i), 1))
	}
	return leaves
}

// plainRoot is the definition of RFC 6962, section 2.1.
func plainRoot(leaves []Leaf) tlog.Hash {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, leaves[0].Marshal()...))
	default:
		k := 1
		for 2*k < n {
			k *= 2
		}
		left, right := plainRoot(leaves[:k]), plainRoot(leaves[k:])
		return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
	}
}

// TestProofs: at every size, every entry and every earlier size is proven, and
// no proof proves anything else.
func TestProofs(t *testing.T) {
	leaves := entries(33)
	h := newHistory(t)
	for n := range leaves {
		h.add(leaves[n])
		size, root := h.size(), h.root()
		if root != plainRoot(h.leaves) {
			t.Fatalf("the root of %d entries is not that of RFC 6962", size)
		}
		head := h.head()
		for i := range h.leaves {
			in := h.include(uint64(i))
			check(t, in.Check(size, root))
			for _, bad := range spoil(in, size) {
				wants(t, bad.Check(size, root), ErrUnproven)
			}
			wants(t, in.Check(size, plainRoot(leaves[1:])), ErrUnproven)
			old := h.fork(i + 1)
			c := h.from(old.size())
			check(t, checkTree(c.Proof, head, old.size(), old.root()))
			wants(t, checkTree(c.Proof, head, old.size(), sha256.Sum256(nil)), ErrUnproven)
			if i > 0 {
				wants(t, checkTree(c.Proof, head, uint64(i), old.root()), ErrUnproven)
			}
		}
	}
}

func spoil(in Inclusion, size uint64) []Inclusion {
	moved, other, longer, over := in, in, in, in
	moved.Index = (in.Index + 1) % (size + 1)
	other.Leaf.Account[0]++
	longer.Proof = append(slices.Clone(in.Proof), tlog.Hash{})
	over.Index = size
	bad := []Inclusion{moved, other, longer, over}
	for i := range in.Proof {
		changed, shorter := in, in
		changed.Proof, shorter.Proof = slices.Clone(in.Proof), slices.Delete(slices.Clone(in.Proof), i, i+1)
		changed.Proof[i][0]++
		bad = append(bad, changed, shorter)
	}
	return bad
}

func TestLeafEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), LeafSize, LeafSize).Draw(t, "leaf")
		l, err := ParseLeaf(b)
		if err != nil || !slices.Equal(l.Marshal(), b) {
			t.Fatal("not canonical")
		}
	})
	for _, n := range []int{0, LeafSize - 1, LeafSize + 1} {
		_, err := ParseLeaf(make([]byte, n))
		wants(t, err, ErrMalformed)
	}
	two := slices.Concat(entry("a", 1).Marshal(), entry("b", 2).Marshal())
	leaves, err := ParseLeaves(two)
	check(t, err)
	if !slices.Equal(leaves, []Leaf{entry("a", 1), entry("b", 2)}) {
		t.Error("entries are not what was written")
	}
	_, err = ParseLeaves(two[1:])
	wants(t, err, ErrMalformed)
}

func TestProofEncoding(t *testing.T) {
	h := newHistory(t, entries(9)...)
	p := h.include(8).Proof
	got, err := ParseProof(p.Bytes())
	check(t, err)
	if !slices.Equal(got, p) {
		t.Error("the proof is not what was written")
	}
	for _, n := range []int{31, 33, (MaxProof + 1) * 32} {
		_, err := ParseProof(make([]byte, n))
		wants(t, err, ErrMalformed)
	}
}

// TestLabel: a name has another label in another log.
func TestLabel(t *testing.T) {
	seen := map[[32]byte]string{}
	for _, pair := range [][2]string{{"parley/a", "bob"}, {"parley/b", "bob"}, {"parley/a", "bobb"}, {"parley/ab", "ob"}} {
		label := Label(pair[0], pair[1])
		if other, twice := seen[label]; twice {
			t.Errorf("%v has the label of %s", pair, other)
		}
		seen[label] = fmt.Sprint(pair)
	}
}

func TestContradicts(t *testing.T) {
	first := entry("alice", 2)
	other := first
	other.Account[0]++
	other.Seq = 9
	for _, c := range []struct {
		name string
		next Leaf
		want bool
	}{
		{"longer chain", entry("alice", 3), false},
		{"far longer chain", entry("alice", 30), false},
		{"another name", entry("bob", 1), false},
		{"the same again", first, true},
		{"shorter chain", entry("alice", 1), true},
		{"another account", other, true},
	} {
		if first.Contradicts(c.next) != c.want {
			t.Errorf("%s: want %v", c.name, c.want)
		}
	}
}
