package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/store"
)

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
	codes := []protocol.Code{a.restart(), copied.restart(), a.restart()}
	if want := []protocol.Code{protocol.OK, protocol.StoreRolledBack, protocol.OK}; !slices.Equal(codes, want) {
		t.Errorf("a device and its copy are told %v, want %v", codes, want)
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
