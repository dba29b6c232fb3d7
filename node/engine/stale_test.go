package engine

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// The keys a message was sealed to are gone: it is sealed anew and comes once,
// whether the sender is told or has to be asked.
func TestIM14_StaleKey(t *testing.T) {
	for name, direct := range map[string]bool{"told": true, "by mailbox": false} {
		t.Run(name, func(t *testing.T) {
			w, a, b := pair(t)
			a.loseSessions(b)
			b.away, b.offline = true, !direct
			a.away = direct
			if direct {
				a.offline = true
			}
			a.hint.Lookup = nil
			a.send(b, "one")
			a.lookUp(b.account(), true)
			a.send(b, "two")
			if !direct {
				w.settle() // into the mailbox
			}
			b.drop(tableOneTime) // bob lost them
			b.drop(tableStock)
			b.shelf().oneTime = nil
			b.syncPrekeys()
			a.away, a.offline, b.away, b.offline = false, false, false, false
			w.pass(20 * time.Minute)
			if got := texts(b.history(a)); !slices.Equal(got, []string{"one", "two"}) {
				t.Fatalf("received %q", got)
			}
			for _, m := range a.history(b) {
				if m.State != StateDelivered {
					t.Errorf("%q is %s", m.Text, m.State)
				}
			}
			w.pass(time.Minute)
			w.checkEmpty()
		})
	}
}

// sealedToGone is a message of alice to bob that is sealed to prekeys which bob
// has no more. Neither reaches the rendezvous.
func sealedToGone(t *testing.T) (w *world, a, b *node, id protocol.MsgID) {
	t.Helper()
	w, a, b = pair(t)
	w.pass(time.Minute)
	a.away = true
	a.loseSessions(b)
	id = a.send(b, "text")
	a.lookUp(b.account(), true)
	b.drop(tableOneTime)
	a.offline, b.offline, a.hint.Lookup = true, true, nil
	return w, a, b, id
}

// refuse hands bob an envelope, who is to refuse it and offer other keys.
func refuse(t *testing.T, a, b *node, q Queued) *wire.Bundle {
	t.Helper()
	code := b.receive(q.Envelope, a.device(), Direct)
	offer := b.offer(a.device(), q.Envelope, code)
	if code != protocol.StaleKey || offer == nil {
		t.Fatalf("%v, with keys: %v", code, offer != nil)
	}
	return offer
}

func (n *node) refused(q Queued, offer *wire.Bundle) {
	n.w.t.Helper()
	n.answered(q, protocol.StaleKey, offer, nil)
}

// The keys come with the refusal: no rendezvous is needed, and whatever is lost
// or repeated on the way, the message is shown once.
func TestIM14_KeysComeWithTheRefusal(t *testing.T) {
	accept := func(t *testing.T, a, b *node, q Queued) {
		t.Helper()
		if code := b.receive(q.Envelope, a.device(), Direct); code != protocol.OK {
			t.Fatalf("sealed anew: %v", code)
		}
	}
	tests := map[string]func(t *testing.T, a, b *node, q Queued){
		"nothing is lost": func(t *testing.T, a, b *node, q Queued) {
			a.refused(q, refuse(t, a, b, q))
		},
		"the refusal is lost": func(t *testing.T, a, b *node, q Queued) {
			lost := refuse(t, a, b, q)
			again := refuse(t, a, b, q)
			if !bytes.Equal(lost.GetOneTimeRecord(), again.GetOneTimeRecord()) {
				t.Error("two prekeys for one session")
			}
			a.refused(q, again)
		},
		"the refusal comes twice": func(t *testing.T, a, b *node, q Queued) {
			offer := refuse(t, a, b, q)
			a.refused(q, offer)
			before := a.state()
			a.refused(q, offer)
			if !slices.Equal(before, a.state()) {
				t.Error("the second changed something")
			}
		},
		"the answer to the new one is lost": func(t *testing.T, a, b *node, q Queued) {
			a.refused(q, refuse(t, a, b, q))
			accept(t, a, b, a.queue(b)[0])
		},
		"the old one comes again": func(t *testing.T, a, b *node, q Queued) {
			a.refused(q, refuse(t, a, b, q))
			accept(t, a, b, a.queue(b)[0])
			if code := b.receive(q.Envelope, a.device(), Direct); code != protocol.StaleKey {
				t.Errorf("the old one: %v", code)
			}
		},
		"the refusal comes after the answer of a new one": func(t *testing.T, a, b *node, q Queued) {
			offer := refuse(t, a, b, q)
			a.refused(q, offer)
			next := a.queue(b)[0]
			accept(t, a, b, next)
			a.delivered(next)
			a.refused(next, offer)
		},
	}
	for name, happens := range tests {
		t.Run(name, func(t *testing.T) {
			w, a, b, id := sealedToGone(t)
			happens(t, a, b, a.queue(b)[0])
			if len(a.hint.Lookup) > 0 {
				t.Error("a look-up is asked for")
			}
			a.away = false
			w.pass(time.Minute)
			if got := texts(b.history(a)); !slices.Equal(got, []string{"text"}) || a.message(id).State != StateDelivered {
				t.Errorf("received %q, %s", got, a.message(id).State)
			}
			w.checkEmpty()
		})
	}
}

