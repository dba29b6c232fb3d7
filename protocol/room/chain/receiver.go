package chain

import (
	"bytes"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/message"
)

const (
	// gapTTL is how long a missing message is waited for and its key kept, and
	// chainTTL how long a chain to which nothing comes.
	gapTTL   = protocol.MailboxTTL
	chainTTL = maxAge + protocol.MailboxTTL

	// maxChains is how many chains of one device are kept: who was away a week
	// gets those of all the epochs he missed before their messages.
	maxChains = 2000
)

// Receiver is what this device has of another device's chains in one room: the
// keys of messages still to come, and which messages are missing. It holds
// secrets: it prints as "redacted" and is to be sealed before it is stored. The
// zero value is unusable.
type Receiver struct {
	key.Redacted
	s key.Hidden[receiver] // never written to once it is in a Receiver
}

// receiver is what Receiver holds. Slices in it are shared between receivers and
// never written to. Times are seconds since 1970.
type receiver struct {
	room   [32]byte
	device protocol.DeviceID
	numbers
	chains []heldChain // by first number
}

// heldChain is one chain of the device.
type heldChain struct {
	id      [32]byte
	epoch   uint64
	first   uint64
	used    int64    // when it came, or a message of it last
	n       uint32   // of the next message
	key     [32]byte // the key of that; zero once the sender went on to another chain
	skipped []skippedKey
}

// skippedKey is the key of a message that has not come yet.
type skippedKey struct {
	n   uint32
	key [32]byte
}

// NewReceiver is for a device of which nothing came yet in a room.
func NewReceiver(room [32]byte, device protocol.DeviceID) Receiver {
	return Receiver{s: key.Hide(&receiver{room: room, device: device})}
}

// Gaps returns the messages that are missing, in order: what is to be asked for.
// Those before the first chain this device was given are not missing.
func (r Receiver) Gaps() []Gap {
	if r.s == nil {
		return nil
	}
	return slices.Clone(r.s().gaps)
}

// Next is above every number of the device that is known to exist; 0 before its
// first chain came.
func (r Receiver) Next() uint64 {
	if r.s == nil {
		return 0
	}
	return r.s().next
}

// Accept takes a chain that the device sent, and of which message.Checker.May
// said that it may. The caller stores next together with the message that d came
// in. A chain that is known, or of which nothing is to come, changes nothing. The
// error is ErrMalformed for a chain of another device or room, and for one that begins
// far from all numbers of the device that are known.
func (r Receiver) Accept(now time.Time, d Distribution) (next Receiver, err error) {
	if r.s == nil || d.seed == nil {
		return r, ErrMalformed
	}
	n := *r.s()
	if d.Chain != idOf(*d.seed(), n.room, d.View.Epoch, n.device, d.First) {
		return r, ErrMalformed
	}
	if _, known := n.chain(d.Chain); known {
		return r, nil
	}
	if n.far(d.First) {
		return r, ErrMalformed
	}
	c := heldChain{id: d.Chain, epoch: d.View.Epoch, first: d.First, used: now.Unix(), key: firstKey(*d.seed(), d.Chain)}
	n.begin(now, d.First)
	for c.n < message.MaxChain && !n.awaits(c.next()) {
		_, c.key = kdfchain.Step(c.key)
		c.n++
	}
	i, _ := n.beginsAt(c.first)
	n.chains = slices.Insert(slices.Clone(n.chains), i, c)
	n.settle(now)
	return Receiver{s: key.Hide(&n)}, nil
}

// Open opens a message of the device. Every message opens once, in any order.
// The caller stores next together with msg before anything is shown. The caller
// owns msg; v is not kept.
//
// The error is ErrReplay for a message opened before, ErrNoChain for one whose
// chain has not come, ErrMalformed if it is not of this device and room or says
// of its chain what is not so, and ErrDecrypt for anything else.
func (r Receiver) Open(now time.Time, v message.Verified) (next Receiver, msg []byte, err error) {
	m := v.Message()
	if r.s == nil || m.Room != r.s().room || m.Device != r.s().device {
		return r, nil, ErrMalformed
	}
	n := *r.s()
	n.forget(now.Add(-gapTTL))
	messageKey, err := n.messageKey(now, m.Header)
	if err != nil {
		return r, nil, err
	}
	header, sealed := m.Sealed()
	padded, err := kdfchain.AEAD(messageKey).Open(nil, nil, sealed, header)
	if err != nil {
		return r, nil, ErrDecrypt
	}
	if msg, err = envelope.Unpad(padded); err != nil {
		return r, nil, ErrDecrypt
	}
	n.take(now, m.Number)
	n.settle(now)
	return Receiver{s: key.Hide(&n)}, msg, nil
}

// messageKey advances s to the message with header h and returns its key.
func (s *receiver) messageKey(now time.Time, h message.Header) ([32]byte, error) {
	if h.Number >= s.lowest && !s.awaits(h.Number) {
		return [32]byte{}, ErrReplay
	}
	i, known := s.chain(h.Chain)
	if !known {
		return [32]byte{}, ErrNoChain
	}
	c := s.chains[i]
	if h.Epoch != c.epoch || h.First() != c.first {
		return [32]byte{}, ErrMalformed
	}
	mk, ok := c.keyOf(h.N)
	if !ok {
		return [32]byte{}, ErrReplay
	}
	c.used = now.Unix()
	s.chains = slices.Clone(s.chains)
	s.chains[i] = c
	return mk, nil
}

// GiveUp ends the wait for the messages of a gap, or of a part of one, which can
// be had from nobody, and destroys their keys.
func (r Receiver) GiveUp(now time.Time, g Gap) Receiver {
	if r.s == nil {
		return r
	}
	n := *r.s()
	n.drop(g.First, g.Last)
	n.settle(now)
	return Receiver{s: key.Hide(&n)}
}

// Sweep drops what is too old at now; a receiver to which nothing comes drops
// nothing by itself. Changed tells whether there is something to store.
func (r Receiver) Sweep(now time.Time) (next Receiver, changed bool) {
	if r.s == nil {
		return r, false
	}
	n := *r.s()
	n.settle(now)
	next = Receiver{s: key.Hide(&n)}
	return next, !bytes.Equal(next.Marshal(), r.Marshal())
}
