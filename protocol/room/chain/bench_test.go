package chain

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/room/message"
)

var kilobyte = make([]byte, 1024)

// What a sender does for a message, however many members the room has.
func BenchmarkSeal1KiB(b *testing.B) {
	s, _ := begin(b)
	k := signing(b)
	b.ReportAllocs()
	for b.Loop() {
		_, _, err := s.Seal(start, k, view(1), kilobyte)
		check(b, err)
	}
}

// What a member does for a message whose signature was checked.
func BenchmarkOpen1KiB(b *testing.B) {
	r, v := verified1KiB(b)
	b.ReportAllocs()
	for b.Loop() {
		_, _, err := r.Open(start, v)
		check(b, err)
	}
}

// The same, from and to the store.
func BenchmarkOpenStored1KiB(b *testing.B) {
	r, v := verified1KiB(b)
	stored := r.Marshal()
	b.ReportAllocs()
	for b.Loop() {
		r, err := ParseReceiver(stored)
		check(b, err)
		r, _, err = r.Open(start, v)
		check(b, err)
		r.Marshal()
	}
}

func verified1KiB(b *testing.B) (Receiver, message.Verified) {
	s, r := begin(b)
	_, raw, err := s.Seal(start, signing(b), view(1), kilobyte)
	check(b, err)
	return r, verified(b, raw)
}

func verified(b *testing.B, raw []byte) message.Verified {
	m, err := message.Parse(raw)
	check(b, err)
	v, err := m.Verify(signing(b).Public())
	check(b, err)
	return v
}

// The dearest message of a chain: all before it are missing.
func BenchmarkOpenAfter999Missing(b *testing.B) {
	s, r := begin(b)
	_, all := seals(b, s, view(1), message.MaxChain)
	v := verified(b, all[message.MaxChain-1])
	b.ReportAllocs()
	for b.Loop() {
		_, _, err := r.Open(start, v)
		check(b, err)
	}
}

// A message to who was away while the room had 1,000 epochs, and has all their
// chains and none of their messages.
func BenchmarkOpenAmong1000Chains(b *testing.B) {
	s, r := begin(b)
	_, all := seals(b, s, view(1), 1)
	for epoch := range uint64(1000) {
		c := *s.s()
		c.n = 1
		var d Distribution
		s, d = startChain(b, start, hide(c), view(2+epoch))
		r = accept(b, start, r, d)
	}
	v := verified(b, all[0])
	b.ReportAllocs()
	for b.Loop() {
		_, _, err := r.Open(start, v)
		check(b, err)
	}
}

func BenchmarkStart(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, _, err := Sender{}.Start(start, view(1), alice)
		check(b, err)
	}
}

func BenchmarkAccept(b *testing.B) {
	s, r := begin(b)
	_, d := startChain(b, start.Add(time.Minute), s, view(2))
	wire := d.Marshal()
	b.ReportAllocs()
	for b.Loop() {
		d, err := ParseDistribution(alice, wire)
		check(b, err)
		_, err = r.Accept(start, d)
		check(b, err)
	}
}
