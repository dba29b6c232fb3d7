package chain

import (
	"bytes"
	"errors"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/message"
)

// forge is what a member can send who signs whatever he likes: header h, and
// padded sealed with messageKey.
func forge(t tester, h message.Header, messageKey [32]byte, padded []byte) []byte {
	t.Helper()
	raw := h.Append(nil)
	b, err := message.Sign(signing(t), kdfchain.AEAD(messageKey).Seal(raw, nil, padded, raw))
	check(t, err)
	return b
}

// keyAfter is the key of message n of the sender's chain.
func keyAfter(s Sender, n int) [32]byte {
	ck := s.s().key
	for range n {
		_, ck = kdfchain.Step(ck)
	}
	mk, _ := kdfchain.Step(ck)
	return mk
}

// What a member can do who has the keys of his chain and signs what he likes.
func TestDishonestSender(t *testing.T) {
	s, r := begin(t)
	good := message.Header{View: view(1), Device: alice, Chain: s.s().id, Number: 1, N: 0}
	text := envelope.Pad([]byte("text"))
	opened := opens(t, start, r, forge(t, good, keyAfter(s, 0), text), "text") // the forger can seal

	for name, tt := range map[string]struct {
		h    func(h *message.Header)
		n    int // whose key he takes
		text []byte
		want error
	}{
		"another room":                {func(h *message.Header) { h.Room[0]++ }, 0, text, ErrMalformed},
		"as another device":           {func(h *message.Header) { h.Device = bob }, 0, text, ErrMalformed},
		"in another epoch":            {func(h *message.Header) { h.Epoch, h.Seq = 2, 2 }, 0, text, ErrMalformed},
		"unknown chain":               {func(h *message.Header) { h.Chain[0]++ }, 0, text, ErrNoChain},
		"number ahead of the chain":   {func(h *message.Header) { h.Number = 2 }, 0, text, ErrMalformed},
		"number behind the chain":     {func(h *message.Header) { h.Number, h.N = 5, 3 }, 3, text, ErrMalformed},
		"key of another message":      {func(h *message.Header) { h.Number, h.N = 2, 1 }, 0, text, ErrDecrypt},
		"a key of nothing":            {func(h *message.Header) {}, 7, text, ErrDecrypt},
		"not padded":                  {func(h *message.Header) {}, 0, []byte("text"), ErrDecrypt},
		"padded with too much":        {func(h *message.Header) {}, 0, append(bytes.Clone(text), make([]byte, 256)...), ErrDecrypt},
		"nothing at all":              {func(h *message.Header) {}, 0, nil, ErrDecrypt},
		"number of before the chain":  {func(h *message.Header) { h.Number, h.Chain[0] = 1, 9 }, 0, text, ErrNoChain},
		"the end of the longest room": {func(h *message.Header) { h.Number, h.N = message.MaxNumber, message.MaxChain-1 }, 0, text, ErrMalformed},
	} {
		h := good
		tt.h(&h)
		t.Run(name, func(t *testing.T) { refuses(t, start, r, forge(t, h, keyAfter(s, tt.n), tt.text), tt.want) })
	}
	t.Run("another text under the same number", func(t *testing.T) {
		refuses(t, start, opened, forge(t, good, keyAfter(s, 0), envelope.Pad([]byte("other"))), ErrReplay)
	})
}

// Who closed a chain opens nothing more of it, also not under the key of zeros
// that stands where its key was, which everybody can compute.
func TestNothingBehindTheEndOfAChain(t *testing.T) {
	s, r := begin(t)
	last, all := seals(t, s, view(1), 2)
	_, d := startChain(t, start, last, view(2))
	r = accept(t, start, opens(t, start, r, all[1], "text"), d)
	if len(r.s().chains) != 2 || !r.s().chains[0].closed() {
		t.Fatal("the first chain is not closed, or not kept for its missing message")
	}
	zero, _ := kdfchain.Step([32]byte{})
	h := message.Header{View: view(1), Device: alice, Chain: s.s().id, Number: 3, N: 2}
	refuses(t, start, r, forge(t, h, zero, envelope.Pad([]byte("text"))), ErrReplay)
	refuses(t, start, r, forge(t, h, keyAfter(s, 2), envelope.Pad([]byte("text"))), ErrReplay)
}

// Any bit that a dishonest sender changes in what he sealed, and signs again,
// fails and changes nothing.
func TestAnyFlippedBit(t *testing.T) {
	s, r := begin(t)
	_, all := seals(t, s, view(1), 2)
	r = opens(t, start, r, all[1], "text") // so that there is a skipped key to lose
	unsigned := all[0][:len(all[0])-key.SignatureSize]
	before := r.Marshal()
	for i := range len(unsigned) * 8 {
		if i/8 >= 172+8 && i%8 != 0 { // enough of the ciphertext
			continue
		}
		bad := bytes.Clone(unsigned)
		bad[i/8] ^= 1 << (i % 8)
		b, err := message.Sign(signing(t), bad)
		if err == message.ErrMalformed {
			continue
		}
		check(t, err)
		next, text, err := open(start, r, b)
		if err == nil || text != nil || !bytes.Equal(next.Marshal(), before) || !bytes.Equal(r.Marshal(), before) {
			t.Fatalf("bit %d: opened %q, %v", i, text, err)
		}
	}
	opens(t, start, r, all[0], "text")
}

