package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/store"
)

func (n *node) rotate(what Rotation) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.RotateKeys(tx, n.w.now, what) })
}

func (n *node) addRSA(k key.RSAPrivate) {
	n.w.t.Helper()
	n.hint.NewRSA = false
	n.do(func(tx store.Tx) (Hint, error) { return n.e.AddRSA(tx, n.w.now, k) })
}

// session is the one that a node would send on.
func (n *node) session(to *node) (id protocol.SessionID) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		d, _, err := load[deviceRow](tx, keyDevice(to.device()))
		id, _ = d.choose(n.w.now)
		return err
	})
	return id
}

// The RSA key goes with the year, or when asked. The next signed prekey names
// the new one; what was sealed to the old one opens until nothing can come for
// it any more, and then it is destroyed.
func TestRotateRSA(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	old := b.rsaKey().Public().Hash()
	early := opening(w, a, b) // sealed to the old keys, and on its way for long
	b.rotate(RotateRSA)
	if !b.hint.NewRSA {
		t.Fatal("no key is asked for")
	}
	before := b.prekeyStatus().Signed
	b.rotate(RotateSigned)
	w.settle()
	if s := b.prekeyStatus(); s.Signed == before || !s.SignedLive || s.RSA != old || !s.RSAWanted {
		t.Fatalf("the signed prekey waits for the RSA key: %+v", s)
	}
	w.now = w.now.Add(time.Minute)
	b.addRSA(keytest.RSA(t, 1))
	w.settle()
	s := b.prekeyStatus()
	if s.RSA == old || s.RSAWanted || !s.SignedLive || b.shelf().rsa == nil {
		t.Fatalf("not replaced: %+v", s)
	}
	if r, err := prekey.Parse(b.shelf().signed); err != nil || r.RSAHash != s.RSA {
		t.Error("the published prekey names the old key")
	}
	b.addRSA(keytest.RSA(t, 0)) // nobody asked
	if b.prekeyStatus().RSA != s.RSA {
		t.Error("a key that nobody asked for is taken")
	}
	a.loseSessions(b)
	a.send(b, "to the new key")
	w.settle()
	if code := b.receive(early, a.device(), Mailbox); code != protocol.OK && code != protocol.BadRequest {
		t.Errorf("what was sealed to the old key: %v", code)
	}
	if n := len(b.rows(tableRSA)); n != 2 {
		t.Errorf("%d RSA keys", n)
	}
	w.pass(prekey.SignedKeep + 24*time.Hour)
	if rows := b.rows(tableRSA); len(rows) != 1 || [32]byte(rows[0].Key[1:]) != s.RSA {
		t.Errorf("%d RSA keys are left", len(rows))
	}
	b.load()
	w.now = w.now.Add(400 * 24 * time.Hour)
	w.pass(time.Hour)
	if !b.hint.NewRSA && !b.prekeyStatus().RSAWanted {
		t.Error("no new key is asked for after a year")
	}
}

// Many openings without one-time prekeys replace the signed one at once, but
// not more than once an hour.
func TestFloodWithoutOneTime(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	w.pass(2 * time.Hour)
	first := b.prekeyStatus().Signed
	use := func() {
		b.do(func(tx store.Tx) (Hint, error) {
			e, err := b.e.begin(tx, w.now)
			if err != nil {
				return Hint{}, err
			}
			if err := e.usedFallback(b.prekeyStatus().Signed); err != nil {
				return Hint{}, err
			}
			return e.end()
		})
	}
	for range floodUses - 1 {
		use()
	}
	w.pass(time.Minute)
	if b.prekeyStatus().Signed != first {
		t.Error("replaced too early")
	}
	use()
	w.pass(time.Minute)
	second := b.prekeyStatus().Signed
	if second == first {
		t.Fatal("not replaced")
	}
	for range 10 * floodUses {
		use()
	}
	w.pass(30 * time.Minute)
	if b.prekeyStatus().Signed != second {
		t.Error("replaced twice within an hour")
	}
	w.pass(time.Hour)
	if b.prekeyStatus().Signed == second {
		t.Error("not replaced after an hour")
	}
	_ = a
}

// While the newest signed prekey that others get has expired nothing leaves;
// what is written waits, and says why. A new one ends that.
func TestKLC05_ExpiredPrekeyHoldsBack(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	a.offline, b.offline = true, true // only each other
	a.send(b, "while all is well")
	w.settle()
	w.pass(prekey.SignedExpires - 24*time.Hour)
	a.send(b, "still well")
	w.settle()
	w.pass(48 * time.Hour)
	id := a.send(b, "too old")
	w.settle()
	if got := len(b.history(a)); got != 2 {
		t.Fatalf("%d messages came", got)
	}
	checkHeld(t, a, id, HeldOld)
	a.load() // also after a new start
	a.tick()
	w.settle()
	checkHeld(t, a, id, HeldOld)
	w.home.deaf = true
	a.offline = false
	w.pass(time.Minute)
	checkHeld(t, a, id, HeldOld) // uploaded, but not confirmed
	w.home.deaf = false
	a.hint.Prekeys = true
	w.pass(time.Minute)
	if s := a.prekeyStatus(); s.Held != "" || len(b.history(a)) != 3 {
		t.Errorf("after the upload: %+v, %d messages", s, len(b.history(a)))
	}
}

