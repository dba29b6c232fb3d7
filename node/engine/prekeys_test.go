package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func (n *node) prekeyStatus() (s PrekeyStatus) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		s, err = n.e.PrekeyStatus(tx)
		return err
	})
	return s
}

// bothKinds runs a test against a rendezvous that tells the digest of the
// stock, and against one that does not.
func bothKinds(t *testing.T, fn func(t *testing.T, w *world)) {
	for name, terse := range map[string]bool{"with digest": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.home.terse = terse
			fn(t, w)
		})
	}
}

func (n *node) shelf() *shelf { return n.w.home.devices[n.device()] }

// Ten minutes in which every upload conflicts: few requests, one notice, and
// all is well afterwards.
func TestOTK03_ConflictsEndInOneRound(t *testing.T) {
	bothKinds(t, func(t *testing.T, w *world) {
		a := w.add("alice")
		s := a.shelf()
		s.oneTime = s.oneTime[90:]
		w.home.conflict = func(protocol.PrekeyID) bool { return true }
		requests := 0
		for range 600 {
			requests += a.syncPrekeys()
			w.now = w.now.Add(time.Second)
		}
		if requests >= 10 {
			t.Errorf("%d requests", requests)
		}
		if n := a.events(KindNotice); len(n) != 1 || n[0].Cause != NoticePrekeyConflict {
			t.Errorf("notices %+v", n)
		}
		if p := a.prekeyStatus().LastProblem; p != "key_conflict" {
			t.Errorf("problem %q", p)
		}
		w.home.conflict = nil
		w.now = w.now.Add(time.Hour)
		requests = a.syncPrekeys()
		if st := a.prekeyStatus(); requests != 1 || st.Published != protocol.PrekeyStock || st.LastProblem != "" {
			t.Errorf("%d requests, status %+v", requests, st)
		}
	})
}

func TestOTK03_OneConflictingKey(t *testing.T) {
	bothKinds(t, func(t *testing.T, w *world) {
		a := w.add("alice")
		s := a.shelf()
		s.oneTime = s.oneTime[50+1:]
		first := true
		w.home.conflict = func(protocol.PrekeyID) bool {
			defer func() { first = false }()
			return first
		}
		if n := a.syncPrekeys(); n != 1 {
			t.Errorf("%d requests", n)
		}
		if n := len(s.oneTime); n != protocol.PrekeyStock-1 {
			t.Errorf("%d published", n)
		}
		if n := len(a.rows(tableOneTime)); n != protocol.PrekeyStock+51-1 {
			t.Errorf("%d private halves", n) // those taken off the shelf are kept, the conflicting one is not
		}
	})
}

// The process dies at every point of an upload. The same keys are uploaded
// again, and no id ever has two keys.
func TestOTK04_CrashAtEveryPoint(t *testing.T) {
	die := errors.New("dies")
	points := []struct {
		name string
		fn   func(t *testing.T, w *world, a *node)
	}{
		{"while generating", func(t *testing.T, w *world, a *node) {
			err := a.kv.Update(context.Background(), func(tx store.Tx) error {
				_, err := a.e.PrekeyPlan(tx, w.now, w.home.counts(a.device()))
				return errors.Join(err, die)
			})
			if !errors.Is(err, die) {
				t.Fatal(err)
			}
		}},
		{"before sending", func(t *testing.T, w *world, a *node) { a.plan(w.home.counts(a.device())) }},
		{"response lost", func(t *testing.T, w *world, a *node) {
			w.home.upload(a.device(), a.plan(w.home.counts(a.device())))
		}},
		{"while noting the response", func(t *testing.T, w *world, a *node) {
			up := a.plan(w.home.counts(a.device()))
			got := w.home.upload(a.device(), up)
			err := a.kv.Update(context.Background(), func(tx store.Tx) error {
				_, err := a.e.PrekeysStored(tx, w.now, up, got)
				return errors.Join(err, die)
			})
			if !errors.Is(err, die) {
				t.Fatal(err)
			}
		}},
	}
	for _, p := range points {
		bothKinds(t, func(t *testing.T, w *world) {
			t.Log(p.name)
			a := w.add("alice")
			a.shelf().oneTime = a.shelf().oneTime[90:]
			p.fn(t, w, a)
			sent := pending(a)
			a.load()
			again := a.plan(nil)
			if got := recordsOf(again); !slices.Equal(got, sent) {
				t.Fatalf("%d keys are sent again, %d were planned", len(got), len(sent))
			}
			if n := a.syncPrekeys(); n > 1 {
				t.Errorf("%d requests", n)
			}
			if n := len(a.shelf().oneTime); n != protocol.PrekeyStock {
				t.Errorf("%d published", n)
			}
			if len(a.events(KindNotice)) != 0 {
				t.Errorf("notices %+v", a.events(KindNotice))
			}
			if a.plan(nil) != nil {
				t.Error("something is still not confirmed")
			}
		})
	}
}

