package key

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"
)

// prefix begins every label, so that nothing signed or derived here means
// anything in another protocol.
const prefix = "parley/1 "

// Label returns the full label of a purpose: "parley/1 " and the word.
func Label(word string) string { return prefix + word }

// AppendLP appends x to b, preceded by its length (uint32, big-endian).
func AppendLP(b, x []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(x)))
	return append(b, x...)
}

// Message is the unambiguous encoding of parts for one purpose:
// lp(Label(word)) followed by lp of each part. It is what gets signed or hashed.
func Message(word string, parts ...[]byte) []byte {
	size := 4 + len(prefix) + len(word)
	for _, p := range parts {
		size += 4 + len(p)
	}
	b := AppendLP(make([]byte, 0, size), []byte(Label(word)))
	for _, p := range parts {
		b = AppendLP(b, p)
	}
	return b
}

// Hash is SHA-256 of Message(word, parts...).
func Hash(word string, parts ...[]byte) [32]byte {
	return sha256.Sum256(Message(word, parts...))
}

// maxUnix is the last second a time may name: the end of the year 9999.
const maxUnix = 253402300799

// ValidTime tells whether t can be encoded: from 1970 to 9999.
func ValidTime(t time.Time) bool { return t.Unix() >= 0 && t.Unix() <= maxUnix }

// Seconds cuts t to whole seconds, in UTC: what is left of it when encoded.
func Seconds(t time.Time) time.Time { return time.Unix(t.Unix(), 0).UTC() }

// AppendTime appends t as seconds since 1970 (uint64).
func AppendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.Unix()))
}

// Reader takes fields from the front of an encoding. Where too few bytes are
// left it gives zeros, and End tells.
type Reader struct {
	rest  []byte
	short bool
}

// NewReader reads b, which it does not change.
func NewReader(b []byte) *Reader { return &Reader{rest: b} }

// Take returns the next n bytes, a view into the input. N is at most 2048 or
// was compared with Len.
func (r *Reader) Take(n int) []byte {
	if n > len(r.rest) {
		r.short, r.rest = true, nil
		return make([]byte, min(n, 2048))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *Reader) Byte() byte     { return r.Take(1)[0] }
func (r *Reader) Uint16() uint16 { return binary.BigEndian.Uint16(r.Take(2)) }
func (r *Reader) Uint32() uint32 { return binary.BigEndian.Uint32(r.Take(4)) }
func (r *Reader) Uint64() uint64 { return binary.BigEndian.Uint64(r.Take(8)) }

// LP returns the next field that AppendLP wrote, a view into the input.
func (r *Reader) LP() []byte {
	n := r.Uint32()
	if uint64(n) > uint64(len(r.rest)) {
		r.short, r.rest = true, nil
		return nil
	}
	return r.Take(int(n))
}

// Time reads seconds since 1970. A value over the year 9999 becomes one that
// ValidTime refuses.
func (r *Reader) Time() time.Time {
	s := r.Uint64()
	if s > maxUnix {
		return time.Unix(-1, 0).UTC()
	}
	return time.Unix(int64(s), 0).UTC()
}

// Len is how many bytes are left.
func (r *Reader) Len() int { return len(r.rest) }

// End returns an error unless every byte was read and none was missing.
func (r *Reader) End() error {
	if r.short {
		return errors.New("ends early")
	}
	if len(r.rest) > 0 {
		return errors.New("bytes left over")
	}
	return nil
}
