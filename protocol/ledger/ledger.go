// Package ledger is the journal of a device's keys: what was made, published,
// used, replaced and destroyed, and when. Each entry's hash covers all before
// it, so that an entry cannot be changed or cut out without notice. It holds
// no key bytes, only the first bytes of public names.
//
// Chain and Link are the construction, for every journal of this kind: see also
// package audit. The package is the format and its check; it stores nothing.
package ledger

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
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
func (e Entry) After(prev Hash) Hash { return Link("ledger", prev, e.Encode()) }

// Claims implements Line.
func (e Entry) Claims() (n uint64, hash Hash) { return e.N, e.Hash }

func (id ID) String() string               { return hex.EncodeToString(id[:]) }
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
func (id *ID) UnmarshalText(b []byte) error {
	return unhex(id[:], b)
}
