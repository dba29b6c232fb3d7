package session

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/envelope/envelopetest"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/prekey"
)

// Every way to be no proper message fails with its cause and changes nothing.
func TestDecryptRefuses(t *testing.T) {
	a, b := pair(t)
	_, env := encrypt(t, start, a, []byte("hello"))
	own := b.s().pub
	set := func(i int, x byte) func([]byte) []byte {
		return func(m []byte) []byte { m[i] = x; return m }
	}
	number := func(off int, n uint32) func([]byte) []byte {
		return func(m []byte) []byte { binary.BigEndian.PutUint32(m[off:], n); return m }
	}
	block := func(flag byte, size int) func([]byte) []byte {
		return func(m []byte) []byte {
			m[offFlags] = flag
			return append(append(bytes.Clone(m[:headerSize]), make([]byte, size)...), m[headerSize:]...)
		}
	}
	for name, tt := range map[string]struct {
		change func([]byte) []byte
		want   error
	}{
		"empty":                     {func([]byte) []byte { return nil }, ErrMalformed},
		"header only":               {func(m []byte) []byte { return m[:headerSize] }, ErrMalformed},
		"no tag":                    {func(m []byte) []byte { return m[:headerSize+kdfchain.NonceSize+kdfchain.TagSize-1] }, ErrMalformed},
		"empty ciphertext":          {func(m []byte) []byte { return m[:headerSize+kdfchain.NonceSize+kdfchain.TagSize] }, ErrDecrypt},
		"cut by one":                {func(m []byte) []byte { return m[:len(m)-1] }, ErrDecrypt},
		"longer by one":             {func(m []byte) []byte { return append(m, 0) }, ErrDecrypt},
		"version 0":                 {set(0, 0), ErrMalformed},
		"version 2":                 {set(0, 2), ErrMalformed},
		"type of an opening":        {set(1, envelope.TypeOpening), ErrMalformed},
		"unknown type":              {set(1, 0x10), ErrMalformed},
		"unknown flag":              {set(offFlags, 4), ErrMalformed},
		"key flag without block":    {set(offFlags, flagEK), ErrMalformed},
		"unknown role":              {set(offRole, 2), ErrMalformed},
		"own role":                  {set(offRole, roleResponder), ErrMalformed},
		"other session":             {set(offSession, env[offSession]^1), ErrMalformed},
		"own ratchet key":           {func(m []byte) []byte { copy(m[offPub:], own[:]); return m }, ErrMalformed},
		"its other encoding":        {func(m []byte) []byte { m[offPub+31] |= 0x80; return m }, ErrMalformed},
		"pn of 2^31":                {number(offPN, maxN), ErrMalformed},
		"n of 2^31":                 {number(offN, maxN), ErrMalformed},
		"n of 2^32-1":               {number(offN, 1<<32-1), ErrMalformed},
		"n too far":                 {number(offN, b.s().recvN+protocol.MaxSkip+1), ErrSkip},
		"n ahead":                   {number(offN, b.s().recvN+protocol.MaxSkip), ErrDecrypt},
		"pn changed":                {number(offPN, 7), ErrDecrypt},
		"key block in known chain":  {block(flagEK, ekSize), ErrDecrypt},
		"text block in known chain": {block(flagCT, ctSize), ErrDecrypt},
		"another tag":               {func(m []byte) []byte { m[len(m)-1] ^= 1; return m }, ErrDecrypt},
		"another nonce":             {func(m []byte) []byte { m[headerSize] ^= 1; return m }, ErrDecrypt},
	} {
		before := b.Marshal()
		next, msg, err := b.Decrypt(start, tt.change(bytes.Clone(env)))
		if err != tt.want || msg != nil || !bytes.Equal(next.Marshal(), before) || !bytes.Equal(b.Marshal(), before) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	decrypt(t, start, b, env, []byte("hello"))
}

// A chain that the peer could not have started, or starts wrongly.
func TestNewChainRefused(t *testing.T) {
	a, b := pair(t)                                            // b is to answer
	b, env := encrypt(t, start, b, []byte("b's newest chain")) // now a may answer
	after := decrypt(t, start, a, env, []byte("b's newest chain"))
	_, answer := encrypt(t, start, after, []byte("answer"))

	chain := func(change func(*header)) []byte {
		h, _, sealed, err := parseMessage(answer)
		check(t, err)
		change(&h)
		return append(h.append(nil), sealed...)
	}
	lowOrder := [][32]byte{{}, {1}}
	for name, tt := range map[string]struct {
		msg  []byte
		want error
	}{
		"as it is":                   {answer, nil},
		"low-order key 0":            {chain(func(h *header) { h.pub = lowOrder[0] }), ErrMalformed},
		"low-order key 1":            {chain(func(h *header) { h.pub = lowOrder[1] }), ErrMalformed},
		"its other encoding":         {chain(func(h *header) { h.pub[31] |= 0x80 }), ErrMalformed},
		"another key":                {chain(func(h *header) { h.pub[3] ^= 1 }), ErrDecrypt},
		"fewer in the chain before":  {chain(func(h *header) { h.pn = 0 }), ErrDecrypt},
		"one more in it":             {chain(func(h *header) { h.pn++ }), ErrDecrypt},
		"too many more in it":        {chain(func(h *header) { h.pn += protocol.MaxSkip + 1 }), ErrSkip},
		"starts too far ahead":       {chain(func(h *header) { h.n = protocol.MaxSkip + 1 }), ErrSkip},
		"ciphertext without offer":   {chain(func(h *header) { h.flags, h.blocks = flagCT, make([]byte, ctSize) }), ErrDecrypt},
		"invalid ML-KEM key":         {chain(func(h *header) { h.flags, h.blocks = flagEK, bytes.Repeat([]byte{0xff}, ekSize) }), ErrDecrypt},
		"ML-KEM key not in the hash": {chain(func(h *header) { h.flags, h.blocks = flagEK, make([]byte, ekSize) }), ErrDecrypt},
	} {
		before := b.Marshal()
		_, _, err := b.Decrypt(start, tt.msg)
		if err != tt.want || !bytes.Equal(b.Marshal(), before) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	// Nothing was sent since the peer's chain, so there can be no newer one.
	if _, _, err := after.Decrypt(start, chainFor(t, after)); err != ErrDecrypt {
		t.Errorf("chain out of turn: %v", err)
	}
}

// A peer that knows the root key, and so can seal whatever it wants, cannot
// start a chain out of turn or count messages before the first.
func TestChainByLyingPeer(t *testing.T) {
	a, b := pair(t)
	_, _, err := a.Decrypt(start, sealedChain(t, a, a.s().priv, b.s().sendN))
	check(t, err) // in turn
	if _, _, err := b.Decrypt(start, sealedChain(t, b, b.s().priv, b.s().recvN)); err != ErrDecrypt {
		t.Errorf("out of turn: %v", err)
	}

	alice, bob := envelopetest.New(t, start, "alice", 0), envelopetest.New(t, start, "bob", 1)
	x, err := Initiate(start, alice.Identity, bob.Bundle(true), 1, false)
	check(t, err)
	_, env := encrypt(t, start, x, nil)
	o, _, err := envelope.ParseOpening(env)
	check(t, err)
	first, err := Accept(start, bob.Identity, o, bob.Signed, &bob.OneTime, bob.RSA)
	check(t, err)
	if _, _, err := first.Decrypt(start, sealedChain(t, first, first.s().priv, 1)); err != ErrDecrypt {
		t.Errorf("messages before the first: %v", err)
	}
	_, _, err = first.Decrypt(start, sealedChain(t, first, first.s().priv, 0))
	check(t, err)
}

// sealedChain is the first message of a new chain towards s, whose ratchet key
// is priv, by somebody who knows all that s knows.
func sealedChain(t tester, s State, priv [32]byte, pn uint32) []byte {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	check(t, err)
	h := header{role: 1 - s.s().role(), session: s.ID(), pub: [32]byte(k.PublicKey().Bytes()), pn: pn}
	secret, err := dh(priv, h.pub)
	check(t, err)
	_, chain, err := rootStep(s.s().root, secret, nil, h)
	check(t, err)
	messageKey, _ := kdfchain.Step(chain)
	raw := h.append(nil)
	return kdfchain.AEAD(messageKey).Seal(raw, nil, envelope.Pad([]byte("hello")), s.s().aad(raw))
}

// chainFor is a message in a chain that s does not know.
func chainFor(t tester, s State) []byte {
	h := header{role: 1 - s.s().role(), session: s.ID(), pub: [32]byte{42}}
	return append(h.append(nil), make([]byte, kdfchain.NonceSize+kdfchain.TagSize)...)
}

// The responder's first message has no chain before it.
func TestFirstChainRefused(t *testing.T) {
	alice, bob := envelopetest.New(t, start, "alice", 0), envelopetest.New(t, start, "bob", 1)
	a, err := Initiate(start, alice.Identity, bob.Bundle(true), 1, false)
	check(t, err)
	_, env := encrypt(t, start, a, []byte("first"))
	o, rest, err := envelope.ParseOpening(env)
	check(t, err)
	b, err := Accept(start, bob.Identity, o, bob.Signed, &bob.OneTime, bob.RSA)
	check(t, err)
	if _, _, err := b.Encrypt(start, []byte("too early")); err != ErrNotReady {
		t.Errorf("answer before the first message: %v", err)
	}
	withPN := bytes.Clone(rest)
	withPN[offPN+3] = 1
	if _, _, err := b.Decrypt(start, withPN); err != ErrDecrypt {
		t.Errorf("a chain before the first: %v", err)
	}
	if _, _, err := stored(t, b).Decrypt(start, rest); err != nil {
		t.Error(err)
	}
}

func TestAcceptRefuses(t *testing.T) {
	alice, bob := envelopetest.New(t, start, "alice", 0), envelopetest.New(t, start, "bob", 1)
	accept := func(now time.Time, gen uint64, oneTime bool) error {
		raw, _, err := envelope.Seal(alice.Identity, bob.Bundle(oneTime), gen, false)
		check(t, err)
		o, _, err := envelope.ParseOpening(raw)
		check(t, err)
		_, err = Accept(now, bob.Identity, o, bob.Signed, bob.OneTimeFor(o), bob.RSA)
		return err
	}
	tomorrow := uint64(start.Add(maxAhead).Unix())
	for name, tt := range map[string]struct {
		now     time.Time
		gen     uint64
		oneTime bool
		want    error
	}{
		"now":                          {start, uint64(start.Unix()), true, nil},
		"generation of tomorrow":       {start, tomorrow, true, nil},
		"generation further ahead":     {start, tomorrow + 1, true, envelope.ErrOpen},
		"generation at its greatest":   {start, 1<<64 - 1, true, envelope.ErrOpen},
		"signed prekey in its last s":  {start.Add(prekey.SignedKeep), 1, false, nil},
		"signed prekey is over":        {start.Add(prekey.SignedKeep + time.Second), 1, false, envelope.ErrOpen},
		"signed prekey is over, 1time": {start.Add(prekey.OneTimeKeep), 1, true, envelope.ErrOpen},
	} {
		if err := accept(tt.now, tt.gen, tt.oneTime); err != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A one-time prekey that is due for destruction opens nothing, although the
// signed one is fresh.
func TestAcceptRefusesOldOneTime(t *testing.T) {
	alice, bob := envelopetest.New(t, start, "alice", 0), envelopetest.New(t, start, "bob", 1)
	last := start.Add(prekey.OneTimeKeep)
	var err error
	bob.Signed, err = prekey.NewSigned(last, last.Add(prekey.SignedExpires), bob.ID(), bob.DSK, bob.RSA.Public().Hash())
	check(t, err)
	raw, _, err := envelope.Seal(alice.Identity, bob.Bundle(true), 1, false)
	check(t, err)
	o, _, err := envelope.ParseOpening(raw)
	check(t, err)
	if _, err := Accept(last, bob.Identity, o, bob.Signed, &bob.OneTime, bob.RSA); err != nil {
		t.Errorf("in its last second: %v", err)
	}
	if _, err := Accept(last.Add(time.Second), bob.Identity, o, bob.Signed, &bob.OneTime, bob.RSA); err != envelope.ErrOpen {
		t.Errorf("afterwards: %v", err)
	}
}

func TestInitiateRefuses(t *testing.T) {
	alice, bob := envelopetest.New(t, start, "alice", 0), envelopetest.New(t, start, "bob", 1)
	if _, err := Initiate(start.Add(prekey.SignedExpires+time.Second), alice.Identity, bob.Bundle(false), 1, false); err == nil {
		t.Error("with an expired prekey")
	}
	if _, err := Initiate(start, bob.Identity, bob.Bundle(true), 1, false); err == nil {
		t.Error("with ourselves")
	}
}

func TestZeroState(t *testing.T) {
	var s State
	if _, _, err := s.Encrypt(start, nil); err != ErrNotReady {
		t.Errorf("encrypts: %v", err)
	}
	if _, _, err := s.Decrypt(start, nil); err != ErrNotReady {
		t.Errorf("decrypts: %v", err)
	}
	if _, changed := s.Sweep(start); changed || s.Marshal() != nil || s.Confirmed() || s.Gen() != 0 {
		t.Error("zero state is something")
	}
	if _, err := ParseState(nil); err != ErrMalformed {
		t.Errorf("nothing parses: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	a, _ := openedPair(t, true)
	if _, env, err := a.Encrypt(start, make([]byte, protocol.MaxText)); err != nil || len(env) > protocol.MaxEnvelope {
		t.Errorf("the longest text with an opening: %d bytes, %v", len(env), err)
	}
	for _, n := range []int{protocol.MaxEnvelope - 100, protocol.MaxEnvelope, protocol.MaxEnvelope + 1} {
		before := a.Marshal()
		if next, env, err := a.Encrypt(start, make([]byte, n)); err != ErrTooLarge || env != nil || !bytes.Equal(next.Marshal(), before) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
