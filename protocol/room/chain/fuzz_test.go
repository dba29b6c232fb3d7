package chain

import (
	"bytes"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/room/message"
)

// receivers are some with nothing, with an open chain, with gaps and skipped
// keys, and with a closed chain.
func receivers(t testing.TB) []Receiver {
	s, r := begin(t)
	s, all := seals(t, s, view(1), 4)
	gappy := opens(t, start, r, all[2], "text")
	_, d := startChain(t, start, s, view(2))
	closed := opens(t, start, accept(t, start, gappy, d), all[3], "text")
	return []Receiver{NewReceiver(room, alice), r, gappy, closed}
}

func TestStatesAreCanonical(t *testing.T) {
	s, _ := begin(t)
	stored := [][]byte{s.Marshal()}
	for _, r := range receivers(t) {
		stored = append(stored, r.Marshal())
	}
	parses := func(b []byte) bool {
		_, asSender := ParseSender(b)
		_, asReceiver := ParseReceiver(b)
		return asSender == nil || asReceiver == nil
	}
	for i, b := range stored {
		if !parses(b) {
			t.Errorf("state %d does not parse", i)
		}
		for n := range b {
			if parses(b[:n]) {
				t.Errorf("state %d: %d of %d bytes parse", i, n, len(b))
			}
		}
		if parses(append(bytes.Clone(b), 0)) {
			t.Errorf("state %d: one byte more", i)
		}
		b[0]++
		if parses(b) {
			t.Errorf("state %d: another version", i)
		}
	}
}

