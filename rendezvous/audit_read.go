package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/store"
)

// AuditQuery picks entries of the journal. Zero values pick all.
type AuditQuery struct {
	After   uint64 // entries with greater numbers
	Since   time.Time
	Account string // a name, or an account id
	Kind    audit.Kind
}

// AuditPage is a part of the journal.
type AuditPage struct {
	Head    store.AuditHead `json:"head"` // before the entries were read
	Entries []AuditEntry    `json:"entries"`
	Seen    uint64          `json:"seen"` // number of the last entry that was looked at; that of the query: there was none

	Broken *ledger.Broken `json:"broken,omitempty"` // an entry after Seen cannot be read
}

// AuditEntry is an entry, and who the account in it is now.
type AuditEntry struct {
	audit.Entry
	Who string `json:"who,omitempty"`
}

const (
	auditBatch   = 250
	auditEntries = 250    // about as many are in a page
	auditScan    = 10_000 // about as many are looked at for one
)

// Audit reads a part of the operator's journal. Ask again with After set to Seen
// until nothing more is seen. ErrNotFound if nobody has the name that it asks for.
func (s *Server) Audit(ctx context.Context, q AuditQuery) (AuditPage, error) {
	return readAudit(ctx, s.store, q)
}

func readAudit(ctx context.Context, s store.Rendezvous, q AuditQuery) (AuditPage, error) {
	head, err := s.AuditHead(ctx)
	if err != nil {
		return AuditPage{}, fmt.Errorf("read the head of the audit journal: %w", err)
	}
	page := AuditPage{Head: head, Entries: []AuditEntry{}, Seen: q.After}
	r := auditReader{store: s, query: q, names: map[protocol.AccountID]string{}}
	if err := r.findAccount(ctx); err != nil {
		return AuditPage{}, err
	}
	for scanned := 0; scanned < auditScan && len(page.Entries) < auditEntries; scanned += auditBatch {
		entries, err := s.AuditEntries(ctx, page.Seen, auditBatch)
		if e := r.pick(ctx, entries, &page); e != nil {
			return AuditPage{}, e
		}
		if broken, ok := errors.AsType[*ledger.Broken](err); ok {
			page.Broken = broken
			return page, nil
		}
		if err != nil {
			return AuditPage{}, fmt.Errorf("read the audit journal: %w", err)
		}
		if len(entries) < auditBatch {
			break
		}
	}
	return page, nil
}

// auditReader reads one page.
type auditReader struct {
	store   store.Rendezvous
	query   AuditQuery
	account protocol.AccountID // that the query asks for
	names   map[protocol.AccountID]string
}

// findAccount finds out which account the query asks for.
func (r *auditReader) findAccount(ctx context.Context) error {
	text := r.query.Account
	if text == "" || r.account.UnmarshalText([]byte(text)) == nil {
		return nil
	}
	a, err := r.store.AccountByName(ctx, text)
	if protocol.CodeOf(err) == protocol.UnknownAccount {
		return fmt.Errorf("account %q: %w", text, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("find account: %w", err)
	}
	r.account = a.ID
	return nil
}

// pick puts into the page those that the query asks for.
func (r *auditReader) pick(ctx context.Context, entries []audit.Entry, page *AuditPage) error {
	q := r.query
	for _, e := range entries {
		page.Seen = e.N
		if e.Time().Before(q.Since) || q.Kind != "" && e.Kind != q.Kind || q.Account != "" && e.Account != r.account {
			continue
		}
		who, err := r.nameOf(ctx, e.Account)
		if err != nil {
			return err
		}
		page.Entries = append(page.Entries, AuditEntry{e, who})
	}
	return nil
}

// nameOf returns the name of an account; none of one that is not here.
func (r *auditReader) nameOf(ctx context.Context, id protocol.AccountID) (string, error) {
	if name, ok := r.names[id]; ok || id == (protocol.AccountID{}) {
		return name, nil
	}
	a, err := r.store.Account(ctx, id)
	if err != nil && protocol.CodeOf(err) != protocol.UnknownAccount {
		return "", fmt.Errorf("find account: %w", err)
	}
	r.names[id] = a.Name
	return a.Name, nil
}

// AuditSource is a journal to read: that of a Server, of one that is asked
// through an Admin, or of one that is stopped.
type AuditSource interface {
	Audit(ctx context.Context, q AuditQuery) (AuditPage, error)
}

// VerifyAudit computes the whole chain again. It returns how far the journal
// holds; the error is a *ledger.Broken for the first entry that does not. The
// number and hash in noted were told earlier; zero: none were.
func VerifyAudit(ctx context.Context, src AuditSource, noted ledger.Chain) (ledger.Chain, error) {
	var c, before, end ledger.Chain // end: where the head says that it is
	for {
		page, err := src.Audit(ctx, AuditQuery{After: c.N})
		if err != nil {
			return c, err
		}
		for _, e := range page.Entries {
			before = c
			if err := c.Next(e.Entry); err != nil {
				return c, err
			}
			if c.N == noted.N && c.Head != noted.Head {
				return before, &ledger.Broken{N: c.N, Problem: "another hash was noted"}
			}
			if c.N == page.Head.N {
				end = c
			}
		}
		switch {
		case page.Broken != nil:
			return c, page.Broken
		case len(page.Entries) > 0:
			continue
		case page.Head.N > c.N:
			return c, &ledger.Broken{N: c.N + 1, Problem: fmt.Sprintf("missing; there were %d", page.Head.N)}
		case page.Head.N < c.N:
			return end, &ledger.Broken{N: page.Head.N + 1, Problem: "after the last that was written"}
		case page.Head.Hash != c.Head:
			return before, &ledger.Broken{N: c.N, Problem: "changed: the last that was written has another hash"}
		case noted.N > c.N:
			return c, &ledger.Broken{N: c.N + 1, Problem: fmt.Sprintf("missing; entry %d was noted", noted.N)}
		}
		return c, nil
	}
}

// StoppedAudit is the journal of a rendezvous that does not run.
type StoppedAudit struct {
	store store.Rendezvous
	close func() error
}

// OpenAudit opens the journal in the data directory of a rendezvous. The error
// is fs.ErrNotExist where there is none, store.ErrLocked while it runs.
func OpenAudit(ctx context.Context, dir string, log *slog.Logger) (*StoppedAudit, error) {
	for _, name := range []string{IdentityFile, storeDir} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("find a rendezvous: %w", err)
		}
	}
	s, close, err := openStore(ctx, filepath.Join(dir, storeDir), log)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &StoppedAudit{s, close}, nil
}

// Audit implements AuditSource.
func (a *StoppedAudit) Audit(ctx context.Context, q AuditQuery) (AuditPage, error) {
	return readAudit(ctx, a.store, q)
}

// Close releases the directory.
func (a *StoppedAudit) Close() error { return a.close() }
