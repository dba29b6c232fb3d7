package session

import (
	"bytes"
	"crypto/mlkem"
	"encoding/binary"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/key"
)

// The stored form of a State (SPEC "Stored session"): a fixed part, then what
// is not always there. It never crosses the wire.
const (
	stateVersion = 1
	stateFixed   = 4 + 16 + 32 + 2*8 + 2*32 + 3*32 + 2*4 + 2*32 + 2*4 + 8 + 4
	chainSize    = 4 + 32
	skippedSize  = 4 + 4 + 8 + 32

	bitInitiator = 1 << 0
	bitConfirmed = 1 << 1
	bitNoOneTime = 1 << 2
	bitReset     = 1 << 3
	bitOffer     = 1 << 4
	bitPeerOffer = 1 << 5
	bitsAll      = 1<<6 - 1
)

// Marshal returns the state to be stored, sealed: 0.4 KiB for a session at
// rest, 48 bytes more for each skipped key. Nil for a zero state. The caller
// owns it.
func (st State) Marshal() []byte {
	if st.s == nil {
		return nil
	}
	s := st.s()
	size := stateFixed + 1 + len(s.chains)*chainSize + 2 + len(s.skipped)*skippedSize +
		2 + len(s.opening) + len(s.sendBlock) + len(s.offer) + len(s.peerOffer)
	b := make([]byte, 0, size)
	b = append(b, stateVersion, s.bits(), byte(s.phase), s.sendFlags)
	b = append(b, s.id[:]...)
	b = append(b, s.peer[:]...)
	b = appendUint64(b, s.gen, uint64(s.created))
	for _, f := range s.secrets() {
		b = append(b, f[:]...)
	}
	for _, f := range s.counters() {
		b = binary.BigEndian.AppendUint32(b, *f)
	}
	b = appendUint64(b, uint64(s.mixed))

	b = append(b, byte(len(s.chains)))
	for _, c := range s.chains {
		b = binary.BigEndian.AppendUint32(b, c.serial)
		b = append(b, c.pub[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.skipped)))
	for _, k := range s.skipped {
		b = binary.BigEndian.AppendUint32(b, k.chain)
		b = binary.BigEndian.AppendUint32(b, k.n)
		b = appendUint64(b, uint64(k.at))
		b = append(b, k.key[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.opening)))
	b = append(b, s.opening...)
	b = append(b, s.sendBlock...)
	b = append(b, s.offer...)
	return append(b, s.peerOffer...)
}

// secrets and counters list the fixed fields in their order.
func (s *state) secrets() []*[32]byte {
	return []*[32]byte{&s.ad, &s.root, &s.priv, &s.pub, &s.sendChain, &s.peerPub, &s.recvChain}
}

func (s *state) counters() []*uint32 {
	return []*uint32{&s.sendN, &s.sendPN, &s.recvN, &s.recvSerial, &s.sinceMix}
}

func (s *state) bits() byte {
	return bit(bitInitiator, s.initiator) | bit(bitConfirmed, s.confirmed) | bit(bitNoOneTime, s.noOneTime) |
		bit(bitReset, s.reset) | bit(bitOffer, s.offer != nil) | bit(bitPeerOffer, s.peerOffer != nil)
}

func bit(b byte, set bool) byte {
	if set {
		return b
	}
	return 0
}

func appendUint64(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

// ParseState reads what Marshal made. It keeps nothing of b.
func ParseState(b []byte) (State, error) {
	if len(b) < stateFixed || b[0] != stateVersion || b[1]&^bitsAll != 0 || b[3]&^(flagEK|flagCT) != 0 {
		return State{}, ErrMalformed
	}
	bits := b[1]
	s := &state{
		initiator: bits&bitInitiator != 0, confirmed: bits&bitConfirmed != 0,
		noOneTime: bits&bitNoOneTime != 0, reset: bits&bitReset != 0,
		phase: phase(b[2]), sendFlags: b[3],
	}
	r := key.NewReader(b[4:])
	copy(s.id[:], r.Take(16))
	copy(s.peer[:], r.Take(32))
	s.gen, s.created = r.Uint64(), int64(r.Uint64())
	for _, f := range s.secrets() {
		copy(f[:], r.Take(32))
	}
	for _, f := range s.counters() {
		*f = r.Uint32()
	}
	s.mixed = int64(r.Uint64())
	if !s.readChains(r) {
		return State{}, ErrMalformed
	}
	s.opening = optional(r, int(r.Uint16()))
	s.sendBlock = optional(r, blocksSize(s.sendFlags))
	if bits&bitOffer != 0 {
		s.offer = optional(r, mlkem.SeedSize)
	}
	if bits&bitPeerOffer != 0 {
		s.peerOffer = optional(r, ekSize)
	}
	if r.End() != nil || !s.consistent() {
		return State{}, ErrMalformed
	}
	return State{s: key.Hide(s)}, nil
}

// readChains reads the remembered chains and the skipped keys. It is not ok if
// there are more keys than bytes.
func (s *state) readChains(r *key.Reader) bool {
	for range r.Byte() {
		s.chains = append(s.chains, chain{r.Uint32(), [32]byte(r.Take(32))})
	}
	n := int(r.Uint16())
	if n*skippedSize > r.Len() {
		return false
	}
	if n > 0 {
		s.skipped = make([]skippedKey, n)
	}
	for i := range s.skipped {
		s.skipped[i] = skippedKey{chain: r.Uint32(), n: r.Uint32(), at: int64(r.Uint64()), key: [32]byte(r.Take(32))}
	}
	return true
}

// optional returns the next n bytes, nil for none.
func optional(r *key.Reader, n int) []byte {
	if n == 0 {
		return nil
	}
	return bytes.Clone(r.Take(n))
}

// consistent refuses states that no sequence of calls can reach and that would
// make later calls misbehave.
func (s *state) consistent() bool {
	if s.phase < phaseFirst || s.phase > phaseSend || s.sendN >= maxN || s.recvN > maxN {
		return false
	}
	if !s.chainsInOrder() || len(s.skipped) > protocol.MaxSkip {
		return false
	}
	if (s.phase == phaseFirst) != (s.recvSerial == 0 && !s.initiator) {
		return false
	}
	waiting := s.initiator && !s.confirmed
	return (len(s.opening) > 0) == waiting && len(s.opening) <= envelope.MaxOpening
}

// chainsInOrder tells that the newest maxChains are there and the serial numbers
// grow up to that of the current chain.
func (s *state) chainsInOrder() bool {
	want := s.recvSerial
	for i, c := range slices.Backward(s.chains) {
		newest := len(s.chains)-i <= maxChains
		if c.serial == 0 || c.serial > want || newest && c.serial != want {
			return false
		}
		want = c.serial - 1
	}
	return len(s.chains) >= int(min(s.recvSerial, maxChains))
}

// Sweep drops the skipped keys that are too old at now; a session that is not
// used drops none by itself. Changed tells whether there is something to store.
func (st State) Sweep(now time.Time) (next State, changed bool) {
	if st.s == nil {
		return st, false
	}
	n := *st.s()
	n.dropExpired(now)
	return State{s: key.Hide(&n)}, len(n.skipped) != len(st.s().skipped)
}
