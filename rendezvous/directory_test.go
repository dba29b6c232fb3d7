package rendezvous

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// watcher is somebody who holds a head of the log and believes nothing.
type watcher struct {
	*device
	view directory.View
}

// watch begins with what the peer id of the rendezvous tells, and no head.
func watch(d *device) *watcher {
	d.t.Helper()
	log, err := directory.NewLog([]byte(d.server.PeerID()))
	mustDo(d.t, err)
	return &watcher{d, directory.View{Log: log}}
}

func proofOf(t testing.TB, b []byte) directory.Proof {
	t.Helper()
	p, err := directory.ParseProof(b)
	mustDo(t, err)
	return p
}

func consistency(t testing.TB, l *wire.LogHead) directory.Consistency {
	t.Helper()
	return directory.Consistency{From: l.GetFrom(), Proof: proofOf(t, l.GetConsistency())}
}

func (w *watcher) advance(l *wire.LogHead) {
	w.t.Helper()
	next, err := w.view.Advance(l.GetHead(), consistency(w.t, l), w.server.clock.Now())
	mustDo(w.t, err)
	w.view = next
}

// believe checks all that an answer claims, and moves the view.
func (w *watcher) believe(f *wire.Found) {
	w.t.Helper()
	mustDo(w.t, w.try(f))
}

func (w *watcher) try(f *wire.Found) error {
	w.t.Helper()
	chain, err := account.ParseChain(f.GetChain())
	mustDo(w.t, err)
	in := directory.Inclusion{Index: f.GetLogIndex(), Proof: proofOf(w.t, f.GetInclusion()), Leaf: directory.Leaf{
		Label:   directory.Label(w.view.Log.Origin(), f.GetName()),
		Account: chain.Account(), Seq: chain.Seq(), Head: chain.Head(),
	}}
	next, err := w.view.Check(f.GetLog().GetHead(), consistency(w.t, f.GetLog()), in, w.server.clock.Now())
	w.view = next
	return err
}

func (w *watcher) lookup(name string) *wire.Found {
	w.t.Helper()
	req := lookupRequest(name, nil)
	req.GetLookup().LogSize = w.view.Head.Size
	return w.must(req).GetFound()
}

// TestLookupIsInTheLog: every answer proves itself in the one round trip, and
// that the log only grew since the one before.
func TestLookupIsInTheLog(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice := watch(member(t, s, "alice"))
	alice.believe(alice.lookup("alice"))
	for i := range 5 {
		name := fmt.Sprintf("user_%d", i)
		d := member(t, s, name)
		alice.believe(alice.lookup(name))
		d.update(d.with(d.newcomer()))
		alice.believe(alice.lookup(name))
		alice.believe(alice.must(&wire.Request{Call: &wire.Request_Lookup{Lookup: &wire.Lookup{
			Account: d.owner[:], LogSize: alice.view.Head.Size}}}).GetFound())
	}
	if alice.view.Head.Size != 11 {
		t.Errorf("a log of %d entries, want 11", alice.view.Head.Size)
	}
	f := alice.lookup("user_1")
	f.Name = "user_2"
	if err := alice.try(f); !errors.Is(err, directory.ErrUnproven) {
		t.Errorf("the entry of one name as that of another: %v", err)
	}
}

// TestFetchedChainIsInTheLog: who recovers an account sees that the log has it.
func TestFetchedChainIsInTheLog(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	member(t, s, "bob")
	w := watch(newDevice(t, s, "stranger"))
	w.believe(w.must(fetchRequest(w.device, fetchBy{rk: &alice.rk, name: "alice"})).GetFound())
}

// TestLookupOfWhoKnowsMore: to a head that is larger than the log there is no
// proof, and who holds one sees that the log shrank.
func TestLookupOfWhoKnowsMore(t *testing.T) {
	s := startServer(t, nil)
	alice := watch(member(t, s, "alice"))
	for _, size := range []uint64{2, 1 << 40, 1<<64 - 1} {
		req := lookupRequest("alice", nil)
		req.GetLookup().LogSize = size
		log := alice.must(req).GetFound().GetLog()
		if log.GetFrom() != size || len(log.GetConsistency()) > 0 {
			t.Errorf("from %d: %v", size, log)
		}
	}
}

// TestLogHeadIsFresh: a head is signed again when the log grows and when it is
// some seconds old, and otherwise is the same.
func TestLogHeadIsFresh(t *testing.T) {
	s := startServer(t, nil)
	alice := watch(member(t, s, "alice"))
	head := func() string { t.Helper(); return string(alice.lookup("alice").GetLog().GetHead()) }
	first := head()
	s.clock.add(headLife - time.Second)
	if head() != first {
		t.Error("signed again within its life")
	}
	s.clock.add(time.Second)
	second := head()
	if second == first {
		t.Error("not signed again after its life")
	}
	member(t, s, "bob")
	if head() == second {
		t.Error("not signed again though the log has grown")
	}
	alice.believe(alice.lookup("alice"))
	s.clock.add(-time.Hour) // the clock of the machine was put right
	alice.believe(alice.lookup("alice"))
}

// TestLogSurvivesRestart: the log of a rendezvous that comes back continues the
// one it was.
func TestLogSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice := watch(member(t, s, "alice"))
	alice.believe(alice.lookup("alice"))
	s.stopNow()
	s = startServer(t, func(c *Config) { c.Dir = dir })
	bob := watch(member(t, s, "bob"))
	bob.view = alice.view
	bob.believe(bob.lookup("alice"))
	if bob.view.Head.Size != 2 {
		t.Errorf("the log has %d entries, want 2", bob.view.Head.Size)
	}
}

