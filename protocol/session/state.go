package session

import (
	"bytes"
	"crypto/mlkem"
	"encoding/binary"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/key"
)

// The stored form of a State (SPEC "Stored session"): a fixed part, then what
// is not always there. It never crosses the wire.
const (
	stateVersion = 1
	stateFixed   = 4 + 16 + 32 + 3*8 + 2*32 + 3*32 + 2*4 + 2*32 + 2*4 + 8 + 4
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
	size := stateFixed + 1 + len(s.chains)*32 + 2 + len(s.skipped)*skippedSize +
		2 + len(s.opening) + len(s.sendBlock) + len(s.offer) + len(s.peerOffer)
	b := make([]byte, 0, size)
	b = append(b, stateVersion, s.bits(), byte(s.phase), s.sendFlags)
	b = append(b, s.id[:]...)
	b = append(b, s.peer[:]...)
	b = appendUint64(b, s.gen, uint64(s.created), uint64(s.received))
	for _, f := range s.secrets() {
		b = append(b, f[:]...)
	}
	for _, f := range s.counters() {
		b = binary.BigEndian.AppendUint32(b, *f)
	}
	b = appendUint64(b, uint64(s.mixed))

	b = append(b, byte(len(s.chains)))
	for _, pub := range s.chains {
		b = append(b, pub[:]...)
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

func (s *state) bits() (bits byte) {
	for bit, set := range map[byte]bool{
		bitInitiator: s.initiator, bitConfirmed: s.confirmed, bitNoOneTime: s.noOneTime, bitReset: s.reset,
		bitOffer: s.offer != nil, bitPeerOffer: s.peerOffer != nil,
	} {
		if set {
			bits |= bit
		}
	}
	return bits
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
	r := reader{rest: b[4:]}
	copy(s.id[:], r.take(16))
	copy(s.peer[:], r.take(32))
	s.gen, s.created, s.received = r.uint64(), int64(r.uint64()), int64(r.uint64())
	for _, f := range s.secrets() {
		copy(f[:], r.take(32))
	}
	for _, f := range s.counters() {
		*f = r.uint32()
	}
	s.mixed = int64(r.uint64())
	s.readChains(&r)
	s.opening = r.clone(int(r.uint16()))
	s.sendBlock = r.clone(blocksSize(s.sendFlags))
	if bits&bitOffer != 0 {
		s.offer = r.clone(mlkem.SeedSize)
	}
	if bits&bitPeerOffer != 0 {
		s.peerOffer = r.clone(ekSize)
	}
	if r.short || len(r.rest) > 0 || !s.consistent() {
		return State{}, ErrMalformed
	}
	return State{s: key.Hide(s)}, nil
}

func (s *state) readChains(r *reader) {
	for range r.take(1)[0] {
		s.chains = append(s.chains, [32]byte(r.take(32)))
	}
	n := int(r.uint16())
	if n == 0 || n*skippedSize > len(r.rest) {
		r.short = r.short || n != 0
		return
	}
	s.skipped = make([]skippedKey, n)
	for i := range s.skipped {
		s.skipped[i] = skippedKey{chain: r.uint32(), n: r.uint32(), at: int64(r.uint64()), key: [32]byte(r.take(32))}
	}
}

// consistent refuses states that no sequence of calls can reach and that would
// make later calls misbehave.
func (s *state) consistent() bool {
	if s.phase < phaseFirst || s.phase > phaseSend || s.sendN >= maxN || s.recvN > maxN {
		return false
	}
	if len(s.chains) != int(min(s.recvSerial, maxChains)) || len(s.skipped) > protocol.MaxSkip {
		return false
	}
	if (s.phase == phaseFirst) != (s.recvSerial == 0 && !s.initiator) {
		return false
	}
	waiting := s.initiator && !s.confirmed
	return (len(s.opening) > 0) == waiting && len(s.opening) <= envelope.MaxOpening
}

// reader takes fixed fields from the front of a slice. Where too few bytes are
// left it gives zeros, and short tells.
type reader struct {
	rest  []byte
	short bool
}

// take returns the next n bytes, a view into the input.
func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.short, r.rest = true, nil
		return make([]byte, min(n, 32))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) clone(n int) []byte {
	if n == 0 {
		return nil
	}
	return bytes.Clone(r.take(n))
}

func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

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
