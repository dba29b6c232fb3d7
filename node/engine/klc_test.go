package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/store"
)

// A key is taken for nothing but what it was made for.
func TestKLC02_KeysHaveOnePurpose(t *testing.T) {
	w, _, b := pair(t)
	bundle := bundleOf(t, w, b)
	if err := bundle.Verify(w.now); err != nil {
		t.Fatal(err)
	}
	other, err := prekey.NewOneTime(w.now, w.now.Add(time.Hour), b.device(), b.e.id.DSK)
	w.check(err)
	asSigned := bundle
	asSigned.Signed = other.Record
	asOneTime := bundle
	asOneTime.OneTime = &bundle.Signed
	for name, bad := range map[string]interface{ Verify(time.Time) error }{"one-time as signed": asSigned, "signed as one-time": asOneTime} {
		if bad.Verify(w.now) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := b.chain().AddDevice(w.now, w.nodes[0].aik(), b.self().Cert); err == nil {
		t.Error("the chain takes statements of another account's key")
	}
}

// thief has a copy of a node's store and tries every envelope on every session
// in it.
type thief struct {
	sessions []session.State
	e        *Engine
	n        *node
}

func (n *node) robbed() *thief {
	copied := &node{w: n.w, name: "thief", kv: n.copyStore()}
	copied.load()
	th := &thief{e: copied.e, n: copied}
	for _, pair := range copied.rows(tableSession) {
		s, err := session.ParseState(pair.Value)
		n.w.check(err)
		th.sessions = append(th.sessions, s)
	}
	return th
}

// reads tells whether any stolen session, going on from what it read before,
// or any stolen prekey opens the envelope.
func (th *thief) reads(w *world, env []byte) bool {
	if o, err := th.n.open(env); err == nil && o.opening != nil {
		return true
	}
	for i, s := range th.sessions {
		if next, _, err := s.Decrypt(w.now, env); err == nil {
			th.sessions[i] = next
			return true
		}
	}
	return false
}

// Who copies the store reads nothing of what was received before, whether on
// its session or by opening that session again.
func TestKLC06_ForwardSecrecy(t *testing.T) {
	w, a, b := pair(t)
	for range 5 {
		a.send(b, "before")
		w.settle()
		b.send(a, "answer")
		w.settle()
	}
	w.pass(time.Minute)
	th := b.robbed()
	for i, env := range slices.Concat(a.sent, b.sent) {
		if th.reads(w, env) {
			t.Errorf("envelope %d can be read", i)
		}
	}
	for _, table := range []byte{tableOut, tableKept, tableWaiting, tableHeld} {
		if n := len(b.rows(table)); n != 0 {
			t.Errorf("%d rows with contents are left in table %c", n, table)
		}
	}
}

// Who copied the store and only listens reads nothing after a round trip.
func TestKLC07_Healing(t *testing.T) {
	w, a, b := pair(t)
	a.send(b, "before")
	w.pass(time.Minute)
	th := b.robbed()

	sent := len(a.sent)
	a.send(b, "the thief reads this")
	w.settle()
	if !th.reads(w, a.sent[sent]) {
		t.Error("the test does not test: a thief reads the next message")
	}
	b.send(a, "a new key from here")
	w.settle()
	sent = len(a.sent)
	a.send(b, "healed")
	w.settle()
	for _, env := range a.sent[sent:] {
		if th.reads(w, env) {
			t.Error("the thief still reads")
		}
	}
}

// A stolen session opens nothing of another one.
func TestKLC08_SessionsAreSeparate(t *testing.T) {
	w, a, b := pair(t)
	a.send(b, "old session")
	w.settle()
	th := b.robbed()
	b.do(func(tx store.Tx) (Hint, error) { // the thief got no prekeys
		return Hint{}, nil
	})
	th.n.do(func(tx store.Tx) (Hint, error) {
		for pair, err := range tx.Scan([]byte{tableOneTime}, store.PrefixEnd([]byte{tableOneTime})) {
			if err != nil {
				return Hint{}, err
			}
			if err := tx.Delete(pair.Key); err != nil {
				return Hint{}, err
			}
		}
		return Hint{}, nil
	})
	a.loseSessions(b)
	sent := len(a.sent)
	a.send(b, "new session")
	w.settle()
	if len(b.history(a)) != 2 {
		t.Fatal("the message did not come")
	}
	for _, env := range a.sent[sent:] {
		if th.reads(w, env) {
			t.Error("the old session opens the new one")
		}
	}
}

// Old keys of messages that never came are destroyed, also in a session that
// nobody uses any more.
func TestKLC04_SkippedKeysExpire(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	a.send(b, "never comes")
	a.send(b, "comes")
	queue := a.queue(b)
	deliverAll(w, a, b, queue, 1)
	a.away, a.offline, b.away, b.offline = true, true, true, true
	missing := queue[0].Envelope
	if th := b.robbed(); !th.reads(w, missing) {
		t.Fatal("the test does not test: the key is kept at first")
	}
	w.pass(protocol.MailboxTTL + 24*time.Hour)
	if th := b.robbed(); th.reads(w, missing) {
		t.Error("the key is still there")
	}
}