func pending(n *node) (ids []protocol.PrekeyID) {
	n.do(func(tx store.Tx) (Hint, error) {
		w, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return Hint{}, err
		}
		_, stock, err := w.prekeys()
		for _, s := range stock {
			if s.pending {
				ids = append(ids, s.id)
			}
		}
		return Hint{}, err
	})
	return ids
}

func recordsOf(up *wire.UploadPrekeys) (ids []protocol.PrekeyID) {
	for _, b := range up.GetOneTimeRecords() {
		ids = append(ids, recordID(b))
	}
	return ids
}

func TestOTK05_SilenceChangesNothing(t *testing.T) {
	bothKinds(t, func(t *testing.T, w *world) {
		a := w.add("alice")
		uploads := a.shelf().uploads
		before := a.state()
		for range 1000 {
			a.syncPrekeys()
			if up := a.plan(nil); up != nil {
				t.Fatal("an upload without counts")
			}
			if a.stored(&wire.UploadPrekeys{}, nil) {
				t.Fatal("an answer without counts asks for more")
			}
			w.now = w.now.Add(time.Minute)
		}
		if n := a.shelf().uploads - uploads; n != 0 {
			t.Errorf("%d uploads", n)
		}
		if !slices.Equal(before, a.state()) {
			t.Error("the store changed")
		}
	})
}

// The private half goes only once the first message has opened.
func TestOTK09_PrivateHalfOutlivesFailure(t *testing.T) {
	w, a, b := pair(t)
	env := opening(w, a, b)
	broken := slices.Clone(env)
	broken[len(broken)-1] ^= 1
	before := len(b.rows(tableOneTime))
	if code := b.receive(broken, a.device(), Direct); code != protocol.Undecryptable {
		t.Fatalf("code %v", code)
	}
	if n := len(b.rows(tableOneTime)); n != before {
		t.Fatalf("%d private halves, %d before the failure", n, before)
	}
	id := a.send(b, "good")
	w.settle()
	a.loseSessions(b)
	a.send(b, "on a new session")
	w.settle()
	if n := len(b.rows(tableOneTime)); n != before-1 {
		t.Errorf("%d private halves, %d before the success", n, before)
	}
	if s := a.message(id).State; s != StateDelivered || len(b.history(a)) != 2 {
		t.Errorf("state %s, %d messages", s, len(b.history(a)))
	}
}

// With an empty stock sessions open with the signed prekey; that is visible,
// it is replaced, and the old one is destroyed when nothing can need it.
func TestOTK10_Fallback(t *testing.T) {
	w, a, b := pair(t)
	b.shelf().oneTime = nil
	w.home.deaf = true // bob cannot refill
	a.loseSessions(b)
	a.send(b, "without a one-time key")
	w.settle()
	if len(b.history(a)) != 1 {
		t.Fatal("the message did not come")
	}
	if !b.prekeyStatus().Fallback {
		t.Error("the use is not visible")
	}
	if n := len(b.rows(tableReplay)); n != 1 {
		t.Errorf("%d openings are remembered", n)
	}
	opened := a.sent[len(a.sent)-1]
	if code := b.receive(opened, a.device(), Mailbox); code != protocol.OK {
		t.Errorf("the same again: %v", code)
	}
	b.loseSessions(a) // even then the opening is not accepted again
	if code := b.receive(opened, a.device(), Mailbox); code != protocol.OK || len(b.rows(tableSession)) != 0 {
		t.Errorf("the same again, taken in before: %v, %d sessions", code, len(b.rows(tableSession)))
	}
	b.drop(tableSeen)
	if code := b.receive(opened, a.device(), Mailbox); code != protocol.StaleKey {
		t.Errorf("the same again without the session: %v", code)
	}
	w.home.deaf = false
	first := recordID(b.shelf().signed)
	w.pass(25 * time.Hour)
	if second := recordID(b.shelf().signed); second == first || b.prekeyStatus().Fallback {
		t.Error("it was not replaced after its use")
	}
	published := map[protocol.PrekeyID]bool{}
	for range 60 {
		w.pass(24 * time.Hour)
		published[recordID(b.shelf().signed)] = true
		if n := len(b.rows(tableSigned)); n > 6 {
			t.Fatalf("%d signed prekeys are kept", n)
		}
	}
	if n := len(published); n < 7 || n > 11 {
		t.Errorf("%d signed prekeys in 60 days", n)
	}
	for _, pair := range b.rows(tableSigned) {
		if protocol.PrekeyID(pair.Key[1:]) == first {
			t.Error("the old one was not destroyed")
		}
	}
	if n := len(b.rows(tableReplay)); n != 0 {
		t.Errorf("%d openings are still remembered", n)
	}
}

