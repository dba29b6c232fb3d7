package session

import (
	"bytes"
	"testing"

	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/envelope/envelopetest"
)

// states are sessions in every phase, with and without everything optional.
func states(t testing.TB) []State {
	t.Helper()
	alice, bob := envelopetest.New(t, start, "alice", 0), envelopetest.New(t, start, "bob", 1)
	a, err := Initiate(start, alice.Identity, bob.Bundle(false), 1, true)
	check(t, err)
	_, env := encrypt(t, start, a, []byte("first"))
	o, _, err := envelope.ParseOpening(env)
	check(t, err)
	accepted, err := Accept(start, bob.Identity, o, bob.Signed, nil, bob.RSA)
	check(t, err)

	x, y := pair(t)
	x, _ = encrypt(t, start, x, []byte("lost"))
	x, y = send(t, start, x, y)
	offering, env := encrypt(t, start.Add(mixAtLatest), y, []byte("offer"))
	offered := decrypt(t, start.Add(mixAtLatest), x, env, []byte("offer"))
	answering, _ := encrypt(t, start.Add(mixAtLatest), offered, []byte("answer"))
	return []State{a, accepted, x, y, offering, offered, answering}
}

func TestStatesAreCanonical(t *testing.T) {
	for i, s := range states(t) {
		b := s.Marshal()
		if !bytes.Equal(stored(t, s).Marshal(), b) {
			t.Errorf("state %d", i)
		}
		for n := range b {
			if _, err := ParseState(b[:n]); err != ErrMalformed {
				t.Fatalf("state %d: %d of %d bytes parse", i, n, len(b))
			}
		}
		if _, err := ParseState(append(bytes.Clone(b), 0)); err != ErrMalformed {
			t.Errorf("state %d: one byte more", i)
		}
		for name, damage := range map[string]func([]byte){
			"version":        func(b []byte) { b[0]++ },
			"unknown bit":    func(b []byte) { b[1] |= 1 << 7 },
			"no phase":       func(b []byte) { b[2] = 0 },
			"unknown phase":  func(b []byte) { b[2] = 4 },
			"unknown blocks": func(b []byte) { b[3] |= 4 },
			"other role":     func(b []byte) { b[1] ^= bitInitiator | bitConfirmed; b[2] = 1 },
		} {
			bad := bytes.Clone(b)
			damage(bad)
			if _, err := ParseState(bad); err != ErrMalformed {
				t.Errorf("state %d: %s: %v", i, name, err)
			}
		}
	}
}

// A state that parses is canonical, and no message makes it panic.
func FuzzParseState(f *testing.F) {
	a, b := pair(f)
	_, env := encrypt(f, start, a, []byte("hello"))
	for _, s := range append(states(f), a, b) {
		f.Add(s.Marshal())
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		s, err := ParseState(stored)
		if err != nil {
			if err != ErrMalformed {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(s.Marshal(), stored) {
			t.Fatal("not canonical")
		}
		_, _, _ = s.Encrypt(start, []byte("x"))
		_, _, _ = s.Decrypt(start, env)
		_, _ = s.Sweep(start)
	})
}

func FuzzParseMessage(f *testing.F) {
	for _, s := range states(f) {
		if _, env, err := s.Encrypt(start, []byte("hello")); err == nil {
			f.Add(message(f, env))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, raw, sealed, err := parseMessage(b)
		if err != nil {
			return
		}
		if !bytes.Equal(h.append(nil), raw) || !bytes.Equal(append(bytes.Clone(raw), sealed...), b) {
			t.Fatal("not canonical")
		}
	})
}

// No bytes but a sealed message change a session.
func FuzzDecrypt(f *testing.F) {
	a, b := pair(f)
	_, env := encrypt(f, start, a, []byte("hello"))
	f.Add(env)
	f.Add(chainFor(f, b))
	sending, _ := encrypt(f, start, b, []byte("b's chain"))
	before := [][]byte{b.Marshal(), sending.Marshal()}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for i, s := range []State{b, sending} {
			next, _, err := s.Decrypt(start, msg)
			if err == nil && !bytes.Equal(msg, env) {
				t.Fatal("a forgery was opened")
			}
			if err != nil && !bytes.Equal(next.Marshal(), before[i]) || !bytes.Equal(s.Marshal(), before[i]) {
				t.Fatal("the state changed")
			}
		}
	})
}

func FuzzPeekSession(f *testing.F) {
	a, _ := openedPair(f, true)
	_, env := encrypt(f, start, a, nil)
	f.Add(env)
	f.Fuzz(func(t *testing.T, b []byte) {
		id, opening, err := PeekSession(b)
		if err != nil {
			return
		}
		if o, _, err := envelope.ParseOpening(b); err == nil && (!opening || o.Session != id) {
			t.Fatal("peek and parse differ")
		}
		if h, _, _, err := parseMessage(b); err == nil && (opening || h.session != id) {
			t.Fatal("peek and parse differ")
		}
	})
}

func FuzzParseRepair(f *testing.F) {
	f.Add(Repair{}.Marshal())
	f.Add(Repair{}.UnknownSession().Repaired(start).Failed(start, ErrDecrypt).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRepair(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Marshal(), b) {
			t.Fatal("not canonical")
		}
		if _, due := r.Opened().Due(); due {
			t.Fatal("a repair is due although messages open again")
		}
	})
}