// Keys that come with a refusal are verified like any others; what cannot be
// verified, or comes when too little is known of the account, is not used.
func TestIM14_OfferedKeysAreVerified(t *testing.T) {
	tests := map[string]struct {
		offer  func(w *world, b *node, offer *wire.Bundle)
		notice string
	}{
		"another signature": {func(_ *world, _ *node, offer *wire.Bundle) { offer.SignedRecord[1330] ^= 1 }, NoticeBadBundle},
		"another RSA key":   {func(_ *world, _ *node, offer *wire.Bundle) { offer.Rsa[100] ^= 1 }, NoticeBadBundle},
		"another's keys": {func(w *world, _ *node, offer *wire.Bundle) {
			proto.Merge(offer, w.home.bundle(w.add("mallory").device()))
		}, NoticeBadBundle},
		"of a day ago": {func(w *world, _ *node, _ *wire.Bundle) { w.now = w.now.Add(25 * time.Hour) }, ""},
		"a change is known": {func(w *world, b *node, _ *wire.Bundle) {
			a := w.nodes[0]
			a.do(func(tx store.Tx) (Hint, error) { return a.e.Changed(tx, w.now, []protocol.AccountID{b.account()}) })
		}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, a, b, id := sealedToGone(t)
			q := a.queue(b)[0]
			offer := refuse(t, a, b, q)
			tt.offer(w, b, offer)
			a.refused(q, offer)
			if queued, waiting := a.counts(); queued != 0 || waiting != 1 {
				t.Errorf("%d sealed, %d waiting", queued, waiting)
			}
			if got := a.notices(NoticeBadBundle); (got > 0) != (tt.notice != "") {
				t.Errorf("%d notices", got)
			}
			a.away, a.offline, b.offline = false, false, false
			b.syncPrekeys()
			w.pass(time.Hour)
			if got := texts(b.history(a)); !slices.Equal(got, []string{"text"}) || a.message(id).State != StateDelivered {
				t.Errorf("received %q, %s", got, a.message(id).State)
			}
		})
	}
}

// A contact who says for ever that the keys are gone gets few sessions opened for
// it, and the user is told. When it stops, the message comes.
func TestIM14_RefusalsForEver(t *testing.T) {
	w, a, b, id := sealedToGone(t)
	opened := map[protocol.SessionID]bool{}
	for range 500 { // one a minute
		q := a.queue(b)[0]
		session, _, err := session.PeekSession(q.Envelope)
		w.check(err)
		opened[session] = true
		offer, err := b.give(a.device(), byte(len(opened)))
		if err != nil {
			offer = w.home.bundle(b.device()) // its prekeys are gone; the liar has no honest one left either
		}
		a.refused(q, offer)
		w.now = w.now.Add(time.Minute)
	}
	if len(opened) < 2 || len(opened) > 10 {
		t.Errorf("%d sessions were opened in %v", len(opened), 500*time.Minute)
	}
	if got := a.notices(NoticeKeysRefused); got < 1 || got > 4 {
		t.Errorf("told %d times", got)
	}
	if m := a.message(id); m.State != StateQueued {
		t.Errorf("the message is %s", m.State)
	}
	a.away, a.offline, b.offline = false, false, false
	b.syncPrekeys()
	w.pass(24 * time.Hour)
	if got := texts(b.history(a)); !slices.Equal(got, []string{"text"}) || a.message(id).State != StateDelivered {
		t.Errorf("received %q, %s", got, a.message(id).State)
	}
	w.checkEmpty()
}
