package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// Session after session begins, across new starts, cut connections, mail and
// rotations, and every first message opens. PARLEY_SESSIONS says how many
// sessions; 10,000 take some minutes.
func TestOTK18_SessionStarts(t *testing.T) {
	count := envNumber(t, "PARLEY_SESSIONS", 84)
	w, a, b := pair(t)
	w.settle()
	for i := range count {
		from, to := a, b
		if i%3 == 2 {
			from, to = b, a
		}
		w.now = w.now.Add(11 * time.Minute) // each device may open six an hour
		switch i % 7 {
		case 1:
			from.load()
		case 2:
			to.load()
		case 3:
			to.away, to.offline = true, true // it comes by mail
		case 4:
			from.rotate(RotateSigned)
		case 5:
			to.shelf().oneTime = nil // the signed prekey must do
		}
		from.rotate(RotateSessions)
		w.now = w.now.Add(time.Second)
		before := from.session(to)
		from.send(to, fmt.Sprint("on the old one ", i)) // asks for the new one
		w.settle()
		if from.session(to) == before && !to.offline {
			w.pass(2 * time.Minute) // a look-up was made lately
		}
		from.send(to, fmt.Sprint("on the new one ", i))
		w.settle()
		to.away, to.offline = false, false
		w.pass(time.Second)
		if (i+1)%1000 == 0 {
			t.Logf("%d of %d sessions", i+1, count)
		}
	}
	w.pass(time.Hour)
	for _, n := range w.nodes {
		if bad := n.events(KindUndecryptable); len(bad) != 0 {
			t.Errorf("%s could not open %d, first %+v", n.name, len(bad), bad[0])
		}
		if err := n.verifyLedger(); err != nil {
			t.Error(err)
		}
	}
	if got := len(a.history(b)); got != 2*count {
		t.Errorf("%d messages, want %d", got, 2*count)
	}
	opened := 0
	for _, e := range b.ledger() {
		if e.Kind == "session" && e.What == "created" {
			opened++
		}
	}
	if opened < count*9/10 {
		t.Errorf("only %d sessions were opened: the test does not test", opened)
	}
	w.checkEmpty()
}

// The state of the keys is told in one place, with what went wrong.
func TestOTK16_StatusTellsAll(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	s := b.prekeyStatus()
	if s.Published == 0 || s.Cap == 0 || s.Kept == 0 || !s.SignedLive || s.SignedSince.IsZero() || s.LastUpload.IsZero() ||
		s.RSASince.IsZero() || s.LastProblem != "" || s.Held != "" || s.Fallback {
		t.Errorf("a healthy node: %+v", s)
	}
	b.shelf().oneTime = nil
	w.home.deaf = true
	a.loseSessions(b)
	a.send(b, "without a one-time prekey")
	w.settle()
	if s := b.prekeyStatus(); !s.Fallback || s.Fallbacks != 1 {
		t.Errorf("after a fallback: %+v", s)
	}
	w.home.deaf = false
	w.now = w.now.Add(time.Hour)
	b.shelf().oneTime = nil
	w.home.conflict = func(protocol.PrekeyID) bool { return true }
	b.syncPrekeys()
	if s := b.prekeyStatus(); s.LastConflict.IsZero() || s.LastProblem == "" {
		t.Errorf("after a conflict: %+v", s)
	}
}
