package session

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/envelope/envelopetest"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/key"
)

// opensWith tells whether any 32 bytes of a stored state, used as a message
// key or as a chain key up to 64 messages ahead, open env.
func opensWith(t tester, stored, env []byte) bool {
	_, rawHeader, sealed, err := parseMessage(message(t, env))
	check(t, err)
	var ad []byte
	if s, err := ParseState(stored); err == nil {
		ad = s.s().aad(rawHeader)
	}
	for i := range len(stored) - 31 {
		chain := [32]byte(stored[i:])
		mk := chain
		for range 64 {
			if _, err := kdfchain.AEAD(mk).Open(nil, nil, sealed, ad); err == nil {
				return true
			}
			mk, chain = kdfchain.Step(chain)
		}
	}
	return false
}

// KLC-06: who copies the store at T cannot open what was sent and read before
// T, neither by using the state nor by trying every key in it.
func TestKLC06_ForwardSecrecy(t *testing.T) {
	a, b := openedPair(t, true)
	var toA, toB [][]byte
	exchange := func(now time.Time) {
		var env []byte
		b, env = encrypt(t, now, b, []byte("to a"))
		a, toA = decrypt(t, now, a, env, []byte("to a")), append(toA, env)
		a, env = encrypt(t, now, a, []byte("to b"))
		b, toB = decrypt(t, now, b, env, []byte("to b")), append(toB, env)
	}
	exchange(start)
	exchange(start.Add(mixAtLatest)) // with a PQ step
	exchange(start.Add(mixAtLatest))

	// The test finds keys that are there: a message not yet read.
	early, unread := encrypt(t, start, a, []byte("unread"))
	if !opensWith(t, b.Marshal(), unread) {
		t.Fatal("the search for keys does not work")
	}
	b = decrypt(t, start, b, unread, []byte("unread"))
	toB = append(toB, unread)
	a = early

	for i, env := range append(toA, toB...) {
		for name, stolen := range map[string]State{"a": a, "b": b} {
			if _, _, err := stolen.Decrypt(start, message(t, env)); err == nil {
				t.Errorf("state of %s opens message %d again", name, i)
			}
			if opensWith(t, stolen.Marshal(), env) {
				t.Errorf("state of %s holds the key of message %d", name, i)
			}
		}
	}
}

// KLC-06: keys of messages that never came are gone when their time is over.
func TestKLC06_SkippedKeysExpire(t *testing.T) {
	a, b := pair(t)
	a, lost := encrypt(t, start, a, []byte("lost"))
	_, env := encrypt(t, start, a, []byte("came"))
	b = decrypt(t, start, b, env, []byte("came"))
	if !opensWith(t, b.Marshal(), lost) {
		t.Fatal("no skipped key to expire")
	}
	same, changed := b.Sweep(start.Add(skippedTTL))
	if changed || !opensWith(t, same.Marshal(), lost) {
		t.Error("expired too early")
	}
	swept, changed := b.Sweep(start.Add(skippedTTL + time.Second))
	if !changed || opensWith(t, swept.Marshal(), lost) {
		t.Error("a key outlives its time")
	}
	if _, _, err := b.Decrypt(start.Add(skippedTTL+time.Second), lost); err != ErrReplay {
		t.Errorf("expired key opens: %v", err)
	}
	if _, _, err := b.Decrypt(start.Add(skippedTTL), lost); err != nil {
		t.Errorf("in its last second: %v", err)
	}
}

// follow lets a thief with a copied state use all he sees: what the owner
// receives, he opens too as long as he can.
func follow(t tester, now time.Time, thief State, env []byte) (State, bool) {
	next, _, err := thief.Decrypt(now, message(t, env))
	if err != nil {
		return thief, false
	}
	return next, true
}

// KLC-07: who copies the store at T can open nothing any more after one full
// round trip, if he stays passive.
func TestKLC07_HealsAfterRoundTrip(t *testing.T) {
	a, b := pair(t)
	thief := a
	b, env := encrypt(t, start, b, []byte("before the round trip"))
	a = decrypt(t, start, a, env, []byte("before the round trip"))
	thief, ok := follow(t, start, thief, env)
	if !ok {
		t.Fatal("a copied state opens nothing: nothing to heal from")
	}
	a, env = encrypt(t, start, a, []byte("a's new key"))
	if opensWith(t, thief.Marshal(), env) {
		t.Error("what the owner sends next is not safe")
	}
	b = decrypt(t, start, b, env, []byte("a's new key"))
	_, env = encrypt(t, start, b, []byte("after the round trip"))
	if _, ok := follow(t, start, thief, env); ok || opensWith(t, thief.Marshal(), env) {
		t.Error("the session has not healed")
	}
	decrypt(t, start, a, env, []byte("after the round trip"))
}

// quantumThief copied a root key and breaks every X25519 exchange: it is given
// the secrets of the ratchet keys. Only ML-KEM is left against it.
type quantumThief struct{ root [32]byte }

// start follows one chain without the ML-KEM secret and tells whether its
// first message opens.
func (q *quantumThief) opens(t tester, private, public [32]byte, ad State, env []byte) bool {
	h, rawHeader, sealed, err := parseMessage(message(t, env))
	check(t, err)
	secret, err := dh(private, public)
	check(t, err)
	var chain [32]byte
	q.root, chain, err = rootStep(q.root, secret, nil, h)
	check(t, err)
	messageKey, _ := kdfchain.Step(chain)
	_, err = kdfchain.AEAD(messageKey).Open(nil, nil, sealed, ad.s().aad(rawHeader))
	return err == nil
}