// TestLookupWhileChainsGrow: the proof in an answer is that of the chain in it,
// whatever happens meanwhile.
func TestLookupWhileChainsGrow(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := watch(member(t, s, "alice")), member(t, s, "bob")
	var longer []*wire.Request
	for range 8 {
		bob.chain = bob.with(bob.newcomer())
		longer = append(longer, updateRequest(bob.chain))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, req := range longer {
			if resp, err := bob.tryCall(req); err != nil || resp.GetCode() != 0 {
				t.Errorf("update: %v, %v", resp, err)
			}
		}
	}()
	for more := true; more; {
		select {
		case <-done:
			more = false
		default:
		}
		alice.believe(alice.lookup("bob"))
	}
	if alice.view.Head.Size != 10 {
		t.Errorf("a log of %d entries, want 10", alice.view.Head.Size)
	}
}

// logCopy is a copy of the log, folded page after page.
type logCopy struct {
	hashes []tlog.Hash
	leaves []directory.Leaf
	newest map[[32]byte]uint64
}

func (c *logCopy) ReadHashes(indexes []int64) (part []tlog.Hash, err error) {
	for _, i := range indexes {
		part = append(part, c.hashes[i])
	}
	return part, nil
}

func (c *logCopy) Newest(label [32]byte) (directory.Leaf, uint64, bool, error) {
	i, ok := c.newest[label]
	if !ok {
		return directory.Leaf{}, 0, false, nil
	}
	return c.leaves[i], i, true, nil
}

// read asks for one page and folds it; it returns how many entries it had.
func (c *logCopy) read(w *watcher) int {
	w.t.Helper()
	from := uint64(len(c.leaves))
	page := w.must(&wire.Request{Call: &wire.Request_ReadLog{ReadLog: &wire.ReadLog{From: from, LogSize: w.view.Head.Size}}}).GetLogPage()
	w.advance(page.GetLog())
	leaves, err := directory.ParseLeaves(page.GetLeaves())
	mustDo(w.t, err)
	if len(leaves) == 0 {
		return 0
	}
	f, err := directory.Fold(w.view.Log, w.view.Head, from, directory.Page{From: from, Leaves: leaves, Proof: proofOf(w.t, page.GetProof())}, c, nil)
	mustDo(w.t, err)
	c.hashes, c.leaves = append(c.hashes, f.Hashes...), append(c.leaves, leaves...)
	for label, i := range f.Newest {
		c.newest[label] = i
	}
	return len(leaves)
}

// fill registers accounts number from to from+n-1 as fast as the store can.
func fill(t testing.TB, s *testServer, from, n int) {
	t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 256 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				name := fmt.Sprint("filler", from+i)
				p := store.RegisterParams{Name: name, Label: s.book.label(name), Account: sha256.Sum256([]byte(name)), Chain: make([]byte, 700), ChainSeq: 2, Now: s.clock.Now()}
				if err := s.store.Register(context.Background(), p); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestReadLog: the whole log can be read in pages, each proven, and what is new
// later.
func TestReadLog(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	w := watch(member(t, s, "alice"))
	fill(t, s, 0, logPage+10)
	c := &logCopy{newest: map[[32]byte]uint64{}}
	for i, want := range []int{logPage, 11, 0} {
		if n := c.read(w); n != want {
			t.Errorf("page %d has %d entries, want %d", i, n, want)
		}
	}
	bob := member(t, s, "bob")
	bob.update(bob.with(bob.newcomer()))
	if n := c.read(w); n != 2 {
		t.Errorf("%d new entries, want 2", n)
	}
	leaf, index, ok, _ := c.Newest(directory.Label(w.view.Log.Origin(), "bob"))
	if !ok || leaf.Account != bob.owner || leaf.Seq != bob.chain.Seq() || leaf.Head != bob.chain.Head() || index != logPage+12 {
		t.Errorf("bob is %+v in entry %d", leaf, index)
	}
	for _, from := range []uint64{logPage + 13, 1 << 50, 1<<64 - 1} {
		page := w.must(&wire.Request{Call: &wire.Request_ReadLog{ReadLog: &wire.ReadLog{From: from}}}).GetLogPage()
		if len(page.GetLeaves()) > 0 || len(page.GetLog().GetHead()) == 0 {
			t.Errorf("from %d: %d bytes of entries", from, len(page.GetLeaves()))
		}
	}
}

func TestReadLogIsLimited(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	req := &wire.Request{Call: &wire.Request_ReadLog{ReadLog: &wire.ReadLog{}}}
	newDevice(t, s, "stranger").refused(protocol.NotMember, req)
	for range 60 {
		alice.must(req)
	}
	if alice.refused(protocol.RateLimited, req).GetRetryAfterMs() == 0 {
		t.Error("no advice when to come back")
	}
	s.clock.add(time.Second)
	alice.must(req)
}

// TestRefusedChangesAreNotLogged: what was not done is in no log.
func TestRefusedChangesAreNotLogged(t *testing.T) {
	s := startServer(t, nil)
	alice := watch(member(t, s, "alice"))
	before := alice.lookup("alice").GetLog().GetHead()
	other := newDevice(t, s, "alice")
	other.refused(protocol.NameTaken, other.registerRequest(nil))
	alice.must(alice.registerRequest(nil)) // a retry
	alice.must(updateRequest(alice.chain)) // another
	if !bytes.Equal(alice.lookup("alice").GetLog().GetHead(), before) {
		t.Error("the log has changed")
	}
}