func TestOTK11_RefillBelowTheMark(t *testing.T) {
	bothKinds(t, func(t *testing.T, w *world) {
		a := w.add("alice")
		s := a.shelf()
		s.oneTime = s.oneTime[protocol.PrekeyStock-protocol.PrekeyRefill:]
		if a.plan(w.home.counts(a.device())) != nil {
			t.Error("a refill at the mark")
		}
		s.oneTime = s.oneTime[1:]
		if n := a.syncPrekeys(); n != 1 || len(s.oneTime) != protocol.PrekeyStock {
			t.Errorf("%d requests, %d published", n, len(s.oneTime))
		}
	})
}

// A counter that is old by the time it is read makes no overfull stock.
func TestOTK06_OldCountsDoNotOverfill(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	s := a.shelf()
	s.oneTime = s.oneTime[60:]
	old := w.home.counts(a.device())
	a.syncPrekeys()
	if a.plan(old) != nil {
		t.Error("old counts made another upload")
	}
	if len(a.events(KindNotice)) != 0 {
		t.Errorf("notices %+v", a.events(KindNotice))
	}
}

// The rendezvous was set back and lost the last upload: the same keys go up
// again.
func TestKeysLostByTheRendezvous(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	s := a.shelf()
	s.oneTime = s.oneTime[60:]
	lost := slices.Clone(s.oneTime)
	s.oneTime = s.oneTime[:30]
	for _, b := range lost[30:] {
		delete(s.bound, recordID(b))
	}
	w.now = w.now.Add(time.Hour)
	if n := a.syncPrekeys(); n != 1 || !slices.EqualFunc(s.oneTime[:40], lost, slices.Equal) {
		t.Errorf("%d requests, %d published", n, len(s.oneTime))
	}
	if len(a.events(KindNotice)) != 0 {
		t.Errorf("notices %+v", a.events(KindNotice))
	}
}

func TestOTK12_OneIdentityPerStore(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	id, err := NewIdentityWith(w.now, "other", "", "", Home{}, w.rsa)
	w.check(err)
	err = a.kv.Update(context.Background(), func(tx store.Tx) error { return Init(tx, id) })
	if !errors.Is(err, ErrExists) {
		t.Errorf("%v", err)
	}
	copied := &node{w: w, name: "copy", kv: a.copyStore()}
	hello := func(n *node) (id [16]byte, ctr uint64) {
		n.do(func(tx store.Tx) (h Hint, err error) {
			e, err := Load(tx)
			if err != nil {
				return h, err
			}
			id, ctr, err = e.Hello(tx)
			return h, err
		})
		return id, ctr
	}
	_, before := hello(a)
	idA, ctrA := hello(a)
	idC, ctrC := hello(copied)
	if idA != idC || ctrC >= ctrA || before >= ctrA {
		t.Errorf("a copy says %d after %d: nobody would notice", ctrC, ctrA)
	}
}

// The store was set back: the rendezvous has keys that it does not know. The
// stock is replaced once, with a notice, and that is all.
func TestOTK14_AnotherStockIsReplacedOnce(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	old := a.copyStore()
	a.shelf().oneTime = a.shelf().oneTime[70:]
	a.syncPrekeys()
	a.kv = old
	a.load()
	requests := 0
	for range 100 {
		requests += a.syncPrekeys()
		w.now = w.now.Add(time.Minute)
	}
	if requests != 1 || len(a.shelf().oneTime) != protocol.PrekeyStock {
		t.Errorf("%d requests, %d published", requests, len(a.shelf().oneTime))
	}
	if n := a.events(KindNotice); len(n) != 1 || n[0].Cause != NoticePrekeyReset {
		t.Errorf("notices %+v", n)
	}
	for _, b := range a.shelf().oneTime {
		id := recordID(b)
		a.view(func(tx store.Tx) error {
			pair, err := loadPair(tx, keyOneTime(id))
			if pair == nil {
				t.Error("a published key without private half")
			}
			return err
		})
	}
}

func TestPrivateHalvesExpire(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	a.shelf().oneTime = nil // all claimed, none used
	a.syncPrekeys()
	if n := len(a.rows(tableOneTime)); n != 2*protocol.PrekeyStock {
		t.Fatalf("%d private halves", n)
	}
	w.home.deaf = true
	w.pass(prekey.OneTimeKeep + 24*time.Hour)
	if n := len(a.rows(tableOneTime)); n != 0 {
		t.Errorf("%d private halves after %v", n, prekey.OneTimeKeep)
	}
}

func TestPrekeysRefused(t *testing.T) {
	bothKinds(t, func(t *testing.T, w *world) {
		a := w.add("alice")
		a.shelf().oneTime = nil
		a.do(func(tx store.Tx) (Hint, error) {
			return Hint{}, a.e.PrekeysRefused(tx, w.now, &protocol.Error{Code: protocol.Unavailable, RetryAfter: 5 * time.Minute})
		})
		if a.syncPrekeys() != 0 || a.prekeyStatus().LastProblem != "unavailable" {
			t.Error("the pause is not kept")
		}
		w.now = w.now.Add(6 * time.Minute)
		if a.syncPrekeys() != 1 {
			t.Error("it does not go on")
		}
	})
}
