package chain

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/message"
)

// A chain ends with its epoch, after 1,000 messages, after a day, and when the
// clock says that it was started later than now.
func TestEnded(t *testing.T) {
	s, r := begin(t)
	elsewhere := view(1)
	elsewhere.Room[0]++
	for name, tt := range map[string]struct {
		after time.Duration
		v     message.View
		want  bool
	}{
		"at once":             {0, view(1), false},
		"almost a day":        {maxAge - time.Second, view(1), false},
		"a day":               {maxAge, view(1), true},
		"a clock set back":    {-time.Second, view(1), true},
		"a later epoch":       {0, view(2), true},
		"an earlier epoch":    {0, view(0), true},
		"a room of its own":   {0, elsewhere, true},
		"head moved in epoch": {0, message.View{Room: room, Epoch: 1, Seq: 99}, false},
	} {
		if s.Ended(start.Add(tt.after), tt.v) != tt.want {
			t.Errorf("%s: ended %v", name, !tt.want)
		}
		if _, _, err := s.Seal(start.Add(tt.after), signing(t), tt.v, nil); (err == ErrEnded) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}

	s, all := seals(t, s, view(1), message.MaxChain)
	if _, _, err := s.Seal(start, signing(t), view(1), nil); err != ErrEnded {
		t.Errorf("message 1001: %v", err)
	}
	r = opens(t, start, r, all[message.MaxChain-1], "text") // the most that one message costs
	if n := len(r.s().chains[0].skipped); n != message.MaxChain-1 || !r.s().chains[0].closed() {
		t.Errorf("%d keys are kept of a full chain", n)
	}
	r = storedReceiver(t, r)
	for _, i := range []int{0, 998, 500} {
		r = opens(t, start, r, all[i], "text")
	}
	s = storedSender(t, s)
	if next, _ := startChain(t, start, s, view(1)); next.Next() != message.MaxChain+1 || next.s().id == s.s().id {
		t.Error("the next chain does not go on where the full one ended")
	}
}

// Over protocol.MaxSkip skipped keys the oldest chains go, and their messages
// are given up.
func TestSkippedKeysAreBounded(t *testing.T) {
	s, r := Sender{}, NewReceiver(room, alice)
	var lost, kept []byte
	for epoch := range uint64(3) {
		var d Distribution
		s, d = startChain(t, start, s, view(epoch))
		var all [][]byte
		s, all = seals(t, s, view(epoch), 800)
		r = opens(t, start, accept(t, start, r, d), all[799], "text")
		switch epoch {
		case 0:
			lost = all[5]
		case 1:
			kept = all[5]
		}
	}
	if n := r.keys(); n != 2*799 {
		t.Errorf("%d keys are kept", n)
	}
	if gaps := r.Gaps(); len(gaps) != 2 || gaps[0].First != 801 {
		t.Errorf("missing %v", gaps)
	}
	r = storedReceiver(t, r)
	refuses(t, start, r, lost, ErrReplay)
	opens(t, start, r, kept, "text")
}

func (r Receiver) keys() (n int) {
	for _, c := range r.s().chains {
		n += len(c.skipped)
	}
	return n
}

// crowded is a receiver with as many chains as are kept, of which nothing came,
// and a sender that goes on after them.
func crowded(t tester) (Sender, Receiver) {
	t.Helper()
	s, r := begin(t)
	c, n := *s.s(), *r.s()
	one := n.chains[0]
	n.chains = nil
	for i := range uint64(maxChains) {
		one.id, one.first = [32]byte{byte(i), byte(i >> 8)}, 1+i
		n.chains = append(n.chains, one)
	}
	c.first, n.next = 1+maxChains, 1+maxChains
	n.gaps = []Gap{{1, maxChains, start}}
	return hide(c), storedReceiver(t, Receiver{s: key.Hide(&n)})
}

