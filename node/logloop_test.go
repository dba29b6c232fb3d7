package node_test

import (
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
)

// logStatus says how far a person has read the log.
func logStatus(t *testing.T, p *nodetest.Person) engine.LogStatus {
	t.Helper()
	s, err := p.LogStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A log of thousands of entries is mirrored after the connect, kept over a
// restart, and read on from there when it has grown.
func TestLongLogIsMirrored(t *testing.T) {
	const first, more = 5000, 100
	net := nodetest.New(t, 1)
	alice := net.People[0]
	net.Home.Fill(first)
	net.Wait("the log is mirrored", func() bool { return logStatus(t, alice).Mirrored == first+1 })
	alice.Stop()
	net.Home.Fill(more)
	net.Home.Stop()
	alice.Start()
	if s := logStatus(t, alice); s.Mirrored != first+1 || !s.Whole || s.Problem != "" {
		t.Errorf("after a restart: %+v", s)
	}
	net.Home.Start()
	net.Wait("the log is read on", func() bool { return logStatus(t, alice).Mirrored == first+1+more })
	if n := notices(t, alice, engine.NoticeLogChanged); n != 0 {
		t.Errorf("told %d times of another log", n)
	}
}

// A rendezvous that gives the log out entry by entry is read to the end, and not in
// haste: each page costs the node about as much as a whole one.
func TestShortPagesAreReadSlowly(t *testing.T) {
	const more, pagesPerSec = 8, 4
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	f, self := newForger(net), where(t, alice).ID
	net.Home.Lie(nodetest.Lie{Answer: func(_ peer.ID, q *wire.Request, a *wire.Response) { f.listen(q, a) }})
	net.Befriend(alice, bob)
	net.Wait("all of the log is known", f.knowsAll)
	alice.Stop()
	net.Home.Fill(more)

	var mu sync.Mutex
	var asked []time.Time // for the first time from each entry
	from := map[uint64]bool{}
	net.Home.Lie(nodetest.Lie{Answer: func(to peer.ID, q *wire.Request, a *wire.Response) {
		f.listen(q, a)
		page := a.GetLogPage()
		if to != self || len(page.GetLeaves()) == 0 {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if at := q.GetReadLog().GetFrom(); !from[at] {
			from[at], asked = true, append(asked, time.Now())
		}
		log := f.log()
		if err := log.grow(); err != nil {
			t.Error(err)
		}
		part, err := directory.ProveConsistency(q.GetReadLog().GetFrom()+1, uint64(len(log.leaves)), log)
		if err != nil {
			t.Error(err)
		}
		page.Leaves, page.Proof = page.Leaves[:directory.LeafSize], part.Proof.Bytes()
	}})
	alice.Start()
	net.Wait("the log is read", func() bool { return logStatus(t, alice).Mirrored == 2+more })
	mu.Lock()
	defer mu.Unlock()
	if len(asked) < more {
		t.Fatalf("read in %d pages", len(asked))
	}
	if took := asked[len(asked)-1].Sub(asked[0]); took < time.Duration(len(asked)-1)*time.Second/pagesPerSec {
		t.Errorf("%d pages of one entry were read in %v", len(asked), took)
	}
}
