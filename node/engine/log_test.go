package engine

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// alarmOfLog reads what a node keeps to show against the directory.
func (n *node) alarmOfLog() (a LogAlarm, stands bool) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		a, stands, err = n.e.LogAlarm(tx)
		return err
	})
	return a, stands
}

func (n *node) acceptLog() {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.AcceptLog(tx, n.w.now) })
}

func (n *node) logSize() (size uint64) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		size, err = n.e.LogSize(tx)
		return err
	})
	return size
}

// TestMaliciousLog asks a rendezvous that lies with its log for the keys of bob,
// while a message waits for them. Nothing is sealed, nothing is learnt, the lie
// is noticed once; the truth told later sends the message.
func TestMaliciousLog(t *testing.T) {
	other := func(w *world, f *wire.Found, size int) { // a log of another history
		fork := newLogbook()
		fork.host, fork.signer = w.home.log.host, w.home.log.signer
		for i := range size {
			fork.enter(directory.Leaf{Seq: uint64(i)})
		}
		honest := w.home.log
		w.home.log, w.home.forge = fork, nil
		w.home.proveFrom(f.Log.From, f)
		w.home.log = honest
	}
	cases := []struct {
		name, notice string
		lie          func(w *world, f *wire.Found)
		kept, proof  bool // what the rendezvous signed is kept; it convicts
	}{
		{"no log", NoticeUnproven, func(_ *world, f *wire.Found) { f.Log = nil }, false, false},
		{"no head", NoticeUnproven, func(_ *world, f *wire.Found) { f.Log.Head = nil }, false, false},
		{"head of another log", NoticeUnproven, func(w *world, f *wire.Found) {
			honest := w.home.log
			w.home.log, w.home.forge = newLogbook(), nil
			w.home.proveFrom(0, f)
			w.home.log = honest
		}, false, false},
		{"broken signature", NoticeUnproven, func(_ *world, f *wire.Found) { f.Log.Head[len(f.Log.Head)-4] ^= 1 }, false, false},
		{"no inclusion", NoticeUnproven, func(_ *world, f *wire.Found) { f.Inclusion = nil }, false, false},
		{"inclusion of no length", NoticeUnproven, func(_ *world, f *wire.Found) { f.Inclusion = f.Inclusion[1:] }, false, false},
		{"inclusion of another entry", NoticeUnproven, func(_ *world, f *wire.Found) { f.LogIndex++ }, false, false},
		{"an entry that is not there", NoticeUnproven, func(_ *world, f *wire.Found) { f.LogIndex = 1 << 40 }, false, false},
		{"consistency of no length", NoticeUnproven, func(_ *world, f *wire.Found) { f.Log.Consistency = []byte{1} }, false, false},
		{"no consistency", NoticeLogChanged, func(_ *world, f *wire.Found) { f.Log.Consistency = nil }, true, false},
		{"shrunk", NoticeLogChanged, func(w *world, f *wire.Found) { other(w, f, 0) }, true, false},
		{"forked", NoticeLogChanged, func(w *world, f *wire.Found) { other(w, f, int(f.Log.From)-1) }, true, true},
		{"forked and grown", NoticeLogChanged, func(w *world, f *wire.Found) { other(w, f, int(f.Log.From)+5) }, true, false},
		{"old head", NoticeLogStale, func(w *world, f *wire.Found) {
			now, from := w.now, f.Log.From
			w.now, w.home.forge = now.Add(-directory.MaxAge-time.Minute), nil
			w.home.proveFrom(from, f)
			w.now = now
		}, false, false},
		{"head of the future", NoticeLogStale, func(w *world, f *wire.Found) {
			now, from := w.now, f.Log.From
			w.now, w.home.forge = now.Add(directory.MaxAge+time.Minute), nil
			w.home.proveFrom(from, f)
			w.now = now
		}, false, false},
	}
	origin, _, _ := pair(t)
	for range 3 { // so that all proofs have hashes
		origin.add("user_" + string(rune('a'+len(origin.nodes))))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := origin.clone(t)
			a, b := w.nodes[0], w.nodes[1]
			a.do(func(tx store.Tx) (Hint, error) { return a.e.SetAccount(tx, w.now, w.now, a.found("bob", false)) })
			for _, n := range w.nodes[2:] {
				w.home.proveFrom(0, w.home.look(n.name, false))
			}
			held := a.logSize()
			if held < 2 || held == w.home.log.size() {
				t.Fatalf("the test does not test: %d entries held of %d", held, w.home.log.size())
			}
			a.loseSessions(b)
			b.away, b.offline = true, true
			w.home.noPages = true
			sent := len(a.sent)
			var lie func(f *wire.Found)
			lie = func(f *wire.Found) {
				c.lie(w, f)
				w.home.forge = lie
			}
			w.home.forge = lie
			id := a.send(b, "secret")
			w.pass(5 * time.Minute)
			if len(a.sent) != sent || a.message(id).State != StateQueued || a.logSize() != held {
				t.Fatalf("%d envelopes were sent, the message is %s, %d entries are held", len(a.sent)-sent, a.message(id).State, a.logSize())
			}
			notices := a.events(KindNotice)
			if len(notices) != 1 || notices[0].Cause != c.notice {
				t.Fatalf("notices %+v, want one %s", notices, c.notice)
			}
			r, kept := a.alarmOfLog()
			if kept != c.kept || kept && (len(r.Held) == 0 || len(r.Shown) == 0 || r.Problem == "") {
				t.Fatalf("kept %v: %+v", kept, r)
			}
			e, err := directory.CheckEvidence(r.Evidence)
			if convicts := err == nil && bytes.Equal(e.Log.Host().PeerID(), w.home.log.peer()); convicts != c.proof {
				t.Fatalf("it convicts: %v (%v)", convicts, err)
			}
			w.home.forge, w.home.noPages = nil, false
			b.away, b.offline = false, false
			w.pass(30 * time.Minute)
			if kept { // who lied is not trusted again by itself
				if s := a.message(id).State; s != StateQueued {
					t.Fatalf("state %s while the alarm stands", s)
				}
				a.acceptLog()
				w.pass(time.Minute)
			}
			if s := a.message(id).State; s != StateDelivered || !slices.Equal(texts(b.history(a)), []string{"secret"}) {
				t.Fatalf("state %s after the truth was told", s)
			}
		})
	}
}