// Over maxChains the oldest chains go. Those of a hostile member, too.
func TestChainsAreBounded(t *testing.T) {
	s, r := crowded(t)
	s, d := startChain(t, start, s, view(2))
	r = storedReceiver(t, accept(t, start, r, d))
	if c := r.s().chains; len(c) != maxChains || c[0].first != 2 {
		t.Errorf("%d chains are kept, from %d", len(c), c[0].first)
	}
	_, b := seal(t, start, s, view(2), "text")
	opens(t, start, r, b, "text")
}

// Over maxGaps the oldest gaps are given up.
func TestGapsAreBounded(t *testing.T) {
	s, r := begin(t)
	_, all := seals(t, s, view(1), 2)
	n := *r.s()
	n.gaps, n.next = manyGaps()[:maxGaps], 2*maxGaps
	c := *s.s()
	c.first = n.next
	s, d := startChain(t, start, hide(c), view(2))
	_, more := seals(t, s, view(2), 3)
	r = accept(t, start, storedReceiver(t, Receiver{s: key.Hide(&n)}), d)
	r = opens(t, start, r, all[0], "text") // the first of the gaps
	r = opens(t, start, r, more[1], "text")
	if gaps := r.Gaps(); len(gaps) != maxGaps || gaps[0].First != 3 {
		t.Fatalf("%d gaps from %d", len(gaps), gaps[0].First)
	}
	_, more = seals(t, s, view(2), 5)
	r = storedReceiver(t, opens(t, start, r, more[3], "text"))
	if gaps := r.Gaps(); len(gaps) != maxGaps || gaps[0].First != 5 {
		t.Errorf("%d gaps from %d", len(gaps), gaps[0].First)
	}
}

// A chain to which nothing comes is kept until nothing can come any more.
func TestIdleChainsExpire(t *testing.T) {
	s, r := begin(t)
	_, b := seal(t, start, s, view(1), "text")
	if swept, changed := r.Sweep(start.Add(chainTTL)); changed {
		t.Error("expired too early")
	} else {
		opens(t, start.Add(chainTTL), swept, b, "text")
	}
	swept, changed := r.Sweep(start.Add(chainTTL + time.Second))
	if !changed || len(swept.s().chains) != 0 {
		t.Error("an idle chain is kept for ever")
	}
	refuses(t, start, swept, b, ErrNoChain)
	if chainTTL < maxAge+protocol.MailboxTTL || gapTTL < protocol.MailboxTTL {
		t.Error("keys go before what waits in a mailbox")
	}
}

// Numbers of a hostile member reach no further than himself and cost nothing, and he
// cannot say that he wrote more than anybody can.
func TestHugeNumbers(t *testing.T) {
	s, known := begin(t)
	c := *s.s()
	c.first, c.n = message.MaxNumber-2*message.MaxChain, 0
	far, high := startChain(t, start, hide(c), view(2))
	c.first = 1 + maxJump
	_, inReach := startChain(t, start, hide(c), view(2))
	c.first = 2 + maxJump
	_, outOfReach := startChain(t, start, hide(c), view(2))
	for _, d := range []Distribution{high, outOfReach} {
		if _, err := known.Accept(start, d); err != ErrMalformed {
			t.Errorf("a chain from %d: %v", d.First, err)
		}
	}
	r := accept(t, start, known, inReach)
	if gaps := r.Gaps(); len(gaps) != 1 || gaps[0].First != 1 || gaps[0].Last != maxJump {
		t.Errorf("missing %v", gaps)
	}
	if r = storedReceiver(t, r).GiveUp(start, Gap{First: 0, Last: message.MaxNumber}); len(r.Gaps()) != 0 {
		t.Error("given up in vain")
	}
	r = accept(t, start, NewReceiver(room, alice), high)
	_, b := seal(t, start, far, view(2), "text")
	r = opens(t, start, r, b, "text")
	if _, err := r.Accept(start, inReach); err != ErrMalformed {
		t.Errorf("a chain from far below: %v", err)
	}
}
