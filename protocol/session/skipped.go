package session

import (
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
)

const (
	skippedTTL = 14 * 24 * time.Hour // then a missing message can no longer be opened

	// The newest maxChains receiving chains are remembered, and older ones while
	// keys of theirs are kept: what waits in a mailbox may come many turns after
	// what went directly. Over maxOldChains in all the oldest go.
	maxChains    = 5
	maxOldChains = 255
)

// chain is one remembered receiving chain.
type chain struct {
	serial uint32   // 1, 2, 3 ...
	pub    [32]byte // the peer's ratchet key
}

// skippedKey is the key of a message that has not come yet.
type skippedKey struct {
	chain uint32 // serial number of the receiving chain
	n     uint32
	at    int64 // when it was skipped, seconds since 1970
	key   [32]byte
}

// dropExpired removes the keys older than skippedTTL at now. It replaces the
// slice rather than write to it, since older states share it.
func (s *state) dropExpired(now time.Time) {
	oldest := now.Add(-skippedTTL).Unix()
	s.dropSkipped(func(k skippedKey) bool { return k.at < oldest })
}

func (s *state) dropSkipped(drop func(skippedKey) bool) {
	if slices.ContainsFunc(s.skipped, drop) {
		s.skipped = slices.DeleteFunc(slices.Clone(s.skipped), drop)
	}
}

// takeSkipped removes and returns the key of message n of a chain.
func (s *state) takeSkipped(chain, n uint32) (mk [32]byte, ok bool) {
	i := slices.IndexFunc(s.skipped, func(k skippedKey) bool { return k.chain == chain && k.n == n })
	if i < 0 {
		return mk, false
	}
	mk = s.skipped[i].key
	s.skipped = slices.Concat(s.skipped[:i], s.skipped[i+1:])
	return mk, true
}

// skipTo advances the current receiving chain to message n and keeps the keys
// it passes. Over protocol.MaxSkip kept keys the oldest are dropped. The caller
// has checked that n is not too far.
func (s *state) skipTo(now time.Time, n uint32) {
	if n <= s.recvN {
		return
	}
	kept := slices.Clone(s.skipped)
	for ; s.recvN < n; s.recvN++ {
		k := skippedKey{chain: s.recvSerial, n: s.recvN, at: now.Unix()}
		k.key, s.recvChain = kdfchain.Step(s.recvChain)
		kept = append(kept, k)
	}
	s.skipped = kept[max(0, len(kept)-protocol.MaxSkip):]
}

// addChain makes pub the current receiving chain and forgets those that are not
// to be remembered, with their skipped keys.
func (s *state) addChain(pub [32]byte) {
	s.recvSerial++
	s.chains = append(slices.Clone(s.chains), chain{s.recvSerial, pub})
	s.chains = slices.DeleteFunc(s.chains, func(c chain) bool {
		return c.serial+maxChains <= s.recvSerial &&
			!slices.ContainsFunc(s.skipped, func(k skippedKey) bool { return k.chain == c.serial })
	})
	if len(s.chains) > maxOldChains {
		oldest := s.chains[0].serial
		s.chains = s.chains[1:]
		s.dropSkipped(func(k skippedKey) bool { return k.chain == oldest })
	}
}

// findChain returns the serial number of a remembered receiving chain.
func (s *state) findChain(pub [32]byte) (serial uint32, ok bool) {
	i := slices.IndexFunc(s.chains, func(c chain) bool { return c.pub == pub })
	if i < 0 {
		return 0, false
	}
	return s.chains[i].serial, true
}
