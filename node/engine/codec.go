package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/parley-chat/parley/store"
)

// Rows are hand-made: fields one after the other, numbers big-endian, byte
// strings behind their length as a uvarint, times in milliseconds since 1970
// (0: the zero time). Each begins with rowVersion.
const rowVersion = 1

// encoder builds a row.
type encoder struct{ b []byte }

func newRow(size int) *encoder {
	e := &encoder{make([]byte, 0, size+1)}
	e.u8(rowVersion)
	return e
}

func (e *encoder) u8(v uint8)   { e.b = append(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *encoder) raw(v []byte) { e.b = append(e.b, v...) }

func (e *encoder) time(t time.Time) { e.u64(uint64(millis(t))) }

func (e *encoder) bytes(v []byte) {
	e.b = binary.AppendUvarint(e.b, uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) string(v string) {
	e.b = binary.AppendUvarint(e.b, uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) bool(v ...bool) {
	var bits uint8
	for i, set := range v {
		if set {
			bits |= 1 << i
		}
	}
	e.u8(bits)
}

// decoder takes a row apart. After the first mistake it yields zero values,
// and end reports it. Byte strings are views into the row.
type decoder struct {
	rest []byte
	bad  bool
}

func readRow(b []byte) *decoder {
	d := &decoder{rest: b}
	d.bad = d.u8() != rowVersion
	return d
}

func (d *decoder) raw(n int) []byte {
	if d.bad || n < 0 || n > len(d.rest) {
		d.bad, d.rest = true, nil
		return nil
	}
	v := d.rest[:n:n]
	d.rest = d.rest[n:]
	return v
}

// fixed fills dst.
func (d *decoder) fixed(dst []byte) { copy(dst, d.raw(len(dst))) }

func (d *decoder) u8() uint8 {
	if b := d.raw(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.raw(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.raw(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) time() time.Time { return fromMillis(int64(d.u64())) }

func (d *decoder) bytes() []byte {
	n, size := binary.Uvarint(d.rest)
	if d.bad || size <= 0 || n > math.MaxInt32 {
		d.bad, d.rest = true, nil
		return nil
	}
	d.raw(size)
	return d.raw(int(n))
}

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) bool(v ...*bool) {
	bits := d.u8()
	for i, dst := range v {
		*dst = bits&(1<<i) != 0
	}
	d.bad = d.bad || bits>>len(v) != 0
}

// count reads the length of a list whose items take at least size bytes each.
func (d *decoder) count(size int) int {
	n := int(d.u8())
	if n*size > len(d.rest) {
		d.bad, d.rest = true, nil
		return 0
	}
	return n
}

// end reports a row that is not what its encoder made.
func (d *decoder) end(row string) error {
	if d.bad || len(d.rest) > 0 {
		return fmt.Errorf("%s row: %w", row, store.ErrDamaged)
	}
	return nil
}

// indexOf and at write a closed set of words as a number.
func indexOf[T comparable](list []T, v T) uint8 { return uint8(max(0, slices.Index(list, v))) }

func at[T any](d *decoder, list []T) (v T) {
	i := int(d.u8())
	if i >= len(list) {
		d.bad = true
		return v
	}
	return list[i]
}

// millis cuts times to what rows hold; before 1970 is the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(0, t.UnixMilli())
}

// maxMillis is the last millisecond of the year 9999: later times come from
// nobody's clock.
const maxMillis = 253402300799999

func fromMillis(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(min(ms, maxMillis)).UTC()
}

// row is what a key of the store holds.
type row interface {
	encode() []byte
	decode([]byte) error
}

func decodeRow[R any, P interface {
	*R
	row
}](b []byte) (R, error) {
	var r R
	if err := P(&r).decode(b); err != nil {
		return r, fmt.Errorf("read store: %w", err)
	}
	return r, nil
}
