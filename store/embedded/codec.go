package embedded

import (
	"encoding/binary"
	"errors"
	"time"
)

// Rows are written field by field: numbers as uvarints, byte strings with
// their length in front, ids as they are, times as whole seconds.

type writer []byte

func (w *writer) num(n uint64)   { *w = binary.AppendUvarint(*w, n) }
func (w *writer) fixed(b []byte) { *w = append(*w, b...) }

func (w *writer) bytes(b []byte) {
	w.num(uint64(len(b)))
	w.fixed(b)
}

func (w *writer) flag(b bool) {
	if b {
		w.num(1)
	} else {
		w.num(0)
	}
}

func (w *writer) time(t time.Time) { *w = binary.AppendVarint(*w, t.Unix()) }

// reader returns zero values after the first mistake, which err reports.
type reader struct {
	rest []byte
	bad  bool
}

var errMalformed = errors.New("malformed")

func (r *reader) err() error {
	if r.bad || len(r.rest) > 0 {
		return errMalformed
	}
	return nil
}

func (r *reader) num() uint64 {
	n, size := binary.Uvarint(r.rest)
	r.skip(size)
	return n
}

func (r *reader) flag() bool { return r.num() != 0 }

func (r *reader) time() time.Time {
	n, size := binary.Varint(r.rest)
	r.skip(size)
	return time.Unix(n, 0).UTC()
}

func (r *reader) skip(size int) {
	if size <= 0 {
		r.bad, r.rest = true, nil
		return
	}
	r.rest = r.rest[size:]
}

// fixed fills dst.
func (r *reader) fixed(dst []byte) {
	if len(r.rest) < len(dst) {
		r.bad, r.rest = true, nil
		return
	}
	copy(dst, r.rest)
	r.rest = r.rest[len(dst):]
}

// bytes returns a part of the row.
func (r *reader) bytes() []byte {
	n := r.num()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}
