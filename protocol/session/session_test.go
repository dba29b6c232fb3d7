package session

import (
	"bytes"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/envelope/envelopetest"
)

// tester is a *testing.T, a *testing.B or a *rapid.T.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

var start = time.Unix(1_800_000_000, 0).UTC()

// pair returns two devices with a session, of which b has accepted the first
// message and a has opened an answer.
func pair(t testing.TB) (a, b State) {
	t.Helper()
	a, b = openedPair(t, true)
	return exchange(t, start, a, b)
}

// openedPair returns a session after b opened its first message.
func openedPair(t testing.TB, oneTime bool) (a, b State) {
	t.Helper()
	alice, bob := envelopetest.New(t, start, "alice", 0), envelopetest.New(t, start, "bob", 1)
	a, err := Initiate(start, alice.Identity, bob.Bundle(oneTime), NextGen(start, 0), false)
	check(t, err)
	a, env, err := a.Encrypt(start, []byte("first"))
	check(t, err)
	b, msg := acceptFirst(t, bob, env)
	if string(msg) != "first" {
		t.Fatalf("opened %q", msg)
	}
	return a, b
}

func acceptFirst(t testing.TB, d envelopetest.Device, env []byte) (State, []byte) {
	t.Helper()
	o, rest, err := envelope.ParseOpening(env)
	check(t, err)
	s, err := Accept(start, d.Identity, o, d.Signed, d.OneTimeFor(o), d.RSA)
	check(t, err)
	s, msg, err := s.Decrypt(start, rest)
	check(t, err)
	return s, msg
}

// exchange sends one message from b to a and one back.
func exchange(t tester, now time.Time, a, b State) (State, State) {
	t.Helper()
	b, a = send(t, now, b, a)
	return send(t, now, a, b)
}

// send sends one message from x to y.
func send(t tester, now time.Time, x, y State) (State, State) {
	t.Helper()
	x, env := encrypt(t, now, x, []byte("hello"))
	return x, decrypt(t, now, y, env, []byte("hello"))
}

func encrypt(t tester, now time.Time, s State, msg []byte) (State, []byte) {
	t.Helper()
	next, env, err := s.Encrypt(now, msg)
	check(t, err)
	return next, env
}

func decrypt(t tester, now time.Time, s State, env, want []byte) State {
	t.Helper()
	next, msg, err := s.Decrypt(now, message(t, env))
	check(t, err)
	if !bytes.Equal(msg, want) {
		t.Fatalf("opened %q, want %q", msg, want)
	}
	return next
}

// message is the ratchet message in an envelope.
func message(t tester, env []byte) []byte {
	t.Helper()
	_, opening, err := PeekSession(env)
	check(t, err)
	if !opening {
		return env
	}
	_, rest, err := envelope.ParseOpening(env)
	check(t, err)
	return rest
}

func check(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConversation(t *testing.T) {
	for _, oneTime := range []bool{true, false} {
		a, b := openedPair(t, oneTime)
		if a.ID() != b.ID() || a.Confirmed() || !b.Confirmed() || a.NoOneTime() == oneTime || b.NoOneTime() == oneTime {
			t.Fatalf("after the first message: a %+v, b %+v", a.Info(), b.Info())
		}
		for i := range 200 {
			now := start.Add(time.Duration(i) * time.Minute)
			for range i % 3 {
				a, b = send(t, now, a, b)
			}
			b, a = send(t, now, b, a)
		}
		if !a.Confirmed() {
			t.Fatal("an answer does not confirm")
		}
	}
}
