package session

import (
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/envelope/envelopetest"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/prekey"
)

var kilobyte = make([]byte, 1024)

func BenchmarkSeal1KiB(b *testing.B) {
	s, _ := pair(b)
	b.ReportAllocs()
	for b.Loop() {
		next, _, err := s.Encrypt(start, kilobyte)
		check(b, err)
		s = next
	}
}

func BenchmarkSealOpen1KiB(b *testing.B) {
	x, y := pair(b)
	b.ReportAllocs()
	for b.Loop() {
		x2, env, err := x.Encrypt(start, kilobyte)
		check(b, err)
		y2, _, err := y.Decrypt(start, env)
		check(b, err)
		x, y = x2, y2
	}
}

// What a node does per message: both states come from and go to the store.
func BenchmarkSealOpenStored1KiB(b *testing.B) {
	x, y := pair(b)
	xs, ys := x.Marshal(), y.Marshal()
	b.ReportAllocs()
	for b.Loop() {
		x, err := ParseState(xs)
		check(b, err)
		x, env, err := x.Encrypt(start, kilobyte)
		check(b, err)
		xs = x.Marshal()
		y, err := ParseState(ys)
		check(b, err)
		y, _, err = y.Decrypt(start, env)
		check(b, err)
		ys = y.Marshal()
	}
}

// Every message turns the ratchet.
func BenchmarkPingPong1KiB(b *testing.B) {
	x, y := pair(b)
	b.ReportAllocs()
	for b.Loop() {
		y2, env, err := y.Encrypt(start, kilobyte)
		check(b, err)
		x2, _, err := x.Decrypt(start, env)
		check(b, err)
		x, y = y2, x2
	}
}

// The dearest forgery of somebody who knows the session id.
func BenchmarkForgedSkip(b *testing.B) {
	s, _ := pair(b)
	s, _ = encrypt(b, start, s, []byte("so that a new chain may come"))
	h := header{role: 1 - s.s().role(), session: s.ID(), pub: [32]byte{9}, pn: s.s().recvN, n: protocol.MaxSkip}
	forged := append(h.append(nil), make([]byte, kdfchain.NonceSize+kdfchain.TagSize)...)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Decrypt(start, forged); err != ErrDecrypt {
			b.Fatal(err)
		}
	}
}

func BenchmarkMarshalState(b *testing.B) {
	s, _ := pair(b)
	b.ReportAllocs()
	for b.Loop() {
		s.Marshal()
	}
}

func BenchmarkParseState(b *testing.B) {
	s, _ := pair(b)
	stored := s.Marshal()
	b.ReportAllocs()
	for b.Loop() {
		_, err := ParseState(stored)
		check(b, err)
	}
}

func BenchmarkInitiate(b *testing.B) {
	alice, bob := envelopetest.New(b, start, "alice", 0), envelopetest.New(b, start, "bob", 1)
	bundle := bob.Bundle(true)
	b.ReportAllocs()
	for b.Loop() {
		_, err := Initiate(start, alice.Identity, bundle, 1, false)
		check(b, err)
	}
}

func BenchmarkAccept(b *testing.B) {
	bob, env := firstEnvelope(b)
	b.ReportAllocs()
	for b.Loop() {
		check(b, accept(bob, env))
	}
}

func BenchmarkAcceptBogus(b *testing.B) {
	bob, env := firstEnvelope(b)
	env[1756] ^= 1 // the precheck
	b.ReportAllocs()
	for b.Loop() {
		if accept(bob, env) != envelope.ErrOpen {
			b.Fatal("accepted")
		}
	}
}

// The prekeys come from the store each time.
func BenchmarkAcceptBogusStored(b *testing.B) {
	bob, env := firstEnvelope(b)
	env[1756] ^= 1
	signed, oneTime := bob.Signed.Marshal(), bob.OneTime.Marshal()
	b.ReportAllocs()
	for b.Loop() {
		var err error
		bob.Signed, err = prekey.ParsePair(signed)
		check(b, err)
		bob.OneTime, err = prekey.ParsePair(oneTime)
		check(b, err)
		if accept(bob, env) != envelope.ErrOpen {
			b.Fatal("accepted")
		}
	}
}

func firstEnvelope(b *testing.B) (envelopetest.Device, []byte) {
	alice, bob := envelopetest.New(b, start, "alice", 0), envelopetest.New(b, start, "bob", 1)
	s, err := Initiate(start, alice.Identity, bob.Bundle(true), 1, false)
	check(b, err)
	_, env := encrypt(b, start, s, kilobyte)
	return bob, env
}

func accept(d envelopetest.Device, env []byte) error {
	o, rest, err := envelope.ParseOpening(env)
	if err != nil {
		return err
	}
	s, err := Accept(start, d.Identity, o, d.Signed, d.OneTimeFor(o), d.RSA)
	if err != nil {
		return err
	}
	_, _, err = s.Decrypt(start, rest)
	return err
}
