package store

import (
	"context"
	"time"

	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/ledger"
)

// Audit is the operator's journal (protocol/audit): entries chained by hashes,
// numbered from 1, and kept for ever.
//
// Rules: Register, SetChain, PutSigned, CreateInvite, RevokeInvite,
// ChangeSigningKeys, AddRelay and RemoveRelay write what they change in their own
// transaction, once; a repetition and a refusal write nothing. No entry is ever
// changed or removed.
type Audit interface {
	// Note writes an event that changes nothing else here, with this time.
	Note(ctx context.Context, now time.Time, e audit.Event) error

	// AuditHead tells how far the journal goes.
	AuditHead(ctx context.Context) (AuditHead, error)

	// AuditEntries returns the entries with N > after, in order, at most max, as
	// they are found: whoever wants to know whether they are what was written
	// checks the chain. The error of one that is not readable, or in another's
	// place, is a *ledger.Broken; the entries before it are returned with it.
	AuditEntries(ctx context.Context, after uint64, max int) ([]audit.Entry, error)
}

// AuditHead is the end of the journal.
type AuditHead struct {
	N     uint64      `json:"n"` // of the last entry; 0: there is none
	Hash  ledger.Hash `json:"hash"`
	Bytes uint64      `json:"bytes"` // that the entries take, before the database compresses them
}
