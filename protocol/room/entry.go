package room

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

const (
	labelEntry = "roomlog"  // hash and signature of an entry
	labelLink  = "roomjoin" // signature of a link's key over who joins by it

	entryVersion = 1
	entryFixed   = 2 + 32 + 8 + 32 + 1 + 4 + 32 + 32 + 8 + key.SignatureSize // without body
)

// Entry is one step of a room's log, signed by the device that wrote it. Only
// ParseEntry and the methods that write entries make valid ones. An entry is never
// changed.
type Entry struct {
	Seq     uint64   // the first has 0
	Prev    [32]byte // hash of the entry before; zero in the first
	Op      Op
	Account protocol.AccountID // of the author
	Device  protocol.DeviceID
	Time    time.Time // whole seconds; what the author says, nothing is decided by it

	room  protocol.RoomID // zero in the first
	sig   [key.SignatureSize]byte
	known bool // the signature was checked, as Refold says
}

// Room is the room the entry belongs to.
func (e Entry) Room() protocol.RoomID {
	if e.Seq == 0 {
		return e.Hash()
	}
	return e.room
}

// Bytes returns the encoded entry, at most MaxEntry bytes. The caller owns it.
func (e Entry) Bytes() []byte { return append(e.unsigned(), e.sig[:]...) }

// Hash names the entry.
func (e Entry) Hash() [32]byte { return key.Hash(labelEntry, e.Bytes()) }

// unsigned is the entry without its signature.
func (e Entry) unsigned() []byte {
	body := e.Op.body()
	b := make([]byte, 0, entryFixed+len(body))
	b = binary.BigEndian.AppendUint16(b, entryVersion)
	b = append(b, e.room[:]...)
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = append(b, e.Prev[:]...)
	b = append(b, byte(e.Op.Kind()))
	b = key.AppendLP(b, body)
	b = append(b, e.Account[:]...)
	b = append(b, e.Device[:]...)
	return key.AppendTime(b, e.Time)
}

// sign returns the entry with its signature. What is built is read back, so it can
// always be read.
func (e Entry) sign(k key.DevicePrivate) (Entry, error) {
	sig, err := k.Sign(labelEntry, e.unsigned())
	if err != nil {
		return Entry{}, err
	}
	e.sig = [key.SignatureSize]byte(sig)
	return ParseEntry(e.Bytes())
}

// verify checks the signature by the key of the author's device. It covers the
// fields, so that what is checked is what is done.
func (e Entry) verify(k key.DevicePublic) error {
	if e.known {
		return nil
	}
	return k.Verify(labelEntry, e.sig[:], e.unsigned())
}

// ParseEntry reads an encoded entry. It checks the form only: see State.Extend for
// whether to believe it. The error wraps ErrMalformed or ErrUnsupported.
func ParseEntry(b []byte) (Entry, error) {
	if len(b) < entryFixed || len(b) > MaxEntry {
		return Entry{}, fmt.Errorf("%w: entry of %d bytes", ErrMalformed, len(b))
	}
	var e Entry
	r := key.NewReader(b)
	if version := r.Uint16(); version != entryVersion {
		return Entry{}, fmt.Errorf("entry of version %d: %w", version, ErrUnsupported)
	}
	copy(e.room[:], r.Take(32))
	e.Seq = r.Uint64()
	copy(e.Prev[:], r.Take(32))
	kind, body := Kind(r.Byte()), r.LP()
	copy(e.Account[:], r.Take(32))
	copy(e.Device[:], r.Take(32))
	e.Time = r.Time()
	copy(e.sig[:], r.Take(key.SignatureSize))
	if err := r.End(); err != nil {
		return Entry{}, fmt.Errorf("%w: entry %v", ErrMalformed, err)
	}
	if !key.ValidTime(e.Time) {
		return Entry{}, fmt.Errorf("%w: time of an entry", ErrMalformed)
	}
	op, err := parseOp(kind, body)
	if err != nil {
		return Entry{}, err
	}
	e.Op = op
	first := e.Seq == 0
	if _, create := op.(Create); create != first || (first && (e.room != protocol.RoomID{} || e.Prev != [32]byte{})) {
		return Entry{}, fmt.Errorf("%w: misplaced first entry", ErrMalformed)
	}
	return e, nil
}
