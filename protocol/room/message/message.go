// Package message is a room message as it travels: a header, what is sealed
// behind it, and the signature of the device that sent it. It is what passing a
// message on needs, and nothing of what opening it needs: a rendezvous and a
// validator on the room's topic know who may send from the room's log, check the
// signature with a Checker, and drop the rest. Package chain makes and opens
// what is sealed.
//
// The signature is Ed25519 by the device signing key (DSK, RFC 8032) over
// everything before it. Room messages are therefore not deniable: that is the
// price for relays that drop forgeries without being able to read.
//
// The package does no I/O, reads no clock and keeps nothing between calls. Room
// ids and hashes of log entries are plain 32 bytes here.
package message

import (
	"encoding/binary"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

const (
	// MaxChain is how many messages a chain has at most; numbers in it stay below.
	MaxChain = 1000
	// MaxNumber is the largest number of a message of a device in a room.
	MaxNumber = 1<<63 - 1
	// Overhead is what a message is longer than its padded text, in bytes.
	Overhead = headerSize + minSealed + key.SignatureSize

	version     = 1
	typeMessage = 0x10

	// Offsets in an encoded message (SPEC "Room messages").
	offFlags   = 2
	offRoom    = 4
	offEpoch   = 36
	offSeq     = 44
	offHead    = 52
	offDevice  = 84
	offChain   = 116
	offNumber  = 148
	offN       = 156
	headerSize = 160

	minSealed = 12 + 16 // nonce and tag

	purpose = "group message" // of the signature
)

// View is a room's log as a sender knows it.
type View struct {
	Room  [32]byte // hash of the log's first entry
	Epoch uint64   // number of the last entry that changed who may read or write
	Seq   uint64   // number of the newest entry; at least Epoch
	Head  [32]byte // its hash
}

// Append appends the 80 bytes of the view to b.
func (v View) Append(b []byte) []byte {
	b = append(b, v.Room[:]...)
	b = binary.BigEndian.AppendUint64(b, v.Epoch)
	b = binary.BigEndian.AppendUint64(b, v.Seq)
	return append(b, v.Head[:]...)
}

// Header is the part of a message that everybody can read.
type Header struct {
	View
	Device protocol.DeviceID // the sender
	Chain  [32]byte          // the sender's chain: a commitment to its keys
	Number uint64            // of the message among all of this device in the room, from 1
	N      uint32            // and in its chain, from 0; below MaxChain
}

// Append appends the 160 bytes of the header to b.
func (h Header) Append(b []byte) []byte {
	b = append(b, version, typeMessage, 0, 0)
	b = h.View.Append(b)
	b = append(b, h.Device[:]...)
	b = append(b, h.Chain[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Number)
	return binary.BigEndian.AppendUint32(b, h.N)
}

// First is the number of the first message in the message's chain.
func (h Header) First() uint64 { return h.Number - uint64(h.N) }

// valid tells whether an honest sender can have made h. Numbers begin with 1, so
// a chain never begins with 0.
func (h Header) valid() bool {
	return h.Seq >= h.Epoch && h.N < MaxChain && h.Number <= MaxNumber && h.Number > uint64(h.N)
}

// Message is a message that was parsed but not checked. It is a view into the
// bytes it was parsed from.
type Message struct {
	Header
	raw []byte
}

// Parse reads a message; the error is ErrMalformed. It checks no signature: use
// a Checker, which calls it.
func Parse(b []byte) (Message, error) {
	if len(b) < Overhead || len(b) > protocol.MaxEnvelope {
		return Message{}, ErrMalformed
	}
	if b[0] != version || b[1] != typeMessage || b[offFlags] != 0 || b[offFlags+1] != 0 {
		return Message{}, ErrMalformed
	}
	h := Header{
		View: View{
			Room:  [32]byte(b[offRoom:]),
			Epoch: binary.BigEndian.Uint64(b[offEpoch:]),
			Seq:   binary.BigEndian.Uint64(b[offSeq:]),
			Head:  [32]byte(b[offHead:]),
		},
		Device: protocol.DeviceID(b[offDevice:]),
		Chain:  [32]byte(b[offChain:]),
		Number: binary.BigEndian.Uint64(b[offNumber:]),
		N:      binary.BigEndian.Uint32(b[offN:]),
	}
	if !h.valid() {
		return Message{}, ErrMalformed
	}
	return Message{Header: h, raw: b}, nil
}

// ID names the message, as it is stored and passed on: the hash of all its bytes. What is
// done to a message later names its author and the random id inside instead: sealed again,
// it is the same.
func (m Message) ID() protocol.EnvelopeID { return protocol.IDOf(m.raw) }

// Bytes returns the whole message, as it came.
func (m Message) Bytes() []byte { return m.raw }

// Sealed returns the bytes of the header, which are authenticated, and nonce ‖
// ciphertext ‖ tag behind it: views into the message.
func (m Message) Sealed() (header, sealed []byte) {
	return m.raw[:headerSize], m.raw[headerSize : len(m.raw)-key.SignatureSize]
}

// Verified is a message whose signature was checked. Only Verify makes one; the
// zero value holds no message.
type Verified struct{ m Message }

// Message returns what was verified.
func (v Verified) Message() Message { return v.m }

// Verify checks the signature with the key of the device that the header names;
// the error is ErrForged. It costs about 40 µs. Whether the device may send is
// the Checker's question.
func (m Message) Verify(k key.DevicePublic) (Verified, error) {
	signed := len(m.raw) - key.SignatureSize
	if signed < 0 || k.Verify(purpose, m.raw[signed:], m.raw[:signed]) != nil {
		return Verified{}, ErrForged
	}
	return Verified{m}, nil
}

// Sign returns the message of a header and what was sealed behind it: both in
// unsigned, which may be appended to. The error is ErrMalformed for what Parse
// would refuse, or wraps key.ErrInvalid.
func Sign(k key.DevicePrivate, unsigned []byte) ([]byte, error) {
	sig, err := k.Sign(purpose, unsigned)
	if err != nil {
		return nil, fmt.Errorf("sign room message: %w", err)
	}
	signed := append(unsigned, sig...)
	if _, err := Parse(signed); err != nil {
		return nil, err
	}
	return signed, nil
}
