package engine

import (
	"bytes"
	"crypto/rand"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/store"
)

// state is everything a node knows but events, to see that nothing changed.
func (n *node) state() []string {
	n.w.t.Helper()
	var rows []string
	n.view(func(tx store.Tx) error {
		for pair, err := range tx.Scan([]byte{0}, nil) {
			if err != nil {
				return err
			}
			if t := pair.Key[0]; t != tableEvent && t != tableCounts {
				rows = append(rows, string(pair.Key)+"="+string(pair.Value))
			}
		}
		return nil
	})
	return rows
}

// forge makes an envelope that claims to open a session from one node to
// another, without a private key of the claimed sender.
func forge(t *testing.T, w *world, claimed, attacker, to *node) []byte {
	bundle := bundleOf(t, w, to)
	s, err := session.Initiate(w.now, attacker.self(), bundle, session.NextGen(w.now, 0)+1000, false)
	w.check(err)
	_, env, err := s.Encrypt(w.now, []byte("not a content"))
	w.check(err)
	o, rest, err := envelope.ParseOpening(env)
	w.check(err)
	o.Cert, o.Sender = claimed.self().Cert, claimed.device()
	return append(o.Marshal(), rest...)
}

func bundleOf(t *testing.T, w *world, n *node) envelope.Bundle {
	t.Helper()
	b, err := readBundle(n.self().Cert, w.home.bundle(n.device()))
	w.check(err)
	return b
}

func TestIM06_ForgeryReplayAndReflectionAreRejected(t *testing.T) {
	w, a, b := pair(t)
	mallory := w.add("mallory")
	for _, text := range []string{"one", "two", "three"} {
		a.send(b, text)
		b.send(a, text)
		w.settle()
	}
	w.pass(time.Hour)
	want := b.history(a)
	before := b.state()

	t.Run("forged", func(t *testing.T) {
		if code := b.receive(forge(t, w, a, mallory, b), a.device(), Direct); code != protocol.Undecryptable {
			t.Errorf("a forged opening got %v", code)
		}
	})
	t.Run("reflected", func(t *testing.T) {
		for _, env := range b.sent {
			if code := b.receive(env, a.device(), Direct); code != protocol.Undecryptable {
				t.Errorf("an own envelope got %v", code)
			}
		}
	})
	t.Run("redirected", func(t *testing.T) {
		for _, env := range a.sent {
			if code := mallory.receive(env, a.device(), Direct); code != protocol.Undecryptable {
				t.Errorf("an envelope for somebody else got %v", code)
			}
		}
		if len(mallory.history(a)) != 0 {
			t.Error("somebody else read it")
		}
	})
	t.Run("replayed", func(t *testing.T) {
		for _, env := range slices.Concat(a.sent, a.sent) {
			if code := b.receive(env, a.device(), Direct); code != protocol.OK {
				t.Errorf("a replay got %v", code)
			}
		}
	})
	if !reflect.DeepEqual(b.history(a), want) {
		t.Error("the conversation changed")
	}
	if !slices.Equal(before, b.state()) {
		t.Error("the store changed")
	}
}

// A sender that may open sessions cannot use up somebody else's share of the
// openings, nor more than its own.
func TestIM06_OpeningsAreLimited(t *testing.T) {
	w, a, b := pair(t)
	mallory := w.add("mallory")
	for range 200 {
		b.receive(forge(t, w, a, mallory, b), protocol.DeviceID{}, Mailbox)
		w.now = w.now.Add(100 * time.Millisecond)
	}
	w.now = w.now.Add(time.Minute)
	accepted := 0
	for range 20 {
		s, err := session.Initiate(w.now, a.self(), bundleOf(t, w, b), session.NextGen(w.now, 0)+1000, false)
		w.check(err)
		_, env, err := s.Encrypt(w.now, nil)
		w.check(err)
		o, err := b.open(env)
		if err != nil && protocol.CodeOf(err) != protocol.RateLimited {
			t.Fatal(err)
		}
		if o.opening != nil {
			accepted++
		}
	}
	if accepted != 5 { // one of six was used to become a contact
		t.Errorf("%d openings of one device were accepted", accepted)
	}
}

