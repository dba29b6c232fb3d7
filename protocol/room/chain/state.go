package chain

import (
	"encoding/binary"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/message"
)

// The stored forms of a Sender and a Receiver (SPEC "Stored room chains"). They
// never cross the wire.
const (
	stateVersion = 1
	senderSize   = 1 + 32 + 8 + 32 + 32 + 8 + 4 + 8 + 32
	gapSize      = 3 * 8
	heldSize     = 32 + 3*8 + 4 + 32 + 2
	skippedSize  = 4 + 32
)

// Marshal returns the 157 bytes of the sender to be stored, sealed; nil for the
// zero one. The caller owns them.
func (s Sender) Marshal() []byte {
	if s.s == nil {
		return nil
	}
	c := s.s()
	b := append(make([]byte, 0, senderSize), stateVersion)
	b = append(b, c.room[:]...)
	b = binary.BigEndian.AppendUint64(b, c.epoch)
	b = append(b, c.device[:]...)
	b = append(b, c.id[:]...)
	b = binary.BigEndian.AppendUint64(b, c.first)
	b = binary.BigEndian.AppendUint32(b, c.n)
	b = binary.BigEndian.AppendUint64(b, uint64(c.started))
	return append(b, c.key[:]...)
}

// ParseSender reads what Sender.Marshal made. It keeps nothing of b.
func ParseSender(b []byte) (Sender, error) {
	if len(b) != senderSize || b[0] != stateVersion {
		return Sender{}, ErrMalformed
	}
	r := key.NewReader(b[1:])
	c := sender{
		room: [32]byte(r.Take(32)), epoch: r.Uint64(), device: protocol.DeviceID(r.Take(32)), id: [32]byte(r.Take(32)),
		first: r.Uint64(), n: r.Uint32(), started: int64(r.Uint64()), key: [32]byte(r.Take(32)),
	}
	if !firstInRange(c.first) || c.n > message.MaxChain {
		return Sender{}, ErrMalformed
	}
	return Sender{s: key.Hide(&c)}, nil
}

// Marshal returns the receiver to be stored, sealed: 0.2 KiB for a device that
// writes to one chain and of which nothing is missing. Nil for the zero one. The
// caller owns it.
func (r Receiver) Marshal() []byte {
	if r.s == nil {
		return nil
	}
	s := r.s()
	b := append(make([]byte, 0, s.size()), stateVersion)
	b = append(b, s.room[:]...)
	b = append(b, s.device[:]...)
	b = binary.BigEndian.AppendUint64(b, s.lowest)
	b = binary.BigEndian.AppendUint64(b, s.next)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.gaps)))
	for _, g := range s.gaps {
		b = binary.BigEndian.AppendUint64(b, g.First)
		b = binary.BigEndian.AppendUint64(b, g.Last)
		b = binary.BigEndian.AppendUint64(b, uint64(g.Since.Unix()))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.chains)))
	for _, c := range s.chains {
		b = c.append(b)
	}
	return b
}

func (s *receiver) size() int {
	size := 1 + 32 + 32 + 2*8 + 2 + len(s.gaps)*gapSize + 2 + len(s.chains)*heldSize
	for _, c := range s.chains {
		size += len(c.skipped) * skippedSize
	}
	return size
}

func (c heldChain) append(b []byte) []byte {
	b = append(b, c.id[:]...)
	b = binary.BigEndian.AppendUint64(b, c.epoch)
	b = binary.BigEndian.AppendUint64(b, c.first)
	b = binary.BigEndian.AppendUint64(b, uint64(c.used))
	b = binary.BigEndian.AppendUint32(b, c.n)
	b = append(b, c.key[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.skipped)))
	for _, k := range c.skipped {
		b = binary.BigEndian.AppendUint32(b, k.n)
		b = append(b, k.key[:]...)
	}
	return b
}

// ParseReceiver reads what Receiver.Marshal made. It keeps nothing of b.
func ParseReceiver(b []byte) (Receiver, error) {
	if len(b) == 0 || b[0] != stateVersion {
		return Receiver{}, ErrMalformed
	}
	r := key.NewReader(b[1:])
	s := &receiver{room: [32]byte(r.Take(32)), device: protocol.DeviceID(r.Take(32))}
	s.lowest, s.next = r.Uint64(), r.Uint64()
	if !s.readGaps(r) || !s.readChains(r) || r.End() != nil || !s.consistent() {
		return Receiver{}, ErrMalformed
	}
	return Receiver{s: key.Hide(s)}, nil
}

// readGaps and readChains are not ok if there are more of them than bytes.
func (s *receiver) readGaps(r *key.Reader) bool {
	n := int(r.Uint16())
	if n*gapSize > r.Len() {
		return false
	}
	for range n {
		s.gaps = append(s.gaps, Gap{First: r.Uint64(), Last: r.Uint64(), Since: time.Unix(int64(r.Uint64()), 0).UTC()})
	}
	return true
}

func (s *receiver) readChains(r *key.Reader) bool {
	n := int(r.Uint16())
	if n*heldSize > r.Len() {
		return false
	}
	for range n {
		c := heldChain{id: [32]byte(r.Take(32)), epoch: r.Uint64(), first: r.Uint64(), used: int64(r.Uint64()), n: r.Uint32(), key: [32]byte(r.Take(32))}
		keys := int(r.Uint16())
		if keys*skippedSize > r.Len() {
			return false
		}
		for range keys {
			c.skipped = append(c.skipped, skippedKey{n: r.Uint32(), key: [32]byte(r.Take(32))})
		}
		s.chains = append(s.chains, c)
	}
	return true
}

// consistent refuses states that no sequence of calls can reach and that would
// make later calls misbehave.
func (s *receiver) consistent() bool {
	if s.lowest == 0 && (s.next != 0 || len(s.chains) > 0) || s.next < s.lowest || s.next > message.MaxNumber+1 {
		return false
	}
	if len(s.gaps) > maxGaps || len(s.chains) > maxChains {
		return false
	}
	from := s.lowest
	for _, g := range s.gaps {
		if g.First < from || g.Last < g.First || g.Last >= s.next {
			return false
		}
		from = g.Last + 1
	}
	keys := 0
	for i, c := range s.chains {
		if c.first < s.lowest || c.first > s.next || i > 0 && c.first < s.chains[i-1].first || !c.consistent() {
			return false
		}
		keys += len(c.skipped)
	}
	return keys <= protocol.MaxSkip
}

func (c heldChain) consistent() bool {
	if !firstInRange(c.first) || c.n > message.MaxChain || c.closed() && len(c.skipped) == 0 {
		return false
	}
	from := uint32(0)
	for _, k := range c.skipped {
		if k.n < from || k.n >= c.n {
			return false
		}
		from = k.n + 1
	}
	return true
}

// firstInRange tells that the numbers of a chain that begins with first fit.
func firstInRange(first uint64) bool {
	return first > 0 && first <= message.MaxNumber-message.MaxChain
}