func checkHeld(t *testing.T, n *node, id protocol.MsgID, want string) {
	t.Helper()
	if s := n.prekeyStatus(); s.Held != want {
		t.Errorf("held: %q, want %q", s.Held, want)
	}
	var steps []Step
	n.view(func(tx store.Tx) (err error) {
		_, steps, err = n.e.Trace(tx, n.w.now, id)
		return err
	})
	if !slices.ContainsFunc(steps, func(s Step) bool { return s.What == "waiting" && strings.Contains(s.Detail, want) }) {
		t.Errorf("the trace does not say why: %+v", steps)
	}
	if m := n.message(id); m.State != StateQueued {
		t.Errorf("the message is %s", m.State)
	}
}

// A clock that was ahead made the prekey in the future: it is replaced first.
func TestKLC05_ClockMovedBack(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	real := w.now
	w.now = real.Add(20 * time.Hour) // as far as the rendezvous takes it
	a.rotate(RotateSigned)
	w.settle()
	w.now = real.Add(time.Minute)
	a.offline = true
	id := a.send(b, "by the right clock")
	a.tick()
	w.settle()
	if len(b.history(a)) != 0 {
		t.Fatal("it left")
	}
	checkHeld(t, a, id, HeldClock)
	before := a.prekeyStatus().Signed
	a.offline = false
	w.settle()
	w.pass(time.Minute)
	s := a.prekeyStatus()
	if s.Held != "" || s.Signed == before || s.SignedSince.After(w.now) || len(b.history(a)) != 1 {
		t.Errorf("after the rotation: %+v, %d messages", s, len(b.history(a)))
	}
}

// The rendezvous hands out the newest by date, in seconds: two rotations within
// one second are both taken.
func TestRotateTwiceInASecond(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	for range 3 {
		before := a.prekeyStatus().Signed
		a.rotate(RotateSigned)
		a.syncPrekeys()
		if s := a.prekeyStatus(); s.Signed == before || !s.SignedLive || recordID(a.shelf().signed) != s.Signed {
			t.Fatalf("%+v", s)
		}
	}
}

// Sessions are replaced with the next message to a device. Until the new one is
// there the old one goes on, also without a rendezvous.
func TestRotateSessions(t *testing.T) {
	w, a, b := pair(t)
	a.send(b, "one")
	w.settle()
	b.send(a, "two")
	w.pass(time.Minute)
	old := a.session(b)
	w.now = w.now.Add(time.Minute)
	a.rotate(RotateSessions)
	w.settle()
	if a.session(b) != old {
		t.Error("replaced before anything was sent")
	}
	a.offline = true
	a.send(b, "on the old one")
	w.settle()
	if a.session(b) != old || len(b.history(a)) != 3 {
		t.Error("it waits for the rendezvous")
	}
	a.offline = false
	w.pass(time.Minute)
	if a.session(b) == old {
		t.Error("not replaced")
	}
	fresh := a.session(b)
	for i := range 5 {
		a.send(b, fmt.Sprint("new ", i))
		b.send(a, fmt.Sprint("new ", i))
		w.settle()
	}
	w.pass(time.Hour)
	if a.session(b) != fresh || b.session(a) != fresh {
		t.Error("the two do not agree on the new session")
	}
	if n := len(a.events(KindNotice)) + len(b.events(KindNotice)); n != 0 {
		t.Errorf("%d notices", n)
	}
	w.checkEmpty()
}

// Two nodes write to each other while everything rotates: nothing is lost,
// doubled or out of order, and nothing is ever undecryptable.
func TestKLC03_RotationUnderLoad(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	const rounds, each = 60, 25
	for i := range rounds {
		n := []*node{a, b}[i%2]
		w.now = w.now.Add(time.Hour)
		switch what := []Rotation{RotateSigned, RotateSessions, RotateRSA, RotateAll}[i/2%4]; what {
		case RotateRSA, RotateAll:
			n.rotate(what)
			n.addRSA(keytest.RSA(t, (i/8+1)%keytest.RSAKeys))
		default:
			n.rotate(what)
		}
		for j := range each {
			a.send(b, fmt.Sprint(i, " ", j))
			b.send(a, fmt.Sprint(i, " ", j))
			if j%10 == 5 {
				w.settle()
			}
		}
		if i%7 == 3 {
			n.load() // a new start
		}
	}
	w.settle()
	w.pass(time.Hour)
	for _, n := range []*node{a, b} {
		other := []*node{b, a}[slices.Index([]*node{a, b}, n)]
		want := make([]string, 0, rounds*each)
		for i := range rounds {
			for j := range each {
				want = append(want, fmt.Sprint(i, " ", j))
			}
		}
		var got []string
		for _, m := range n.history(other) {
			if !m.Mine {
				got = append(got, m.Text)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %d messages, want %d in order", n.name, len(got), len(want))
		}
		if bad := n.events(KindUndecryptable); len(bad) != 0 {
			t.Errorf("%s could not open %d, first %+v", n.name, len(bad), bad[0])
		}
	}
	w.checkEmpty()
}

// The RSA key is used when a session begins, and never after: without it all
// later messages open.
func TestKLC14_RSAOncePerSession(t *testing.T) {
	w, a, b := pair(t)
	a.send(b, "begins the session")
	w.settle()
	b.send(a, "answer")
	w.settle()
	b.drop(tableRSA)
	b.e.rsas = rsaCache{}
	for i := range 100 {
		a.send(b, fmt.Sprint(i))
	}
	w.pass(time.Minute)
	if n := len(b.history(a)); n != 102 {
		t.Errorf("%d messages", n)
	}
	w.now = w.now.Add(time.Minute)
	a.loseSessions(b)
	a.send(b, "begins another")
	w.settle()
	if n := len(b.history(a)); n != 102 {
		t.Error("a session began without the RSA key")
	}
}