func TestIM12_UndecryptableIsAnEvent(t *testing.T) {
	flip := func(at int) func(env []byte) []byte {
		return func(env []byte) []byte {
			env = bytes.Clone(env)
			env[(len(env)+at)%len(env)] ^= 1
			return env
		}
	}
	cases := []struct {
		name, cause string
		code        protocol.Code
		change      func(w *world, a, b *node, env []byte) []byte
	}{
		{"noise", CauseMalformed, protocol.Undecryptable, func(*world, *node, *node, []byte) []byte { return []byte("hello there, this is no envelope") }},
		{"empty", CauseMalformed, protocol.Undecryptable, func(*world, *node, *node, []byte) []byte { return nil }},
		{"too large", CauseMalformed, protocol.Undecryptable, func(_ *world, _, _ *node, env []byte) []byte {
			return append(bytes.Clone(env), make([]byte, protocol.MaxEnvelope)...)
		}},
		{"tag", CauseBadTag, protocol.Undecryptable, func(_ *world, _, _ *node, env []byte) []byte { return flip(-1)(env) }},
		{"header", CauseBadTag, protocol.Undecryptable, func(_ *world, _, _ *node, env []byte) []byte { return flip(25)(env) }},
		{"role", CauseMalformed, protocol.Undecryptable, func(_ *world, _, _ *node, env []byte) []byte { return flip(3)(env) }},
		{"session", CauseUnknownSession, protocol.Undecryptable, func(_ *world, _, _ *node, env []byte) []byte { return flip(4)(env) }},
		{"zero session", CauseUnknownSession, protocol.Undecryptable, func(_ *world, _, _ *node, env []byte) []byte {
			env = bytes.Clone(env)
			clear(env[4:20])
			return env
		}},
		{"prekey gone", CauseExpiredPrekey, protocol.StaleKey, func(w *world, a, b *node, _ []byte) []byte {
			env := opening(w, a, b)
			rand.Read(env[92:108])
			return env
		}},
		{"unknown sender", CauseUnknownSender, protocol.Undecryptable, func(w *world, a, b *node, _ []byte) []byte {
			stranger := w.addDevice(a) // never in the chain the rendezvous has
			return opening(w, stranger, b)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w, a, b := pair(t)
			w.settle()
			a.send(b, "text")
			env := c.change(w, a, b, a.queue(b)[0].Envelope)
			before := len(b.history(a))
			if code := b.receive(env, a.device(), Direct); code != c.code {
				t.Errorf("code %v, want %v", code, c.code)
			}
			events := b.events(KindUndecryptable)
			if len(events) != 1 || events[0].Cause != c.cause || events[0].Message != nil {
				t.Errorf("events %+v, want one with cause %s", events, c.cause)
			}
			if len(b.history(a)) != before {
				t.Error("a message appeared")
			}
			if w.settle(); len(b.history(a)) != before+1 {
				t.Error("the real message did not come afterwards")
			}
		})
	}
}

// opening is the envelope of a new session with something in it.
func opening(w *world, from, to *node) []byte {
	w.t.Helper()
	b, err := readBundle(to.self().Cert, w.home.bundle(to.device()))
	w.check(err)
	s, err := session.Initiate(w.now, from.self(), b, session.NextGen(w.now, 0)+1000, false)
	w.check(err)
	_, env, err := s.Encrypt(w.now, []byte("x"))
	w.check(err)
	return env
}

func TestIM12_SkippedTooFar(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	for range protocol.MaxSkip + 2 {
		a.send(b, "")
	}
	last := a.lastQueued(b)
	if code := b.receive(last, a.device(), Direct); code != protocol.Undecryptable {
		t.Fatalf("code %v", code)
	}
	if events := b.events(KindUndecryptable); len(events) != 1 || events[0].Cause != CauseSkippedTooFar {
		t.Fatalf("events %+v", events)
	}
}

func (n *node) lastQueued(to *node) []byte {
	n.w.t.Helper()
	var env []byte
	n.view(func(tx store.Tx) error {
		for after := uint64(0); ; {
			list, err := n.e.Queue(tx, n.w.now, to.device(), after, 1<<20, 1000)
			if err != nil || len(list) == 0 {
				return err
			}
			after, env = list[len(list)-1].N, list[len(list)-1].Envelope
		}
	})
	return env
}

// A flood of rubbish makes neither a flood of events nor of repairs.
func TestIM12_RubbishIsBounded(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	a.send(b, "text")
	env := a.queue(b)[0].Envelope
	env[len(env)-1] ^= 1
	for range 500 {
		b.receive(env, protocol.DeviceID{}, Mailbox)
		b.receive([]byte("rubbish"), protocol.DeviceID{}, Mailbox)
		w.now = w.now.Add(time.Second)
		w.settle()
	}
	if n := len(b.events(KindUndecryptable)); n > maxTroubles {
		t.Errorf("%d events", n)
	}
	if n := len(b.events(KindNotice)); n != 1 {
		t.Errorf("%d repairs in 9 minutes", n)
	}
	w.pass(time.Hour)
	if got := texts(b.history(a)); !slices.Equal(got, []string{"text"}) {
		t.Errorf("conversation %q", got)
	}
}
