package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
)

// Welcome is what a guest gets: its entry in the log and the keys of the texts there.
// The entry is all that it needs of the log: it names, by hashes, every entry before
// it, which the rendezvous gives to who is in the room.
type Welcome struct {
	Entry room.Entry // its GuestJoin
	Keys  []room.StateKey
}

// Check tells whether a log, folded up to the entry or further, is the one that the
// guest was let into: it goes through the entry. Else the error is ErrOtherRoom.
func (w Welcome) Check(s *room.State) error {
	if hash, ok := s.At(w.Entry.Seq); !ok || s.Room() != w.Entry.Room() || hash != w.Entry.Hash() {
		return ErrOtherRoom
	}
	return nil
}

func (w Welcome) marshal() ([]byte, error) {
	if w.Entry.Op == nil || len(w.Keys) > MaxKeys {
		return nil, fmt.Errorf("let guest in: no entry, or %d keys", len(w.Keys))
	}
	text := key.AppendLP([]byte{accepted}, w.Entry.Bytes())
	for _, k := range w.Keys {
		b := k.Bytes()
		if b == nil {
			return nil, fmt.Errorf("let guest in: %w: a state key", key.ErrInvalid)
		}
		text = append(text, b...)
		clear(b)
	}
	if len(text) > MaxFrame-headerSize-gcmTag {
		return nil, fmt.Errorf("let guest in: entry of %d bytes", len(w.Entry.Bytes()))
	}
	return text, nil
}

// parseWelcome reads what the last frame seals. The error is the admitter's refusal,
// or ErrFrame.
func parseWelcome(text []byte) (w Welcome, err error) {
	if len(text) == 0 {
		return Welcome{}, ErrFrame
	}
	if text[0] == refused {
		return Welcome{}, takeRefused(text[1:])
	}
	r := key.NewReader(text[1:])
	if w.Entry, err = room.ParseEntry(bytes.Clone(r.LP())); err != nil || text[0] != accepted {
		return Welcome{}, ErrFrame
	}
	keys := r.Take(r.Len())
	const size = 32
	if r.End() != nil || len(keys)%size != 0 || len(keys) > MaxKeys*size {
		return Welcome{}, ErrFrame
	}
	for ; len(keys) > 0; keys = keys[size:] {
		k, err := room.ParseStateKey(keys[:size])
		if err != nil {
			return Welcome{}, ErrFrame
		}
		w.Keys = append(w.Keys, k)
	}
	return w, nil
}

func wrongPassword() *protocol.Error {
	return protocol.Refuse(protocol.WrongPassword, "another password than the room's")
}

// Refusal says to a guest why the log did not take its entry.
func Refusal(err error) *protocol.Error {
	for _, c := range []struct {
		err    error
		code   protocol.Code
		detail string
	}{
		{room.ErrLocked, protocol.RoomLocked, "nobody comes in now"},
		{room.ErrBarred, protocol.Banned, "removed from the room, or banned"},
		{room.ErrFull, protocol.RoomFull, "the room is full"},
		{room.ErrStalePassword, protocol.WrongPassword, "the password was changed just now"},
		{room.ErrForbidden, protocol.NobodyAdmits, "the member may not let guests in any more"},
	} {
		if errors.Is(err, c.err) {
			return protocol.Refuse(c.code, "%s", c.detail)
		}
	}
	return protocol.Refuse(protocol.Unavailable, "try again")
}

// appendRefused appends code u16 and the whole seconds to wait, u32. What the code
// means, the guest knows itself.
func appendRefused(b []byte, e *protocol.Error) []byte {
	seconds := min(max(0, math.Ceil(e.RetryAfter.Seconds())), math.MaxUint32)
	b = binary.BigEndian.AppendUint16(b, uint16(e.Code))
	return binary.BigEndian.AppendUint32(b, uint32(seconds))
}

// takeRefused reads a refusal; it returns a *protocol.Error or ErrFrame.
func takeRefused(b []byte) error {
	r := key.NewReader(b)
	code, seconds := protocol.Code(r.Uint16()), r.Uint32()
	if r.End() != nil || code == protocol.OK {
		return ErrFrame
	}
	return &protocol.Error{Code: code, RetryAfter: time.Duration(seconds) * time.Second}
}

// parseRefused reads a frame that only refuses; nil for any other frame.
func parseRefused(frame []byte) error {
	if _, err := cutFrame(frame, frameRefused); err != nil {
		return nil
	}
	return takeRefused(frame[headerSize:])
}
