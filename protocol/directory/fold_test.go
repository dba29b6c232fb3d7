package directory

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// mirror is what a node stores of a log.
type mirror struct {
	size   uint64
	hashes []tlog.Hash
	newest map[[32]byte]uint64
	leaves []Leaf
}

func (m *mirror) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	return (&history{hashes: m.hashes}).ReadHashes(indexes)
}

func (m *mirror) Newest(label [32]byte) (Leaf, uint64, bool, error) {
	i, ok := m.newest[label]
	if !ok {
		return Leaf{}, 0, false, nil
	}
	return m.leaves[i], i, true, nil
}

func (m *mirror) fold(l Log, head Head, p Page) error {
	f, err := Fold(l, head, m.size, p, m, nil)
	if err != nil {
		return err
	}
	m.size, m.hashes, m.leaves = f.Size, append(m.hashes, f.Hashes...), append(m.leaves, p.Leaves...)
	for label, i := range f.Newest {
		m.newest[label] = i
	}
	return nil
}

func newMirror() *mirror { return &mirror{newest: map[[32]byte]uint64{}} }

// TestFold: a log that is read in pages of any sizes is the log.
func TestFold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(t)
		seq := map[string]uint64{}
		for range rapid.IntRange(1, 60).Draw(rt, "entries") {
			name := rapid.StringMatching("[a-e]").Draw(rt, "name")
			seq[name] += uint64(rapid.IntRange(1, 3).Draw(rt, "statements"))
			h.add(entry(name, seq[name]))
		}
		m := newMirror()
		for m.size < h.size() {
			n := uint64(rapid.IntRange(1, int(h.size()-m.size)).Draw(rt, "page"))
			check(t, m.fold(h.signer.Log(), h.head(), h.page(m.size, n)))
		}
		if !slices.Equal(m.hashes, h.hashes) || !slices.Equal(m.leaves, h.leaves) {
			t.Fatal("the mirror is not the log")
		}
		for name, n := range seq {
			leaf, _, ok, _ := m.Newest(entry(name, 1).Label)
			if !ok || leaf != entry(name, n) {
				t.Fatalf("the newest of %s is %+v, want statement %d", name, leaf, n)
			}
		}
	})
}

// TestFoldMalicious: a page that is not the next part of what was signed adds
// nothing.
func TestFoldMalicious(t *testing.T) {
	h := newHistory(t, entries(10)...)
	log, head := h.signer.Log(), h.head()
	other := h.fork(6).add(entry("mallory", 1), entry("user7", 1), entry("user8", 1), entry("user9", 1))
	good := h.page(4, 3)
	changed, swapped := good, good
	changed.Leaves = slices.Clone(good.Leaves)
	changed.Leaves[1].Account[0]++
	swapped.Leaves = slices.Clone(good.Leaves)
	swapped.Leaves[0], swapped.Leaves[1] = good.Leaves[1], good.Leaves[0]
	for name, bad := range map[string]Page{
		"nothing":                 h.page(4, 0),
		"a gap":                   h.page(5, 3),
		"from before":             h.page(3, 4),
		"a changed entry":         changed,
		"two entries swapped":     swapped,
		"an entry left out":       {4, slices.Delete(slices.Clone(good.Leaves), 1, 2), good.Proof},
		"no proof":                {4, good.Leaves, nil},
		"the proof of another":    {4, good.Leaves, h.page(4, 2).Proof},
		"of another log":          other.page(4, 3),
		"of another log, to end":  other.page(4, 6),
		"more than the head says": {4, append(slices.Clone(h.leaves[4:]), entry("more", 1)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror()
			check(t, m.fold(log, head, h.page(0, 4)))
			wants(t, m.fold(log, head, bad), ErrUnproven)
			check(t, m.fold(log, head, good))
		})
	}
}

// TestFoldConvicts: a log that binds a name twice, or sets a chain back, proves
// it by its own head, wherever the two entries are.
func TestFoldConvicts(t *testing.T) {
	rebound := entry("user2", 5)
	rebound.Account[0]++
	for _, c := range []struct {
		name string
		bad  Leaf
		kind Kind
	}{
		{"a name of two accounts", rebound, Rebound},
		{"a chain set back", entry("user2", 0), SetBack},
		{"a chain that stays", entry("user2", 1), SetBack},
	} {
		for _, pages := range [][]uint64{{13}, {3, 10}, {2, 4, 7}, {10, 1, 2}} {
			h := newHistory(t, entries(10)...).add(c.bad, entry("more", 1), entry("more", 2))
			m, log := newMirror(), h.signer.Log()
			var err error
			for _, n := range pages {
				if err = m.fold(log, h.head(), h.page(m.size, n)); err != nil {
					break
				}
			}
			wants(t, err, ErrContradiction)
			convicted, ok := errors.AsType[*Convicted](err)
			if !ok {
				t.Fatalf("%s: %v", c.name, err)
			}
			e, err := CheckEvidence(convicted.Evidence.Marshal())
			check(t, err)
			if e.Kind != c.kind || e.Leaves[0].Index != 2 || e.Leaves[1].Index != 10 || e.Leaves[1].Leaf != c.bad {
				t.Errorf("%s: the evidence is %v", c.name, e)
			}
		}
	}
}

type brokenRows struct{ *mirror }

var errRows = errors.New("disk gone")

func (brokenRows) ReadHashes([]int64) ([]tlog.Hash, error)     { return nil, errRows }
func (brokenRows) Newest([32]byte) (Leaf, uint64, bool, error) { return Leaf{}, 0, false, errRows }

type shortRows struct{ *mirror }

func (shortRows) ReadHashes([]int64) ([]tlog.Hash, error) { return nil, nil }

// TestFoldErrorsOfRows: what cannot be read accuses nobody.
func TestFoldErrorsOfRows(t *testing.T) {
	h := newHistory(t, entries(8)...)
	_, err := Fold(h.signer.Log(), h.head(), 0, h.page(0, 3), brokenRows{newMirror()}, nil)
	wants(t, err, errRows)
	_, err = Fold(h.signer.Log(), h.head(), 3, h.page(3, 3), brokenRows{newMirror()}, nil)
	wants(t, err, errRows)
	if _, err = Fold(h.signer.Log(), h.head(), 3, h.page(3, 3), shortRows{newMirror()}, nil); err == nil {
		t.Error("hashes that are missing were not missed")
	}
}
