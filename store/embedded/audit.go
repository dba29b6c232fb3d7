package embedded

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/store"
)

var (
	auditPrefix  = store.Key('J')
	auditHeadKey = store.Key('j')
)

func auditKey(n uint64) []byte { return store.Key('J', n) }

// note appends an event to the journal: an entry, and the head that names it.
func note(tx store.Tx, now time.Time, e audit.Event) error {
	head, _, err := get[auditHeadRow](tx, auditHeadKey)
	if err != nil {
		return err
	}
	e.TimeMs = now.UnixMilli()
	entry := e.Next(ledger.Chain{N: head.N, Head: head.Hash})
	key, row := auditKey(entry.N), append(entry.Hash[:], entry.Encode()...)
	head = auditHeadRow{N: entry.N, Hash: entry.Hash, Bytes: head.Bytes + uint64(len(key)+len(row))}
	return errors.Join(tx.Set(key, row), put(tx, auditHeadKey, head))
}

// noteKeyChange notes what a change did to the signing keys.
func noteKeyChange(tx store.Tx, now time.Time, why store.KeyCause, keys []store.SigningKey) error {
	for _, k := range keys {
		e := audit.Event{Kind: audit.TokenKey, Name: k.ID, What: keyActs[k.State], Note: keyNotes[why]}
		switch {
		case k.State == store.KeyGone && why == store.KeyRevoked:
			e.What = audit.Revoked
		case k.State == store.KeyGone && why == store.KeyTakenBack:
			e.What = audit.RolledBack
		}
		if err := note(tx, now, e); err != nil {
			return err
		}
	}
	return nil
}

var keyActs = map[store.KeyState]audit.Act{
	store.KeyPublished: audit.Published, store.KeySigning: audit.Signing, store.KeyRetiring: audit.Retiring, store.KeyGone: audit.Gone,
}

var keyNotes = map[store.KeyCause]string{
	store.KeyAsked: "the operator asked for a rotation", store.KeyRevoked: "the operator revoked a key", store.KeyTakenBack: "a rotation was taken back",
}

// noteChain notes that an account's chain has grown beyond number seq.
func noteChain(tx store.Tx, seq uint64, p store.ChainParams) error {
	acts := []struct {
		what audit.Act
		note string
		was  bool
	}{
		{audit.Changed, fmt.Sprint("statement ", p.ChainSeq), true},
		{audit.Recovered, "", p.LastRecovery > seq},
		{audit.KeyReplaced, "", p.LastKey > seq},
		{audit.Closed, "", p.Closed},
	}
	for _, act := range acts {
		if !act.was {
			continue
		}
		if err := note(tx, p.Now, audit.Event{Kind: audit.Account, What: act.what, Account: p.Account, Note: act.note}); err != nil {
			return err
		}
	}
	return nil
}

func noteRegistered(tx store.Tx, p store.RegisterParams) error {
	e := audit.Event{Kind: audit.Account, What: audit.Registered, Account: p.Account, Name: p.Name, Note: "without an invite"}
	if p.Invite != nil {
		e.Note = "invite " + inviteName(*p.Invite)
	}
	return note(tx, p.Now, e)
}

func noteDevice(tx store.Tx, now time.Time, what audit.Act, account protocol.AccountID, device protocol.DeviceID) error {
	return note(tx, now, audit.Event{Kind: audit.Device, What: what, Account: account, Device: device})
}

// inviteName names an invite in the journal.
func inviteName(hash [32]byte) string { return hex.EncodeToString(hash[:8]) }

// Note implements store.Audit.
func (s *Store) Note(ctx context.Context, now time.Time, e audit.Event) error {
	return s.kv.Update(ctx, func(tx store.Tx) error { return note(tx, now, e) })
}

// AuditHead implements store.Audit.
func (s *Store) AuditHead(ctx context.Context) (head store.AuditHead, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		row, _, err := get[auditHeadRow](tx, auditHeadKey)
		head = store.AuditHead(row)
		return err
	})
	return head, err
}

// AuditEntries implements store.Audit.
func (s *Store) AuditEntries(ctx context.Context, after uint64, max int) (entries []audit.Entry, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		entries = nil
		for pair, err := range tx.Scan(append(auditKey(after), 0), store.PrefixEnd(auditPrefix)) {
			if err != nil {
				return err
			}
			if len(entries) >= max {
				return nil
			}
			e, err := parseAudit(pair)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}

// parseAudit reads a row of the journal: the entry's hash, and the entry.
func parseAudit(pair store.Pair) (audit.Entry, error) {
	at := store.ReadKey(pair.Key)
	n := at.Uint64()
	var hash ledger.Hash
	r := reader{rest: pair.Value}
	r.fixed(hash[:])
	e, err := audit.Parse(r.rest)
	if err != nil || r.bad || at.Err() != nil {
		return e, &ledger.Broken{N: n, Problem: "not readable"}
	}
	if e.N != n {
		return e, &ledger.Broken{N: n, Problem: fmt.Sprintf("entry %d is in its place", e.N)}
	}
	e.Hash = hash
	return e, nil
}

type auditHeadRow store.AuditHead

func (h *auditHeadRow) encode(w *writer) { w.num(h.N); w.fixed(h.Hash[:]); w.num(h.Bytes) }
func (h *auditHeadRow) decode(r *reader) { h.N = r.num(); r.fixed(h.Hash[:]); h.Bytes = r.num() }
