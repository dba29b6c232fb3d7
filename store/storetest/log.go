package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/store"
)

// tree reads the hashes of a store's log.
func tree(r store.Log) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes, err := r.LogHashes(ctx, indexes)
		out := make([]tlog.Hash, len(hashes))
		for i, h := range hashes {
			out[i] = h
		}
		return out, err
	})
}

// wholeLog reads all entries, some at a time, and checks that the hashes are
// theirs and that there are no more of either than the size says.
func wholeLog(r store.Log) (leaves []store.Leaf, err error) {
	size, err := r.LogSize(ctx)
	if err != nil {
		return nil, err
	}
	for more := true; more; {
		page, err := r.LogLeaves(ctx, uint64(len(leaves)), 7)
		if err != nil {
			return nil, err
		}
		leaves, more = append(leaves, page...), len(page) > 0
	}
	if uint64(len(leaves)) != size {
		return nil, fmt.Errorf("%d entries in a log of %d", len(leaves), size)
	}
	hashes, want := tree(r), []tlog.Hash{}
	for i, l := range leaves {
		added, err := tlog.StoredHashes(int64(i), directory.Leaf(l).Marshal(), tlog.HashReaderFunc(func(indexes []int64) (part []tlog.Hash, _ error) {
			for _, index := range indexes {
				part = append(part, want[index])
			}
			return part, nil
		}))
		if err != nil {
			return nil, err
		}
		want = append(want, added...)
	}
	for i, h := range want {
		got, err := hashes.ReadHashes([]int64{int64(i)})
		if err != nil || got[0] != h {
			return nil, fmt.Errorf("hash %d is %v, %w, want %v", i, got, err, h)
		}
	}
	if _, err := hashes.ReadHashes([]int64{int64(len(want))}); !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("a hash after the last: %v, want ErrNotFound", err)
	}
	return leaves, nil
}

// latest checks that an account's entry is that of its chain.
func latest(r store.Rendezvous, leaves []store.Leaf, name string) error {
	a, err := r.Account(ctx, accountID(name))
	if err != nil {
		return err
	}
	want := store.Leaf{Label: hash("label of %s", name), Account: a.ID, Seq: a.ChainSeq, Head: a.ChainHead}
	if a.Entry >= uint64(len(leaves)) || leaves[a.Entry] != want {
		return fmt.Errorf("entry %d is not that of the chain of %s at %d", a.Entry, name, a.ChainSeq)
	}
	for _, l := range leaves[a.Entry+1:] {
		if l.Account == a.ID {
			return fmt.Errorf("%s has an entry after its newest one", name)
		}
	}
	return nil
}

// testLog: every registration and every longer chain is one entry; nothing else
// is.
func testLog(t *testing.T, r store.Rendezvous) {
	leaves, err := wholeLog(r)
	ok(t, err)
	equal(t, "entries of an empty log", len(leaves), 0)

	person(t, r, "alice")
	person(t, r, "bob")
	ok(t, r.SetChain(ctx, chain("alice", 3, 0, 1)))
	want := []store.Leaf{
		{Label: hash("label of alice"), Account: accountID("alice"), Seq: 1, Head: hash("head of alice")},
		{Label: hash("label of bob"), Account: accountID("bob"), Seq: 1, Head: hash("head of bob")},
		{Label: hash("label of alice"), Account: accountID("alice"), Seq: 3, Head: hash("head 3")},
	}
	same := func() {
		t.Helper()
		leaves, err := wholeLog(r)
		ok(t, err)
		equal(t, "entries", leaves, want)
		ok(t, errors.Join(latest(r, leaves, "alice"), latest(r, leaves, "bob")))
	}
	same()

	ok(t, r.Register(ctx, registration("bob", 2)))  // a retry
	ok(t, r.SetChain(ctx, chain("alice", 3, 0, 1))) // another
	refused(t, r.SetChain(ctx, chain("alice", 2, 0)), protocol.ChainConflict)
	refused(t, r.SetChain(ctx, chain("carol", 2, 0)), protocol.UnknownAccount)
	taken := registration("mallory", 1)
	taken.Name = "alice"
	refused(t, r.Register(ctx, taken), protocol.NameTaken)
	stolen := chain("bob", 2, 0)
	stolen.Devices = append(stolen.Devices, newDevice("alice", 0)) // refused after the entry was made
	refused(t, r.SetChain(ctx, stolen), protocol.DeviceExists)
	same()

	for _, c := range []struct {
		from uint64
		max  int
		want []store.Leaf
	}{{0, 2, want[:2]}, {1, 1, want[1:2]}, {2, 9, want[2:]}, {3, 9, nil}, {1 << 60, 9, nil}, {0, 0, nil}} {
		got, err := r.LogLeaves(ctx, c.from, c.max)
		ok(t, err)
		equal(t, fmt.Sprintf("%d entries from %d", c.max, c.from), got, c.want)
	}
}

// testLogRace: entries that are made at the same time are all there, each once.
func testLogRace(t *testing.T, r store.Rendezvous) {
	const people = 32
	codes := together(people, func(i int) error {
		name := fmt.Sprint("racer", i)
		return errors.Join(r.Register(ctx, registration(name, 1)), r.SetChain(ctx, chain(name, 2, 0)))
	})
	equal(t, "codes", codes, map[protocol.Code]int{protocol.OK: people})
	leaves, err := wholeLog(r)
	ok(t, err)
	equal(t, "entries", len(leaves), 2*people)
	for i := range people {
		ok(t, latest(r, leaves, fmt.Sprint("racer", i)))
	}
}

// testLogModel: whatever the order of calls, the log is what they did.
func testLogModel(t *testing.T, r store.Rendezvous) {
	seq := map[string]uint64{}
	want, err := wholeLog(r)
	ok(t, err)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		for range rapid.IntRange(0, 8).Draw(rt, "calls") {
			name := fmt.Sprint(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "name"), round)
			to := uint64(rapid.IntRange(1, 6).Draw(rt, "seq"))
			err := r.SetChain(ctx, chain(name, to))
			if seq[name] == 0 {
				refused(t, err, protocol.UnknownAccount)
				ok(t, r.Register(ctx, registration(name, 0)))
				seq[name], to = 1, 1
				want = append(want, store.Leaf{Label: hash("label of %s", name), Account: accountID(name), Seq: 1, Head: hash("head of %s", name)})
			}
			if to < seq[name] {
				refused(t, err, protocol.ChainConflict)
			}
			if to > seq[name] {
				ok(t, err)
				seq[name] = to
				want = append(want, store.Leaf{Label: hash("label of %s", name), Account: accountID(name), Seq: to, Head: hash("head %d", to)})
			}
			size, err := r.LogSize(ctx)
			ok(t, err)
			equal(t, "size", size, uint64(len(want)))
		}
	})
	leaves, err := wholeLog(r)
	ok(t, err)
	if !slices.Equal(leaves, want) {
		t.Fatal("the log is not what was done")
	}
}
