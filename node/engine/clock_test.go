package engine

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// A clock that was ahead for a while, and set the sweeps for then, does not
// stop them for that long.
func TestClockThatWasAhead(t *testing.T) {
	w, a, b := pair(t)
	right := w.now
	a.offline, b.away, b.offline = true, true, true
	w.now = right.Add(300 * 24 * time.Hour)
	w.pass(12 * time.Hour)
	w.now = right.Add(time.Hour)
	a.load()
	a.tick()
	for _, pair := range a.rows(tableTimer) {
		kind, at := timer(pair.Key[9]), timerTime(pair.Key)
		if sweeps[kind] != 0 && at.After(w.now.Add(sweeps[kind])) {
			t.Errorf("sweep %d is due at %v", kind, at)
		}
	}
	for kind := range sweeps {
		if n := a.timers(kind); n != 1 {
			t.Errorf("%d timers of sweep %d", n, kind)
		}
	}
}

func (n *node) timers(kind timer) (count int) {
	for _, pair := range n.rows(tableTimer) {
		if timer(pair.Key[9]) == kind {
			count++
		}
	}
	return count
}

// One jump of the clock gives nothing up and destroys no key; an hour at the
// new time does.
func TestClockThatJumpsDestroysNothing(t *testing.T) {
	w, a, b := pair(t)
	a.offline, a.away, b.offline = true, true, true
	id := a.send(b, "waits")
	keys := len(b.rows(tableSigned)) + len(b.rows(tableOneTime))
	check := func(when string, want State, keep bool) {
		t.Helper()
		if s := a.message(id).State; s != want {
			t.Errorf("%s: the message is %s", when, s)
		}
		if got := len(b.rows(tableSigned)) + len(b.rows(tableOneTime)); (got == keys) != keep {
			t.Errorf("%s: %d private keys of %d", when, got, keys)
		}
	}
	right := w.now
	w.now = right.Add(365 * 24 * time.Hour)
	w.pass(30 * time.Minute)
	check("after the jump", StateQueued, true)
	w.now = right.Add(time.Hour)
	a.tick()
	b.tick()
	w.pass(7 * time.Hour)
	check("after it was put right", StateQueued, true)

	w.now = w.now.Add(90 * 24 * time.Hour) // it was asleep
	w.pass(clockSettle - time.Minute)
	check("before the hour is over", StateQueued, true)
	w.pass(2 * time.Minute)
	check("after it", StateFailed, false)
	for kind := range sweeps {
		if n := a.timers(kind); n != 1 {
			t.Errorf("%d timers of sweep %d", n, kind)
		}
	}
}

// What was put off by a clock that was ahead is due.
func TestDelaysOfAWrongClock(t *testing.T) {
	w, a, b := pair(t)
	far := w.now.Add(300 * 24 * time.Hour)
	a.loseSessions(b)
	a.do(func(tx store.Tx) (Hint, error) {
		x, err := a.e.begin(tx, w.now)
		if err != nil {
			return Hint{}, err
		}
		p, err := x.peer(b.account())
		if err != nil {
			return Hint{}, err
		}
		p.lookupAt = far
		k, _, err := x.prekeys()
		if err != nil {
			return Hint{}, err
		}
		k.notBefore = far
		if err := x.put(store.Key(tablePrekeys), &k); err != nil {
			return Hint{}, err
		}
		return x.end()
	})
	id := a.send(b, "now")
	w.settle()
	if s := a.message(id).State; s != StateDelivered {
		t.Errorf("the message is %s", s)
	}
	w.now = w.now.Add(time.Hour)
	a.shelf().oneTime = nil
	if a.plan(w.home.counts(a.device())) == nil {
		t.Error("no upload is planned")
	}
	for _, c := range []struct {
		left time.Duration
		want bool
	}{{-1, false}, {0, false}, {1, true}, {time.Hour, true}, {time.Hour + 1, false}} {
		if got := waits(w.now, w.now.Add(c.left), time.Hour); got != c.want {
			t.Errorf("%v left: %v", c.left, got)
		}
	}
}

// A refusal puts the next look-up off, also when the last was put off by a
// clock that was wrong.
func TestRefusalAfterAWrongClock(t *testing.T) {
	w, a, b := pair(t)
	x := &work{e: a.e, now: w.now}
	p := &peerRow{lookupAt: w.now.Add(300 * 24 * time.Hour)}
	w.check(a.kv.Update(t.Context(), func(tx store.Tx) error {
		x.tx = tx
		refusal := protocol.Refuse(protocol.RateLimited, "")
		refusal.RetryAfter = time.Minute
		return x.lookupFailed(b.account(), p, refusal)
	}))
	if !p.lookupAt.Equal(x.now.Add(time.Minute)) {
		t.Errorf("put off until %v", p.lookupAt)
	}
}
