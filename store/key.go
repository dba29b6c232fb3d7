package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A key is a prefix byte, which names the kind of row, and parts:
//
//	[]byte  as it is: only for fixed sizes, such as ids
//	uint64  8 bytes, big-endian
//	string  bytes with 0x00 written as 0x00 0xff, then 0x00 0x01
//
// Keys of one shape sort like their parts, compared one after the other.

// Key builds a key. It panics for a part of another type: that is a mistake in
// the program, not in its input.
func Key(prefix byte, parts ...any) []byte {
	key := make([]byte, 1, 80)
	key[0] = prefix
	for _, part := range parts {
		switch p := part.(type) {
		case []byte:
			key = append(key, p...)
		case uint64:
			key = binary.BigEndian.AppendUint64(key, p)
		case string:
			key = append(key, strings.ReplaceAll(p, "\x00", "\x00\xff")...)
			key = append(key, 0x00, 0x01)
		default:
			panic(fmt.Sprintf("store.Key: part of type %T", part))
		}
	}
	return key
}

// PrefixEnd returns the first key after all keys that start with p, for
// Scan(p, PrefixEnd(p)); nil, which means no bound, when there is none.
func PrefixEnd(p []byte) []byte {
	end := slices.Clone(p)
	for len(end) > 0 {
		last := len(end) - 1
		if end[last]++; end[last] != 0 {
			return end
		}
		end = end[:last]
	}
	return nil
}

var errBadKey = errors.New("malformed key")

// KeyReader takes a key apart. Its methods return zero values after the first
// mistake, which Err reports.
type KeyReader struct {
	rest []byte
	bad  bool
}

// ReadKey starts after the prefix byte.
func ReadKey(key []byte) *KeyReader {
	if len(key) == 0 {
		return &KeyReader{bad: true}
	}
	return &KeyReader{rest: key[1:]}
}

// Bytes reads n bytes; the slice points into the key.
func (r *KeyReader) Bytes(n int) []byte {
	if r.bad || len(r.rest) < n {
		r.bad = true
		return make([]byte, n)
	}
	part := r.rest[:n:n]
	r.rest = r.rest[n:]
	return part
}

// Uint64 reads a number.
func (r *KeyReader) Uint64() uint64 { return binary.BigEndian.Uint64(r.Bytes(8)) }

// Text reads an escaped string.
func (r *KeyReader) Text() string {
	var s []byte
	for !r.bad {
		i := bytes.IndexByte(r.rest, 0)
		if i < 0 || i+1 == len(r.rest) {
			break
		}
		s = append(s, r.rest[:i]...)
		mark := r.rest[i+1]
		r.rest = r.rest[i+2:]
		switch mark {
		case 0x01:
			return string(s)
		case 0xff:
			s = append(s, 0)
		default:
			r.bad = true
		}
	}
	r.bad = true
	return ""
}

// Err reports a part that was not there, or bytes left over.
func (r *KeyReader) Err() error {
	if r.bad || len(r.rest) > 0 {
		return errBadKey
	}
	return nil
}