// KLC-07: one PQ step shuts out even a thief for whom X25519 is no obstacle.
func TestKLC07_PQStepHeals(t *testing.T) {
	a, b := pair(t)
	thief := &quantumThief{root: a.s().root}
	now := start
	// turn sends one message from x to y and tells whether the thief reads it.
	turn := func(x, y State) (State, State, bool) {
		x, env := encrypt(t, now, x, []byte("secret"))
		read := thief.opens(t, x.s().priv, x.s().peerPub, x, env)
		return x, decrypt(t, now, y, env, []byte("secret")), read
	}
	var read bool
	b, a, read = turn(b, a)
	if !read {
		t.Fatal("the thief cannot follow at all: nothing to heal from")
	}
	now = start.Add(mixAtLatest)
	a, b, read = turn(a, b) // offers a key
	if !read || b.s().peerOffer == nil {
		t.Fatal("no offer, or the thief lost track too early")
	}
	b, a, read = turn(b, a) // mixes
	if read {
		t.Error("opened the message of the PQ step")
	}
	if _, _, read = turn(a, b); read {
		t.Error("opened a message after the PQ step")
	}
}

// KLC-14: RSA is paid for once per session. After Accept a session lives on
// its own stored bytes: no call takes an RSA key, no RSA key is in them, and
// messages that repeat the opening need none either.
func TestKLC14_RSAOnlyAtOpening(t *testing.T) {
	alice, bob := envelopetest.New(t, start, "alice", 0), envelopetest.New(t, start, "bob", 1)
	a, err := Initiate(start, alice.Identity, bob.Bundle(true), 1, false)
	check(t, err)
	a, env := encrypt(t, start, a, []byte("first"))
	o, rest, err := envelope.ParseOpening(env)
	check(t, err)
	if _, err := Accept(start, bob.Identity, o, bob.Signed, &bob.OneTime, key.RSAPrivate{}); err != envelope.ErrOpen {
		t.Errorf("opened without RSA: %v", err)
	}
	b, err := Accept(start, bob.Identity, o, bob.Signed, &bob.OneTime, bob.RSA)
	check(t, err)
	b, _, err = b.Decrypt(start, rest)
	check(t, err)
	rsaKey := bob.RSA.Bytes()
	for range 50 {
		a, env = encrypt(t, start, a, []byte("again"))
		if _, opening, err := PeekSession(env); err != nil || !opening {
			t.Fatal("an unanswered session stopped sending its opening")
		}
		b = decrypt(t, start, stored(t, b), env, []byte("again"))
		for _, state := range [][]byte{a.Marshal(), b.Marshal()} {
			if bytes.Contains(state, rsaKey[:64]) || bytes.Contains(state, rsaKey[256:320]) {
				t.Fatal("RSA key in a session")
			}
		}
	}
	for range 20 {
		b, a = send(t, start, b, a)
		a, b = send(t, start, a, b)
	}
}

// IM-06: replay, reflection and exchange of roles are rejected.
func TestIM06_ReplayReflectionRoleSwap(t *testing.T) {
	a, b := pair(t)
	a, env := encrypt(t, start, a, []byte("hello"))
	opened := decrypt(t, start, b, env, []byte("hello"))
	if _, _, err := opened.Decrypt(start, env); err != ErrReplay {
		t.Errorf("replay: %v", err)
	}
	if _, _, err := a.Decrypt(start, env); err != ErrMalformed {
		t.Errorf("reflection: %v", err)
	}
	swapped := bytes.Clone(env)
	swapped[offRole] = roleResponder
	if _, _, err := a.Decrypt(start, swapped); err == nil {
		t.Error("reflection with the other role")
	}
	if _, _, err := b.Decrypt(start, swapped); err != ErrMalformed {
		t.Errorf("role swapped: %v", err)
	}
	// A message of another session under this session's id.
	c, _ := pair(t)
	_, foreign := encrypt(t, start, c, []byte("hello"))
	if _, _, err := b.Decrypt(start, foreign); err != ErrMalformed {
		t.Errorf("other session: %v", err)
	}
	id := b.ID()
	copy(foreign[offSession:], id[:])
	if _, _, err := b.Decrypt(start, foreign); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrDecrypt) {
		t.Errorf("other session renamed: %v", err)
	}
}

// An opening whose prekeys are still there gives the same session again: the
// caller must remember it. What the caller needs for that is in the opening.
func TestReplayedOpeningIsTheSameSession(t *testing.T) {
	alice, bob := envelopetest.New(t, start, "alice", 0), envelopetest.New(t, start, "bob", 1)
	a, err := Initiate(start, alice.Identity, bob.Bundle(false), 1, false)
	check(t, err)
	_, env := encrypt(t, start, a, []byte("first"))
	o, _, err := envelope.ParseOpening(env)
	check(t, err)
	one, err := Accept(start, bob.Identity, o, bob.Signed, nil, bob.RSA)
	check(t, err)
	two, err := Accept(start, bob.Identity, o, bob.Signed, nil, bob.RSA)
	check(t, err)
	if one.ID() != two.ID() || one.ID() != o.Session || o.SignedID != bob.Signed.Record.ID() || o.EK == [32]byte{} {
		t.Error("a repeated opening cannot be recognised")
	}
}
