package directory

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAdvance: a log that only grows is followed from any size to any other.
func TestAdvance(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(t)
		v, now := View{Log: h.signer.Log()}, start
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			for range rapid.IntRange(0, 5).Draw(rt, "entries") {
				h.add(entry("user", h.size()))
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "minutes")) * time.Minute)
			next, err := v.Advance(h.headAt(now).Bytes(), h.from(v.Head.Size), now)
			check(t, err)
			if next.Head.Size != h.size() || next.Head.Root != h.root() || !next.Head.Time.Equal(now) {
				t.Fatalf("the view holds %+v", next.Head)
			}
			v = next
		}
	})
}

// TestAdvanceKeepsTheLatest: of two heads of one size, the later is held.
func TestAdvanceKeepsTheLatest(t *testing.T) {
	h := newHistory(t, entries(5)...)
	v := View{Log: h.signer.Log(), Head: h.headAt(start.Add(time.Minute))}
	got, err := v.Advance(h.head().Bytes(), Consistency{}, start)
	check(t, err)
	if got != v {
		t.Errorf("the view went back to %v", got.Head.Time)
	}
}

// TestAdvanceMalicious: whatever a rendezvous answers, only what continues the
// head held is taken, and the view stays.
func TestAdvanceMalicious(t *testing.T) {
	h := newHistory(t, entries(7)...)
	v := h.view()
	longer := h.fork(7).add(entry("user7", 1), entry("user8", 1))
	forked := h.fork(6).add(entry("user0", 2), entry("user8", 1), entry("user9", 1))
	sameSize := h.fork(6).add(entry("user0", 2))
	stranger := longer.fork(9)
	stranger.signer.log.origin = "parley/elsewhere"
	good := longer.from(7)
	for name, c := range map[string]struct {
		head  []byte
		proof Consistency
		after time.Duration
		want  error
	}{
		"a fork of the same size":         {sameSize.head().Bytes(), Consistency{}, 0, ErrFork},
		"a fork of the same size, late":   {sameSize.head().Bytes(), Consistency{}, time.Hour * 999, ErrFork},
		"a longer fork, its own proof":    {forked.head().Bytes(), forked.from(7), 0, ErrUnproven},
		"a longer fork, no proof":         {forked.head().Bytes(), Consistency{}, 0, ErrUnproven},
		"a longer fork, the other proof":  {forked.head().Bytes(), good, 0, ErrUnproven},
		"a proof from elsewhere":          {longer.head().Bytes(), longer.from(6), 0, ErrUnproven},
		"a proof said to be from here":    {longer.head().Bytes(), Consistency{7, longer.from(6).Proof}, 0, ErrUnproven},
		"a proof with more hashes":        {longer.head().Bytes(), Consistency{7, append(good.Proof, good.Proof...)}, 0, ErrUnproven},
		"a truncated log":                 {h.fork(6).head().Bytes(), Consistency{}, 0, ErrShrunk},
		"an empty log":                    {h.fork(0).head().Bytes(), Consistency{}, 0, ErrShrunk},
		"an old head":                     {longer.head().Bytes(), good, MaxAge + time.Second, ErrStale},
		"a head from the future":          {longer.head().Bytes(), good, -MaxAge - time.Second, ErrStale},
		"the head held, an hour too late": {h.head().Bytes(), Consistency{}, MaxAge + time.Second, ErrStale},
		"another rendezvous":              {stranger.head().Bytes(), good, 0, ErrBadSignature},
		"no head":                         {nil, good, 0, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := v.Advance(c.head, c.proof, start.Add(c.after))
			wants(t, err, c.want)
			if got != v {
				t.Errorf("the view moved to %+v", got.Head)
			}
		})
	}
	if _, err := v.Advance(longer.head().Bytes(), good, start.Add(MaxAge)); err != nil {
		t.Errorf("an honest head: %v", err)
	}
}

// TestCheck: an answer whose entry is not in the log is refused whole.
func TestCheck(t *testing.T) {
	h := newHistory(t, entries(7)...)
	v := h.view()
	h.add(entry("user7", 1), entry("user8", 1))
	head, c := h.head(), h.from(7)
	got, err := v.Check(head.Bytes(), c, h.include(3), start)
	check(t, err)
	if got.Head != head {
		t.Errorf("the view holds %+v", got.Head)
	}
	_, err = v.Check(head.Bytes(), h.from(6), h.include(3), start)
	wants(t, err, ErrUnproven)
	for _, bad := range append(spoil(h.include(3), 9), h.fork(8).include(3), Inclusion{}) {
		got, err := v.Check(head.Bytes(), c, bad, start)
		wants(t, err, ErrUnproven)
		if got != v {
			t.Fatal("the view moved")
		}
	}
}

// TestForkIsEvidence: the error of a fork holds what convinces others.
func TestForkIsEvidence(t *testing.T) {
	h := newHistory(t, entries(7)...)
	fork := h.fork(6).add(entry("user0", 2))
	_, err := h.view().Advance(fork.head().Bytes(), Consistency{}, start)
	c, ok := errors.AsType[*Convicted](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	e, err := CheckEvidence(c.Evidence.Marshal())
	check(t, err)
	if e.Kind != Fork || e.Heads[0] != h.head() || e.Heads[1] != fork.head() {
		t.Errorf("the evidence is %+v", e)
	}
}

// TestCompare: two heads of one log agree, at any sizes and in any order; of two
// logs that parted, the first two heads that meet convict.
func TestCompare(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		common := rapid.IntRange(0, 20).Draw(rt, "common")
		one := newHistory(t, entries(common)...)
		other := one.fork(common)
		for range rapid.IntRange(1, 20).Draw(rt, "one") {
			one.add(entry("alice", one.size()))
		}
		for range rapid.IntRange(1, 20).Draw(rt, "other") {
			other.add(entry("mallory", other.size()))
		}
		a, b, longer := one.head(), other.head(), one
		if b.Size > a.Size {
			longer = other
		}
		early := one.fork(common).head()
		if common > 0 {
			check(t, Compare(one.signer.Log(), early, a, one))
			check(t, Compare(one.signer.Log(), a, early, one))
		}
		check(t, Compare(one.signer.Log(), a, a, nil))
		check(t, Compare(one.signer.Log(), Head{}, a, nil))
		for _, pair := range [][2]Head{{a, b}, {b, a}} {
			err := Compare(one.signer.Log(), pair[0], pair[1], longer)
			wants(t, err, ErrFork)
			c, _ := errors.AsType[*Convicted](err)
			_, err = CheckEvidence(c.Evidence.Marshal())
			check(t, err)
		}
	})
}

// TestCompareAccusesNobody: with hashes that are not those of the larger head
// there is no evidence.
func TestCompareAccusesNobody(t *testing.T) {
	h := newHistory(t, entries(9)...)
	early, now := h.fork(5).head(), h.head()
	wrong := h.fork(9)
	for i := range wrong.hashes {
		wrong.hashes[i] = sha256.Sum256([]byte{byte(i)})
	}
	wants(t, Compare(h.signer.Log(), early, now, wrong), ErrUnproven)
	if err := Compare(h.signer.Log(), early, now, h.fork(3)); err == nil || errors.Is(err, ErrFork) {
		t.Errorf("hashes that are missing: %v", err)
	}
}
