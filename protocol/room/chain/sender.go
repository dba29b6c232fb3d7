package chain

import (
	"crypto/rand"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/message"
)

// maxAge is how long a chain is written to.
const maxAge = 24 * time.Hour

// Sender is this device's own chain in a room. It holds the key of the next
// message, and none of those before: it prints as "redacted" and is to be sealed
// before it is stored. The zero value is a device that has not written yet.
type Sender struct {
	key.Redacted
	s key.Hidden[sender] // never written to once it is in a Sender
}

// sender is what Sender holds. Times are seconds since 1970.
type sender struct {
	room    [32]byte
	epoch   uint64
	device  protocol.DeviceID
	id      [32]byte
	first   uint64
	n       uint32 // of the next message
	started int64
	key     [32]byte
}

// Next is the number of the next message of this device in the room: 1 for the
// zero Sender.
func (s Sender) Next() uint64 {
	if s.s == nil {
		return 1
	}
	return s.s().first + uint64(s.s().n)
}

// Epoch is the one in which the chain may be written to; 0 for the zero Sender.
func (s Sender) Epoch() uint64 {
	if s.s == nil {
		return 0
	}
	return s.s().epoch
}

// Ended tells that nothing more may be written to the chain: the room is in
// another epoch, or the chain is full, a day old, or started later than the clock
// shows. The zero Sender has ended.
func (s Sender) Ended(now time.Time, v message.View) bool {
	if s.s == nil {
		return true
	}
	c := s.s()
	age := now.Unix() - c.started
	return v.Room != c.room || v.Epoch != c.epoch || c.n >= message.MaxChain ||
		age < 0 || age >= int64(maxAge/time.Second)
}

// Start makes the chain after s, with fresh keys. The caller stores both, seals d
// for every device that may read in the view's epoch, and destroys d; nobody has
// to have it before the first message is sealed. It fails with
// ErrMalformed for a view that cannot be, for a room or device that is not that
// of s, and after 2^63 messages.
func (s Sender) Start(now time.Time, v message.View, device protocol.DeviceID) (next Sender, d Distribution, err error) {
	first := s.Next()
	if !startsAt(v, first) || s.s != nil && (v.Room != s.s().room || device != s.s().device) {
		return s, Distribution{}, ErrMalformed
	}
	var seed [32]byte
	rand.Read(seed[:]) // crashes the program rather than fail
	id := idOf(seed, v.Room, v.Epoch, device, first)
	next = Sender{s: key.Hide(&sender{
		room: v.Room, epoch: v.Epoch, device: device, id: id,
		first: first, started: now.Unix(), key: firstKey(seed, id),
	})}
	return next, Distribution{View: v, Chain: id, First: first, seed: key.Hide(&seed)}, nil
}

// Seal pads, seals and signs msg with the key of the chain's device. The caller
// stores next, and sealed for sending again, before sealed leaves. The caller
// owns sealed; msg is not kept. The error is ErrEnded if the next chain is due,
// ErrTooLarge, ErrMalformed for a view that cannot be, or wraps key.ErrInvalid.
func (s Sender) Seal(now time.Time, k key.DevicePrivate, v message.View, msg []byte) (next Sender, sealed []byte, err error) {
	if s.Ended(now, v) {
		return s, nil, ErrEnded
	}
	n := *s.s()
	padded := envelope.Pad(msg)
	size := message.Overhead + len(padded)
	if size > protocol.MaxEnvelope {
		return s, nil, ErrTooLarge
	}
	header := message.Header{View: v, Device: n.device, Chain: n.id, Number: n.first + uint64(n.n), N: n.n}.Append(make([]byte, 0, size))
	var messageKey [32]byte
	messageKey, n.key = kdfchain.Step(n.key)
	n.n++
	if sealed, err = message.Sign(k, kdfchain.AEAD(messageKey).Seal(header, nil, padded, header)); err != nil {
		return s, nil, err
	}
	return Sender{s: key.Hide(&n)}, sealed, nil
}
