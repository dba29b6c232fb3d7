// Package ledger is the journal of a device's keys: what was made, published,
// used, replaced and destroyed, and when. Each entry's hash covers all before
// it, so that an entry cannot be changed or cut out without notice. It holds
// no key bytes, only the first bytes of public names.
//
// The package is the format and its check; it stores nothing.
package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/parley-chat/parley/protocol/key"
)

// Kind is a kind of key.
type Kind string

const (
	Account     Kind = "account"
	Recovery    Kind = "recovery"
	Signing     Kind = "device_signing"
	Identity    Kind = "device_identity"
	Host        Kind = "host"
	Certificate Kind = "certificate"
	RSA         Kind = "rsa"
	Signed      Kind = "signed_prekey"
	OneTime     Kind = "one_time_prekey"
	Session     Kind = "session"
)

// Act is what happened to a key.
type Act string

const (
	Created   Act = "created"
	Published Act = "published"
	Claimed   Act = "claimed" // handed out, by the rendezvous or by this device
	Used      Act = "used"    // for the first time
	LastUsed  Act = "last_used"
	Replaced  Act = "replaced"
	Destroyed Act = "destroyed"
)

// MaxReason bounds Entry.Reason, in bytes.
const MaxReason = 120

// Hash chains the entries. The one before the first is all zero.
type Hash [32]byte

// ID is the beginning of a key's public name.
type ID [8]byte

// Entry is one line of a ledger. N counts from 1; times are in milliseconds
// since 1970.
type Entry struct {
	N      uint64 `json:"n"`
	TimeMs int64  `json:"time_ms"`
	Kind   Kind   `json:"kind"`
	ID     ID     `json:"id"`
	What   Act    `json:"what"`
	Reason string `json:"reason,omitempty"`
	Hash   Hash   `json:"hash"`
}

// Time is when the entry was written.
func (e Entry) Time() time.Time { return time.UnixMilli(e.TimeMs).UTC() }

// Encode returns the bytes that are hashed (SPEC "Ledger").
func (e Entry) Encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, e.N)
	b = binary.BigEndian.AppendUint64(b, uint64(e.TimeMs))
	b = key.AppendLP(b, []byte(e.Kind))
	b = key.AppendLP(b, e.ID[:])
	b = key.AppendLP(b, []byte(e.What))
	return key.AppendLP(b, []byte(e.Reason))
}

// Parse reads what Encode made. The hash is left empty.
func Parse(b []byte) (e Entry, err error) {
	r := key.NewReader(b)
	e.N, e.TimeMs = r.Uint64(), int64(r.Uint64())
	e.Kind = Kind(r.LP())
	id := r.LP()
	e.What, e.Reason = Act(r.LP()), string(r.LP())
	if err := r.End(); err != nil || copy(e.ID[:], id) != len(id) || len(id) != len(e.ID) {
		return Entry{}, errors.New("malformed ledger entry")
	}
	return e, nil
}

// After returns the hash of e as the entry after the one with the hash prev.
func (e Entry) After(prev Hash) Hash { return key.Hash("ledger", prev[:], e.Encode()) }

// Broken is the error of a ledger that is not what was written.
type Broken struct {
	N       uint64 // the first entry that is wrong
	Problem string
}

func (b *Broken) Error() string { return fmt.Sprintf("ledger entry %d: %s", b.N, b.Problem) }

// Chain checks entries one after the other. The zero value is before the first.
type Chain struct {
	N    uint64
	Head Hash
}

// Next checks that e follows; a *Broken if not.
func (c *Chain) Next(e Entry) error {
	switch {
	case e.N > c.N+1:
		return &Broken{c.N + 1, "missing"}
	case e.N != c.N+1:
		return &Broken{c.N + 1, fmt.Sprintf("entry %d is in its place", e.N)}
	case e.After(c.Head) != e.Hash:
		return &Broken{e.N, "changed, or something before it was"}
	}
	c.N, c.Head = e.N, e.Hash
	return nil
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

func (id ID) String() string               { return hex.EncodeToString(id[:]) }
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
func (id *ID) UnmarshalText(b []byte) error {
	return unhex(id[:], b)
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
