// Package protocol holds what both ends of Parley agree on: the names of
// things, the limits, the protocol IDs of the streams and the codes of
// refusals. The packages below it hold the cryptography and the messages.
//
// Nothing in this tree does I/O, starts a goroutine or reads a clock: the time
// is always an argument. It imports the standard library, x/crypto, x/mod's
// transparent logs, x/text's normal forms, protobuf, ristretto255 and a list of words, and nothing else
// of ours. protocol/SPEC.md
// is the normative text.
package protocol

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Stream protocol IDs (SPEC "Streams").
const (
	CallProtocol = "/parley/call/1" // one request to the rendezvous, one answer
	LinkProtocol = "/parley/link/1" // a node's standing link to the rendezvous: beats up, hints down
	MsgProtocol  = "/parley/msg/1"  // envelopes to a device, acknowledgements back

	PairProtocol   = "/parley/pair/1"   // two machines of one person, joined by the rendezvous, to add a device
	PrekeyProtocol = "/parley/prekey/1" // a prekey, from the contact's device itself
	RoomProtocol   = "/parley/room/1"   // what a member has of a room, from the member's device itself
	KnockProtocol  = "/parley/knock/1"  // a guest of a room, led by the rendezvous to a member who lets it in
	FileProtocol   = "/parley/file/1"   // pieces of a file, from a device that has it
	BlobProtocol   = "/parley/blob/1"   // a sealed file, to the rendezvous or from it

	FollowProtocol = "/parley/follow/1" // a relay that runs alone, to its rendezvous
	TokenProtocol  = "/parley/token/1"  // an access token, to a relay that runs alone

	TopicProtocol = "/meshsub/1.1.0" // gossipsub, as the rendezvous speaks it
)

// Version is the one protocol version this build speaks. It is signed into
// device certificates (min, max) and into every opening.
const Version uint16 = 1

// Limits that both ends enforce. Sizes are bytes.
const (
	MaxText      = 64 << 10  // UTF-8 text of one message; longer goes as a file
	MaxEnvelope  = 96 << 10  // one envelope: opening + ratchet header + padded MaxText
	MaxFrame     = 512 << 10 // one frame on any stream
	MaxName      = 32        // a unique name, ASCII
	MaxDisplay   = 64        // a display name, UTF-8
	MaxNote      = 280       // the note in a contact request, UTF-8
	MaxCert      = 512       // an encoded device certificate
	MaxDevices   = 10        // devices of one account
	MaxContacts  = 5000      // accounts on one allow list
	MaxAddrs     = 16        // addresses announced by one device
	MaxAddr      = 256       // one encoded multiaddr
	MaxRelays    = 64        // relays besides the rendezvous that serve its members
	MaxAtRelays  = 4         // of them, those that hold a reservation of one node
	MaxChain     = 64 << 10  // an encoded statement chain
	MaxReceipts  = 256       // message ids in one receipt
	MaxSkip      = 2000      // message keys skipped at once and stored per session
	MaxSessions  = 4         // sessions kept per peer device
	MailboxTTL   = 14 * 24 * time.Hour
	PrekeyStock  = 100 // one-time prekeys published per device
	PrekeyRefill = 50  // below this an online device tops up
)

// The kinds of names. All but MsgID, FileID and SessionID are hashes of the thing
// named, so reuse with other content cannot be written down.
type (
	AccountID  [32]byte // hash of the account's genesis statement
	DeviceID   [32]byte // hash of the device's keys
	RoomID     [32]byte // hash of the first entry of the room's log
	EnvelopeID [32]byte // SHA-256 of an envelope's bytes
	PrekeyID   [16]byte // hash of a prekey record
	SessionID  [16]byte // derived in a session opening
	MsgID      [16]byte // random, chosen by the author; the same in every copy of one message
	FileID     [16]byte // random, chosen by the author
)

// NewMsgID returns a fresh random message id.
func NewMsgID() (id MsgID) {
	rand.Read(id[:]) // never fails: crypto/rand crashes the program instead
	return id
}

// IDOf returns the name of an envelope.
func IDOf(envelope []byte) EnvelopeID { return sha256.Sum256(envelope) }

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ErrBadID is returned for text that does not name anything.
var ErrBadID = errors.New("not an id")

func parseID(dst []byte, text string) error {
	text = strings.ToLower(text)
	if len(text) != idText.EncodedLen(len(dst)) {
		return fmt.Errorf("%w: %d characters, want %d", ErrBadID, len(text), idText.EncodedLen(len(dst)))
	}
	b, err := idText.DecodeString(text)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrBadID, err)
	}
	if idText.EncodeToString(b) != text { // trailing bits set
		return fmt.Errorf("%w: not canonical", ErrBadID)
	}
	copy(dst, b)
	return nil
}

func (id AccountID) String() string  { return idText.EncodeToString(id[:]) }
func (id DeviceID) String() string   { return idText.EncodeToString(id[:]) }
func (id RoomID) String() string     { return idText.EncodeToString(id[:]) }
func (id EnvelopeID) String() string { return idText.EncodeToString(id[:]) }
func (id PrekeyID) String() string   { return idText.EncodeToString(id[:]) }
func (id SessionID) String() string  { return idText.EncodeToString(id[:]) }
func (id MsgID) String() string      { return idText.EncodeToString(id[:]) }
func (id FileID) String() string     { return idText.EncodeToString(id[:]) }

func (id AccountID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
func (id DeviceID) MarshalText() ([]byte, error)  { return []byte(id.String()), nil }
func (id RoomID) MarshalText() ([]byte, error)    { return []byte(id.String()), nil }
func (id PrekeyID) MarshalText() ([]byte, error)  { return []byte(id.String()), nil }
func (id MsgID) MarshalText() ([]byte, error)     { return []byte(id.String()), nil }
func (id FileID) MarshalText() ([]byte, error)    { return []byte(id.String()), nil }

func (id *AccountID) UnmarshalText(b []byte) error { return parseID(id[:], string(b)) }
func (id *DeviceID) UnmarshalText(b []byte) error  { return parseID(id[:], string(b)) }
func (id *RoomID) UnmarshalText(b []byte) error    { return parseID(id[:], string(b)) }
func (id *PrekeyID) UnmarshalText(b []byte) error  { return parseID(id[:], string(b)) }
func (id *MsgID) UnmarshalText(b []byte) error     { return parseID(id[:], string(b)) }
func (id *FileID) UnmarshalText(b []byte) error    { return parseID(id[:], string(b)) }

// ID is any of the fixed-size names.
type ID interface {
	AccountID | DeviceID | RoomID | EnvelopeID | PrekeyID | SessionID | MsgID | FileID
}

// FromBytes reads a name from wire bytes; it refuses any other length.
func FromBytes[T ID](b []byte) (id T, err error) {
	switch p := any(&id).(type) {
	case *AccountID:
		err = copyExact(p[:], b)
	case *DeviceID:
		err = copyExact(p[:], b)
	case *RoomID:
		err = copyExact(p[:], b)
	case *EnvelopeID:
		err = copyExact(p[:], b)
	case *PrekeyID:
		err = copyExact(p[:], b)
	case *SessionID:
		err = copyExact(p[:], b)
	case *MsgID:
		err = copyExact(p[:], b)
	case *FileID:
		err = copyExact(p[:], b)
	}
	return id, err
}

func copyExact(dst, src []byte) error {
	if len(src) != len(dst) {
		return fmt.Errorf("%w: %d bytes, want %d", ErrBadID, len(src), len(dst))
	}
	copy(dst, src)
	return nil
}