// A distribution counts from the device that made it only, for the room, epoch
// and number that it was made for, and no second seed fits its chain id.
func TestDistributionRefused(t *testing.T) {
	_, d := startChain(t, start, Sender{}, view(1))
	good := d.Marshal()
	if len(good) != 153 {
		t.Fatalf("%d bytes", len(good))
	}
	if _, err := ParseDistribution(bob, good); err != ErrMalformed {
		t.Errorf("passed on by another device: %v", err)
	}
	const seqAndHead = 1 + 32 + 8 // not committed to: they are the session's word
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		_, err := ParseDistribution(alice, bad)
		if inView := i/8 >= seqAndHead && i/8 < seqAndHead+8+32; err != ErrMalformed && !inView {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
	bad := bytes.Clone(good)
	bad[seqAndHead+7] = 0
	if _, err := ParseDistribution(alice, bad); err != ErrMalformed {
		t.Errorf("head older than its epoch: %v", err)
	}
	for n := range good {
		if _, err := ParseDistribution(alice, good[:n]); err != ErrMalformed {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if _, err := ParseDistribution(alice, append(good, 0)); err != ErrMalformed {
		t.Errorf("one byte more: %v", err)
	}
}

// A member who gives two others different keys under one chain id: the one who
// got the wrong seed notices before any message comes.
func TestTwoSeedsUnderOneChain(t *testing.T) {
	_, one := startChain(t, start, Sender{}, view(1))
	_, two := startChain(t, start, Sender{}, view(1))
	two.Chain = one.Chain
	if _, err := ParseDistribution(alice, two.Marshal()); err != ErrMalformed {
		t.Errorf("parsed: %v", err)
	}
	if _, err := NewReceiver(room, alice).Accept(start, two); err != ErrMalformed {
		t.Errorf("accepted: %v", err)
	}
}

func TestAcceptRefuses(t *testing.T) {
	_, d := startChain(t, start, Sender{}, view(1))
	for name, r := range map[string]Receiver{
		"of another device": NewReceiver(room, bob),
		"of another room":   NewReceiver([32]byte{1}, alice),
		"zero receiver":     {},
	} {
		if _, err := r.Accept(start, d); err != ErrMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewReceiver(room, alice).Accept(start, Distribution{}); err != ErrMalformed {
		t.Errorf("zero distribution: %v", err)
	}
}

func TestZeroValues(t *testing.T) {
	now := start
	if _, _, err := (Sender{}).Seal(now, signing(t), view(1), nil); err != ErrEnded {
		t.Errorf("zero sender seals: %v", err)
	}
	var r Receiver
	if _, _, err := r.Open(now, message.Verified{}); err != ErrMalformed {
		t.Errorf("zero receiver opens: %v", err)
	}
	if _, _, err := NewReceiver([32]byte{}, protocol.DeviceID{}).Open(now, message.Verified{}); err == nil {
		t.Error("opens what nobody verified")
	}
	if _, changed := r.Sweep(now); changed || r.Gaps() != nil || r.Next() != 0 || r.Marshal() != nil || r.GiveUp(now, Gap{1, 1, now}).s != nil {
		t.Error("zero receiver holds something")
	}
	if (Sender{}).Marshal() != nil || (Sender{}).Next() != 1 || (Distribution{}).Marshal() != nil {
		t.Error("zero sender or distribution holds something")
	}
}

func TestStartRefuses(t *testing.T) {
	s, _ := begin(t)
	elsewhere := view(1)
	elsewhere.Room[0]++
	old := view(5)
	old.Seq = 4
	for name, tt := range map[string]struct {
		s      Sender
		v      message.View
		device protocol.DeviceID
	}{
		"another room":              {s, elsewhere, alice},
		"another device":            {s, view(1), bob},
		"head older than its epoch": {Sender{}, old, alice},
		"after the last number":     {atTheEnd(t), view(2), alice},
	} {
		if next, _, err := tt.s.Start(start, tt.v, tt.device); err != ErrMalformed || !bytes.Equal(next.Marshal(), tt.s.Marshal()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// atTheEnd is a sender that has no number left for another chain.
func atTheEnd(t tester) Sender {
	t.Helper()
	s, _ := begin(t)
	c := *s.s()
	c.first, c.n = message.MaxNumber-message.MaxChain, message.MaxChain
	return hide(c)
}

func hide(c sender) Sender { return Sender{s: key.Hide(&c)} }

func TestSealRefuses(t *testing.T) {
	s, _ := begin(t)
	old := view(1)
	old.Seq = 0
	for name, tt := range map[string]struct {
		k    key.DevicePrivate
		v    message.View
		size int
		want error
	}{
		"too large":                 {signing(t), view(1), protocol.MaxEnvelope - message.Overhead, ErrTooLarge},
		"much too large":            {signing(t), view(1), protocol.MaxEnvelope + 1, ErrTooLarge},
		"another epoch":             {signing(t), view(2), 0, ErrEnded},
		"head older than its epoch": {signing(t), old, 0, message.ErrMalformed},
		"no signing key":            {key.DevicePrivate{}, view(1), 0, key.ErrInvalid},
	} {
		next, b, err := s.Seal(start, tt.k, tt.v, make([]byte, tt.size))
		if !errors.Is(err, tt.want) || b != nil || !bytes.Equal(next.Marshal(), s.Marshal()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, b, err := s.Seal(start, signing(t), view(1), make([]byte, protocol.MaxText+1000)); err != nil || len(b) > protocol.MaxEnvelope {
		t.Errorf("the longest text: %d bytes, %v", len(b), err)
	}
}
