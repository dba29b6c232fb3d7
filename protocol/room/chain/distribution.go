package chain

import (
	"encoding/binary"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/message"
)

const (
	distributionVersion = 1
	distributionSize    = 1 + 80 + 32 + 8 + 32
)

// Distribution is what opens a chain from its first message on. It is sent over
// pairwise sessions only, and holds the chain's secret: it prints as "redacted",
// and its owner destroys it once it is sealed for every device that may read. A
// device that lost it is given a new chain instead. The zero value is unusable.
type Distribution struct {
	key.Redacted
	View  message.View // when the chain was started
	Chain [32]byte
	First uint64 // number of the chain's first message
	seed  key.Hidden[[32]byte]
}

// Marshal returns the 153 bytes of d; nil for a zero one. The caller owns them.
func (d Distribution) Marshal() []byte {
	if d.seed == nil {
		return nil
	}
	b := append(make([]byte, 0, distributionSize), distributionVersion)
	b = d.View.Append(b)
	b = append(b, d.Chain[:]...)
	b = binary.BigEndian.AppendUint64(b, d.First)
	return append(b, d.seed()[:]...)
}

// ParseDistribution reads what the device at the other end of a pairwise session
// sent. It fails with ErrMalformed also if the chain is not that device's: nobody
// can give out somebody else's chain, or two sets of keys under one id. It keeps
// nothing of b. Whether the device may send in the epoch is for message.Checker.
func ParseDistribution(from protocol.DeviceID, b []byte) (Distribution, error) {
	if len(b) != distributionSize || b[0] != distributionVersion {
		return Distribution{}, ErrMalformed
	}
	r := key.NewReader(b[1:])
	d := Distribution{
		View:  message.View{Room: [32]byte(r.Take(32)), Epoch: r.Uint64(), Seq: r.Uint64(), Head: [32]byte(r.Take(32))},
		Chain: [32]byte(r.Take(32)),
		First: r.Uint64(),
	}
	seed := [32]byte(r.Take(32))
	if !startsAt(d.View, d.First) || d.Chain != idOf(seed, d.View.Room, d.View.Epoch, from, d.First) {
		return Distribution{}, ErrMalformed
	}
	d.seed = key.Hide(&seed)
	return d, nil
}

// startsAt tells whether a chain can start so: every message it may come to hold
// is one that message.Parse takes.
func startsAt(v message.View, first uint64) bool {
	return v.Seq >= v.Epoch && firstInRange(first)
}
