package envelope

import (
	"bytes"
	"errors"
	"math/bits"
)

// minPadded is the shortest padded message, in bytes.
const minPadded = 256

// ErrPadding is returned for bytes that Pad did not make.
var ErrPadding = errors.New("bad padding")

// Pad returns msg followed by 0x80 and zeros, up to the greater of 256 bytes
// and Padmé's length, which adds at most 12 % and tells an observer only
// O(log log n) bits of the length (Nikitin et al., PETS 2019). msg is not
// changed.
func Pad(msg []byte) []byte {
	out := make([]byte, paddedSize(len(msg)))
	out[copy(out, msg)] = 0x80
	return out
}

// Unpad returns the message inside, a view into b.
func Unpad(b []byte) ([]byte, error) {
	msg := bytes.TrimRight(b, "\x00")
	n := len(msg) - 1
	if n < 0 || msg[n] != 0x80 || len(b) != paddedSize(n) {
		return nil, ErrPadding
	}
	return msg[:n], nil
}

// paddedSize is the padded length of a message of n bytes.
func paddedSize(n int) int {
	size := n + 1 // the byte 0x80
	if size <= minPadded {
		return minPadded
	}
	return int(Padme(int64(size)))
}

// Padme rounds a size of at least 2 bytes up so that it tells little of what it was:
// Padmé, see Pad.
func Padme(size int64) int64 {
	e := bits.Len64(uint64(size)) - 1 // floor(log2 size)
	low := e - bits.Len(uint(e))      // bits that are cleared
	mask := int64(1)<<low - 1
	return (size + mask) &^ mask
}
