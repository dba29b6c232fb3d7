package chain

import (
	"cmp"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/room/message"
)

// next is the number of the chain's next message.
func (c heldChain) next() uint64 { return c.first + uint64(c.n) }

// closed tells that the chain's key was destroyed.
func (c heldChain) closed() bool { return c.key == [32]byte{} }

// keyOf advances the chain to message n and returns its key. It keeps the keys it
// passes. Not ok: the key is gone.
func (c *heldChain) keyOf(n uint32) (mk [32]byte, ok bool) {
	if n < c.n {
		return c.skippedKey(n)
	}
	if c.closed() {
		return mk, false
	}
	kept := slices.Clone(c.skipped)
	for ; c.n < n; c.n++ {
		k := skippedKey{n: c.n}
		k.key, c.key = kdfchain.Step(c.key)
		kept = append(kept, k)
	}
	c.skipped = kept
	mk, c.key = kdfchain.Step(c.key)
	c.n++
	return mk, true
}

func (c *heldChain) skippedKey(n uint32) (mk [32]byte, ok bool) {
	i, ok := slices.BinarySearchFunc(c.skipped, n, func(k skippedKey, n uint32) int { return cmp.Compare(k.n, n) })
	if !ok {
		return mk, false
	}
	return c.skipped[i].key, true
}

// chain returns where the chain with this id is.
func (s *receiver) chain(id [32]byte) (i int, known bool) {
	i = slices.IndexFunc(s.chains, func(c heldChain) bool { return c.id == id })
	return i, i >= 0
}

// over tells that the sender went on to another chain, so that nothing more of c
// is to come: c is full, its next message was opened in the other chain, or the
// other chain is known to begin there. Of two chains that begin with the same
// number the first message decides.
func (s *receiver) over(c heldChain) bool {
	if c.n >= message.MaxChain || !s.awaits(c.next()) {
		return true
	}
	_, another := s.beginsAt(c.next())
	return another && c.n > 0
}

// passGivenUp advances c past numbers that were given up to one of its own that is
// missing, if there is one.
func (s *receiver) passGivenUp(c *heldChain) {
	i, awaited := s.gapOf(c.next())
	if c.closed() || awaited || i == len(s.gaps) {
		return
	}
	missing := s.gaps[i].First
	j, _ := s.beginsAt(c.first + 1) // the chain after it
	if missing-c.first >= message.MaxChain || j < len(s.chains) && s.chains[j].first <= missing {
		return
	}
	for c.next() < missing {
		_, c.key = kdfchain.Step(c.key)
		c.n++
	}
}

// beginsAt returns where in chains one is, or belongs, that begins with first.
func (s *receiver) beginsAt(first uint64) (i int, is bool) {
	return slices.BinarySearchFunc(s.chains, first, func(c heldChain, first uint64) int { return cmp.Compare(c.first, first) })
}

// settle destroys every key that no message needs any more, and what is over the
// limits.
func (s *receiver) settle(now time.Time) {
	s.forget(now.Add(-gapTTL))
	stale := now.Add(-chainTTL).Unix()
	kept := make([]heldChain, 0, len(s.chains))
	for _, c := range s.chains {
		s.passGivenUp(&c)
		if c.used < stale || s.over(c) {
			c.key = [32]byte{}
		}
		c.skipped = s.stillAwaited(c)
		if !c.closed() || len(c.skipped) > 0 {
			kept = append(kept, c)
		}
	}
	s.chains = kept
	s.limit()
}

func (s *receiver) stillAwaited(c heldChain) []skippedKey {
	gone := func(k skippedKey) bool { return !s.awaits(c.first + uint64(k.n)) }
	if !slices.ContainsFunc(c.skipped, gone) {
		return c.skipped
	}
	return slices.DeleteFunc(slices.Clone(c.skipped), gone)
}

// limit drops the oldest chains, so that at most maxChains are left with at most
// protocol.MaxSkip skipped keys in all. What they were to open is given up.
func (s *receiver) limit() {
	keys := 0
	for i := len(s.chains) - 1; i >= 0; i-- {
		keys += len(s.chains[i].skipped)
		if len(s.chains)-i > maxChains || keys > protocol.MaxSkip {
			for _, c := range s.chains[:i+1] {
				for _, k := range c.skipped {
					s.drop(c.first+uint64(k.n), c.first+uint64(k.n))
				}
			}
			s.chains = s.chains[i+1:]
			return
		}
	}
}