// A stored state that no calls lead to is refused.
func TestImpossibleStates(t *testing.T) {
	fresh, closed := receivers(t)[0], receivers(t)[3]
	_, s := receivers(t)[2].s(), closed.s()
	if len(s.chains) != 2 || len(s.chains[0].skipped) != 2 || len(s.gaps) != 1 {
		t.Fatalf("not the state this test is about: %d chains, gaps %v", len(s.chains), s.gaps)
	}
	for name, tt := range map[string]struct {
		r      Receiver
		damage func(s *receiver)
	}{
		"next without a chain":       {fresh, func(s *receiver) { s.next = 1 }},
		"next below the lowest":      {fresh, func(s *receiver) { s.lowest, s.next = 5, 3 }},
		"next above all numbers":     {closed, func(s *receiver) { s.next = message.MaxNumber + 2 }},
		"chain without numbers":      {closed, func(s *receiver) { s.lowest, s.next, s.gaps = 0, 0, nil }},
		"gap below the lowest":       {closed, func(s *receiver) { s.gaps = []Gap{{0, 1, start}} }},
		"gap turned round":           {closed, func(s *receiver) { s.gaps = []Gap{{3, 2, start}} }},
		"gap above next":             {closed, func(s *receiver) { s.gaps = []Gap{{2, 99, start}} }},
		"gaps overlap":               {closed, func(s *receiver) { s.gaps = []Gap{{1, 2, start}, {2, 3, start}} }},
		"too many gaps":              {closed, func(s *receiver) { s.gaps, s.next = manyGaps(), message.MaxNumber }},
		"chains not in order":        {closed, func(s *receiver) { s.chains = []heldChain{s.chains[1], s.chains[0]} }},
		"chain from 0":               {closed, func(s *receiver) { s.lowest = 0; s.chains[0].first = 0 }},
		"chain below the lowest":     {closed, func(s *receiver) { s.lowest, s.gaps = 2, nil }},
		"chain above next":           {closed, func(s *receiver) { s.chains[1].first = 6 }},
		"chain beyond its end":       {closed, func(s *receiver) { s.chains[1].n = message.MaxChain + 1 }},
		"closed chain without keys":  {closed, func(s *receiver) { s.chains[0].skipped = nil }},
		"skipped key to come":        {closed, func(s *receiver) { s.chains[0].skipped[1].n = 4 }},
		"skipped keys not in order":  {closed, func(s *receiver) { s.chains[0].skipped[1].n = 0 }},
		"too many chains":            {closed, func(s *receiver) { s.chains = many(s.chains[1], maxChains+1) }},
		"too many skipped keys":      {closed, func(s *receiver) { s.chains = many(fullChain(s.chains[0]), 3) }},
		"number of a chain too high": {closed, func(s *receiver) { s.next = message.MaxNumber; s.chains[1].first = message.MaxNumber - 5 }},
	} {
		r, err := ParseReceiver(tt.r.Marshal()) // a copy to damage
		check(t, err)
		tt.damage(r.s())
		if _, err := ParseReceiver(r.Marshal()); err != ErrMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	sending, _ := begin(t)
	for name, damage := range map[string]func(s *sender){
		"numbers from 0":       func(s *sender) { s.first = 0 },
		"number too high":      func(s *sender) { s.first = message.MaxNumber },
		"beyond the chain end": func(s *sender) { s.n = message.MaxChain + 1 },
	} {
		c := *sending.s()
		damage(&c)
		if _, err := ParseSender(hide(c).Marshal()); err != ErrMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func many(c heldChain, n int) []heldChain {
	all := make([]heldChain, n)
	for i := range all {
		all[i] = c
	}
	return all
}

func fullChain(c heldChain) heldChain {
	c.n, c.skipped = message.MaxChain, make([]skippedKey, message.MaxChain)
	for i := range c.skipped {
		c.skipped[i].n = uint32(i)
	}
	return c
}

func manyGaps() []Gap {
	all := make([]Gap, maxGaps+1)
	for i := range all {
		all[i] = Gap{uint64(2*i + 1), uint64(2*i + 1), start}
	}
	return all
}

// A receiver that parses is canonical, no call makes it panic, and what follows
// on it parses again.
func FuzzParseReceiver(f *testing.F) {
	s, _ := begin(f)
	s, all := seals(f, s, view(1), 6)
	_, d := startChain(f, start, s, view(2))
	for _, r := range receivers(f) {
		f.Add(r.Marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReceiver(b)
		if err != nil {
			if err != ErrMalformed {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(r.Marshal(), b) {
			t.Fatal("not canonical")
		}
		after := []Receiver{r.GiveUp(start, Gap{First: 2, Last: 3})}
		swept, _ := r.Sweep(start.Add(time.Hour))
		after = append(after, swept)
		if next, err := r.Accept(start, d); err == nil {
			after = append(after, next)
		}
		for _, b := range all {
			if next, _, err := open(start, r, b); err == nil {
				after = append(after, next)
			}
		}
		for _, r := range after {
			if _, err := ParseReceiver(r.Marshal()); err != nil {
				t.Fatal("a good state became one that does not parse")
			}
		}
	})
}

func FuzzParseSender(f *testing.F) {
	s, _ := begin(f)
	f.Add(s.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSender(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Marshal(), b) {
			t.Fatal("not canonical")
		}
		if next, sealed, err := s.Seal(start, signing(t), view(1), []byte("x")); err == nil {
			storedSender(t, next)
			if header(t, sealed).Chain != s.s().id {
				t.Fatal("sealed for another chain")
			}
		}
		if next, _, err := s.Start(start, view(1), alice); err == nil {
			storedSender(t, next)
		}
	})
}

func FuzzParseDistribution(f *testing.F) {
	_, d := startChain(f, start, Sender{}, view(1))
	f.Add(d.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDistribution(alice, b)
		if err != nil {
			if err != ErrMalformed {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(d.Marshal(), b) {
			t.Fatal("not canonical")
		}
		if _, err := NewReceiver(d.View.Room, alice).Accept(start, d); err != nil {
			t.Fatal(err)
		}
	})
}

// Whatever a member signs, only what was sealed with his chain opens, and an
// error changes nothing.
func FuzzOpen(f *testing.F) {
	s, d := startChain(f, start, Sender{}, view(1))
	_, all := seals(f, s, view(1), 3)
	for _, b := range all {
		f.Add(b)
	}
	r := accept(f, start, NewReceiver(room, alice), d)
	r = opens(f, start, r, all[1], "text")
	before := r.Marshal()
	f.Fuzz(func(t *testing.T, b []byte) {
		signed := b
		if len(b) > message.Overhead {
			if again, err := message.Sign(signing(t), bytes.Clone(b[:len(b)-64])); err == nil {
				signed = again
			}
		}
		next, _, err := open(start, r, signed)
		if err == nil && !bytes.Equal(signed, all[0]) && !bytes.Equal(signed, all[2]) {
			t.Fatal("a forgery was opened")
		}
		if err != nil && !bytes.Equal(next.Marshal(), before) || !bytes.Equal(r.Marshal(), before) {
			t.Fatal("the state changed")
		}
	})
}