// An answer that was on its way while the log went on is no alarm, and not
// believed either.
func TestLogThatMoved(t *testing.T) {
	w, a, _ := pair(t)
	early := a.found("bob", false)
	for _, name := range []string{"carol", "dave"} {
		f := w.home.prove(a, &wire.Found{Name: name, Chain: w.add(name).chain().Bytes()})
		a.do(func(tx store.Tx) (Hint, error) { return a.e.SetAccount(tx, w.now, w.now, f) })
	}
	err := a.update(func(tx store.Tx) (Hint, error) { return a.e.SetAccount(tx, w.now, w.now, early) })
	if !errors.Is(err, ErrLogMoved) || IsAlarm(err) {
		t.Fatalf("%v", err)
	}
	a.lookupFailed(protocol.AccountID{1}, err)
	if n := a.events(KindNotice); len(n) != 0 {
		t.Errorf("notices %+v", n)
	}
	if _, kept := a.alarmOfLog(); kept {
		t.Error("an alarm is kept")
	}
}

// TestProvenBy: who knows only where a rendezvous is, believes what its log says now.
func TestProvenBy(t *testing.T) {
	w := newWorld(t)
	w.add("alice")
	home := Home{Peer: w.home.log.peer()}
	good := w.home.look("alice", false)
	w.home.proveFrom(0, good)
	w.check(ProvenBy(home, w.now, good))
	for name, c := range map[string]struct {
		home  Home
		after time.Duration
		lie   func(f *wire.Found)
		want  error
	}{
		"another rendezvous": {Home{Peer: newLogbook().peer()}, 0, func(*wire.Found) {}, ErrUnproven},
		"another name":       {home, 0, func(f *wire.Found) { f.Name = "bob" }, ErrUnproven},
		"no proof":           {home, 0, func(f *wire.Found) { f.Log = nil }, ErrUnproven},
		"no chain":           {home, 0, func(f *wire.Found) { f.Chain = nil }, ErrBadAnswer},
		"another chain":      {home, 0, func(f *wire.Found) { f.Chain = w.add("carol").chain().Bytes() }, ErrUnproven},
		"old":                {home, 2 * time.Hour, func(*wire.Found) {}, ErrLogStale},
		"of the future":      {home, -2 * time.Hour, func(*wire.Found) {}, ErrLogStale},
	} {
		f := proto.CloneOf(good)
		c.lie(f)
		if err := ProvenBy(c.home, w.now.Add(c.after), f); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
