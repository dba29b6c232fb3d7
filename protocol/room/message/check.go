package message

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// Checker judges what comes for one room by what is known of the room's log. It
// is used alike by members, by validators on the topic and by the rendezvous,
// and does the cheap part first: a forgery costs one check of a signature, and
// only if it names a device that may send.
type Checker struct {
	Room   [32]byte
	Epochs Epochs
	// Sender returns the signing key of a device that may send anything at all in
	// an epoch. False: the log has no such epoch, no such device in it, or the
	// device has no such right.
	Sender func(device protocol.DeviceID, epoch uint64) (key.DevicePublic, bool)
	// Demoted tells that a device's account lost some of what it might do with messages
	// when the entry with a number was the log's newest one.
	Demoted func(device protocol.DeviceID, seq uint64) bool
}

// Live checks a message that comes from its sender, by the topic or directly,
// and so must be of the epoch in force. One that was in flight when its epoch
// ended is taken if its device may still send and was not demoted: who was muted or
// removed is not heard again by who knows of it. Every error is an *Error; of several the one
// found with the least work.
func (c Checker) Live(now time.Time, b []byte) (Verified, error) {
	m, err := c.parse(b)
	if err != nil {
		return Verified{}, err
	}
	over, ending := c.Epochs.past(now, m.Epoch)
	if over {
		return Verified{}, ErrPast
	}
	if ending {
		if err := c.still(m); err != nil {
			return Verified{}, err
		}
	}
	return c.verify(m)
}

// Brought checks a message that somebody else than its sender brings, who may have had
// it for long: any epoch of the log counts, as long as the sender may still send and
// was not demoted. Nobody helps somebody to say what he may not say any more.
func (c Checker) Brought(b []byte) (Verified, error) {
	m, err := c.parse(b)
	if err != nil {
		return Verified{}, err
	}
	if err := c.still(m); err != nil {
		return Verified{}, err
	}
	return c.verify(m)
}

// still checks that who said something may say it now.
func (c Checker) still(m Message) error {
	if err := c.May(m.Device, c.Epochs.Current()); err != nil {
		return err
	}
	if c.Demoted(m.Device, m.Seq) {
		return ErrNotSender
	}
	return nil
}

// Stored checks a message that waited in the room's mailbox, which judged it
// when it came: any epoch of the log counts.
func (c Checker) Stored(b []byte) (Verified, error) {
	m, err := c.parse(b)
	if err != nil {
		return Verified{}, err
	}
	return c.verify(m)
}

// May tells whether a device may send in an epoch: nil, ErrFuture or
// ErrNotSender. It is also the check of a chain that a device gives out.
func (c Checker) May(device protocol.DeviceID, epoch uint64) error {
	_, err := c.sender(device, epoch)
	return err
}

func (c Checker) sender(device protocol.DeviceID, epoch uint64) (key.DevicePublic, error) {
	if epoch > c.Epochs.Current() {
		return key.DevicePublic{}, ErrFuture
	}
	k, ok := c.Sender(device, epoch)
	if !ok {
		return key.DevicePublic{}, ErrNotSender
	}
	return k, nil
}

func (c Checker) parse(b []byte) (Message, error) {
	m, err := Parse(b)
	if err != nil {
		return Message{}, err
	}
	if m.Room != c.Room {
		return Message{}, ErrMalformed
	}
	return m, nil
}

func (c Checker) verify(m Message) (Verified, error) {
	k, err := c.sender(m.Device, m.Epoch)
	if err != nil {
		return Verified{}, err
	}
	return m.Verify(k)
}
