package account

import (
	"encoding/binary"
	"errors"
	"time"
)

var errShort = errors.New("ends early")

// reader takes fixed fields from the front of a slice. After the first field
// that is not there it gives zeros, and end tells.
type reader struct {
	rest []byte
	err  error
}

// take returns the next n bytes, a view into the input.
func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.err, r.rest = errShort, nil
		return make([]byte, min(n, 255))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

// time reads seconds since 1970; a value no valid time has becomes one that
// validTime refuses.
func (r *reader) time() time.Time {
	s := r.uint64()
	if s > maxUnix {
		return time.Unix(-1, 0).UTC()
	}
	return time.Unix(int64(s), 0).UTC()
}

// end returns an error unless every byte was read and none was missing.
func (r *reader) end() error {
	if r.err == nil && len(r.rest) > 0 {
		return errors.New("bytes left over")
	}
	return r.err
}
