// Package audit is the journal of a rendezvous, for its operator: which accounts,
// devices, keys and tokens came and went, what the operator did, and refusals
// that somebody should know of. Like the ledger of a device's keys it is chained
// by hashes (package ledger), and holds no secret, no content and no address.
//
// The package is the format; it stores nothing.
package audit

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/ledger"
)

// Kind is what an event is about.
type Kind string

const (
	Account  Kind = "account"
	Device   Kind = "device"
	Prekey   Kind = "prekey" // signed ones only
	Token    Kind = "token"
	TokenKey Kind = "token_key" // that signs tokens
	Invite   Kind = "invite"
	Relay    Kind = "relay" // that runs alone
	Room     Kind = "room"
	Host     Kind = "host" // the rendezvous itself
)

// Kinds are all kinds.
var Kinds = []Kind{Account, Device, Prekey, Token, TokenKey, Invite, Relay, Room, Host}

// Act is what happened to it.
type Act string

const (
	Registered  Act = "registered"   // account
	Changed     Act = "changed"      // account: its chain is longer
	KeyReplaced Act = "key_replaced" // account: it has another account key
	Recovered   Act = "recovered"    // account: its recovery key signed
	Closed      Act = "closed"       // account

	Added      Act = "added"       // device
	Renewed    Act = "renewed"     // device: it has another certificate
	Revoked    Act = "revoked"     // device, token key
	Cloned     Act = "cloned"      // device: another store with its keys was refused
	RolledBack Act = "rolled_back" // device: a store that was set back was refused; token key: a rotation was taken back
	Refused    Act = "refused"     // device: a revoked one came back

	Published Act = "published" // prekey: the first; token key
	Replaced  Act = "replaced"  // prekey, by this one
	Issued    Act = "issued"    // token
	Signing   Act = "signing"   // token key
	Retiring  Act = "retiring"  // token key
	Gone      Act = "gone"      // token key

	Made      Act = "made"      // invite, room
	Withdrawn Act = "withdrawn" // invite
	Approved  Act = "approved"  // relay
	Removed   Act = "removed"   // relay
	Started   Act = "started"   // host
	Stopped   Act = "stopped"   // host
	SetBack   Act = "set_back"  // host: somebody has seen more of the directory log than there is
)

// Limits of an event, in bytes.
const (
	MaxName = 96 // a peer id as text
	MaxNote = 120

	maxWord = 32 // a kind, an act
)

// Event is one thing that happened.
type Event struct {
	TimeMs  int64              `json:"time_ms"` // milliseconds since 1970, by the clock of the rendezvous
	Kind    Kind               `json:"kind"`
	What    Act                `json:"what"`
	Account protocol.AccountID `json:"account,omitzero"` // whose
	Device  protocol.DeviceID  `json:"device,omitzero"`
	Name    string             `json:"name,omitempty"` // of an account, a key, a relay, a room; the beginning of an invite's hash
	Note    string             `json:"note,omitempty"` // more, for people
}

// Entry is an event in its place. N counts from 1.
type Entry struct {
	N uint64 `json:"n"`
	Event
	Hash ledger.Hash `json:"hash"`
}

// Time is when the entry was written.
func (e Event) Time() time.Time { return time.UnixMilli(e.TimeMs).UTC() }

// Next returns the entry that e becomes after the last one, with a name and a
// note that are too long cut.
func (e Event) Next(after ledger.Chain) Entry {
	e.Name = e.Name[:min(len(e.Name), MaxName)]
	e.Note = e.Note[:min(len(e.Note), MaxNote)]
	next := Entry{N: after.N + 1, Event: e}
	next.Hash = next.After(after.Head)
	return next
}

// Encode returns the bytes that are hashed (SPEC "Audit").
func (e Entry) Encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, e.N)
	b = binary.BigEndian.AppendUint64(b, uint64(e.TimeMs))
	b = key.AppendLP(b, []byte(e.Kind))
	b = key.AppendLP(b, []byte(e.What))
	b = key.AppendLP(b, orNone(e.Account))
	b = key.AppendLP(b, orNone(e.Device))
	b = key.AppendLP(b, []byte(e.Name))
	return key.AppendLP(b, []byte(e.Note))
}

// orNone is the id, or nothing if it names nobody.
func orNone[ID ~[32]byte](id ID) []byte {
	if id == (ID{}) {
		return nil
	}
	return id[:]
}

var errMalformed = errors.New("malformed audit entry")

// Parse reads what Encode made. The hash is left empty.
func Parse(b []byte) (e Entry, err error) {
	r := key.NewReader(b)
	e.N, e.TimeMs = r.Uint64(), int64(r.Uint64())
	e.Kind, e.What = Kind(r.LP()), Act(r.LP())
	account, device := r.LP(), r.LP()
	e.Name, e.Note = string(r.LP()), string(r.LP())
	if r.End() != nil || max(len(e.Kind), len(e.What)) > maxWord || len(e.Name) > MaxName || len(e.Note) > MaxNote {
		return Entry{}, errMalformed
	}
	if !parseID(&e.Account, account) || !parseID(&e.Device, device) {
		return Entry{}, errMalformed
	}
	return e, nil
}

// parseID reads what orNone made.
func parseID[ID ~[32]byte](id *ID, b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if len(b) != len(*id) {
		return false
	}
	*id = ID(b)
	return *id != ID{}
}

// After implements ledger.Line.
func (e Entry) After(prev ledger.Hash) ledger.Hash { return ledger.Link("audit", prev, e.Encode()) }

// Claims implements ledger.Line.
func (e Entry) Claims() (n uint64, hash ledger.Hash) { return e.N, e.Hash }
