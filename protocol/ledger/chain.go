package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/parley-chat/parley/protocol/key"
)

// Hash chains the entries. The one before the first is all zero.
type Hash [32]byte

// Link returns the hash of an entry of the journal called word, as the one after
// the entry with the hash prev (SHA-256 of the standard library).
func Link(word string, prev Hash, entry []byte) Hash { return key.Hash(word, prev[:], entry) }

// Line is an entry of a journal.
type Line interface {
	// Claims returns what the entry says of itself: its number, from 1, and its
	// hash.
	Claims() (n uint64, hash Hash)

	// After computes the hash that it has after the entry with the hash prev.
	After(prev Hash) Hash
}

// Broken is the error of a journal that is not what was written.
type Broken struct {
	N       uint64 `json:"n"` // the first entry that is wrong
	Problem string `json:"problem"`
}

func (b *Broken) Error() string { return fmt.Sprintf("ledger entry %d: %s", b.N, b.Problem) }

// Chain checks entries one after the other. The zero value is before the first.
type Chain struct {
	N    uint64
	Head Hash
}

// Next checks that e follows; a *Broken if not.
func (c *Chain) Next(e Line) error {
	switch n, hash := e.Claims(); {
	case n > c.N+1:
		return &Broken{c.N + 1, "missing"}
	case n != c.N+1:
		return &Broken{c.N + 1, fmt.Sprintf("entry %d is in its place", n)}
	case e.After(c.Head) != hash:
		return &Broken{n, "changed, or something before it was"}
	default:
		c.N, c.Head = n, hash
		return nil
	}
}

// maxExport bounds what Check reads, in bytes.
const maxExport = 1 << 30

// Check reads an export, one entry a line, and checks it from the first entry.
// It returns the last entry's number and hash. That the end was cut cannot be
// seen from the export alone: compare the hash. The error is a *Broken, or of
// the reader.
func Check(r io.Reader) (Chain, error) {
	var c Chain
	lines := json.NewDecoder(io.LimitReader(r, maxExport))
	for {
		var e Entry
		err := lines.Decode(&e)
		if err == io.EOF {
			return c, nil
		}
		if isJSON(err) {
			return c, &Broken{c.N + 1, "not readable: " + err.Error()}
		}
		if err != nil {
			return c, fmt.Errorf("read ledger: %w", err)
		}
		if err := c.Next(e); err != nil {
			return c, err
		}
	}
}

func isJSON(err error) bool {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	return syntax || kind || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errHex)
}

var errHex = errors.New("not the hexadecimal digits of a name")

func (h Hash) String() string               { return hex.EncodeToString(h[:]) }
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }
func (h *Hash) UnmarshalText(b []byte) error {
	return unhex(h[:], b)
}

// unhex takes lower case only: one name has one text.
func unhex(dst, text []byte) error {
	if len(text) != hex.EncodedLen(len(dst)) || !bytes.Equal(bytes.ToLower(text), text) {
		return errHex
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return errHex
	}
	return nil
}
