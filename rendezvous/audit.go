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

const noteTimeout = 5 * time.Second // for the last entry before the end

// note writes an event into the operator's journal.
func (s *Server) note(ctx context.Context, e audit.Event) error {
	e.TimeMs = s.now().UnixMilli()
	if err := s.store.Note(ctx, e); err != nil {
		return fmt.Errorf("write to the audit journal: %w", err)
	}
	return nil
}

// tryNote does the same for what happens whether it can be noted or not.
func (s *Server) tryNote(ctx context.Context, e audit.Event) {
	if err := s.note(ctx, e); err != nil && ctx.Err() == nil {
		s.noticeFailure(err)
		s.log.Error("cannot note", "kind", string(e.Kind), "what", string(e.What), "err", err)
	}
}

// warning is something that is noted once in 24 hours: who causes it can do so
// as often as he likes, and the journal is for ever.
type warning struct {
	what   audit.Act
	device protocol.DeviceID // zero: whoever it was
}

// noteRefusal notes that a device was refused for what it is, and not for what
// it asked.
func (s *Server) noteRefusal(ctx context.Context, d store.Device, what audit.Act) {
	if take(s.now(), 1, "warnings", s.rates.warnings.get(warning{what, d.ID})) == nil {
		s.tryNote(ctx, audit.Event{Kind: audit.Device, What: what, Account: d.Account, Device: d.ID})
	}
}

// noteSeen notes when a device says to hold more of the directory log than there
// is: our store was set back to an older state, or the device lies.
func (s *Server) noteSeen(ctx context.Context, d store.Device, seen, size uint64) {
	if seen <= size || take(s.now(), 1, "warnings", s.rates.warnings.get(warning{what: audit.SetBack})) != nil {
		return
	}
	s.tryNote(ctx, audit.Event{
		Kind: audit.Host, What: audit.SetBack, Account: d.Account, Device: d.ID,
		Note: fmt.Sprintf("this device says that the directory log had %d entries; it has %d", seen, size),
	})
}

// noteStart notes that the rendezvous serves. noteStop ends what it began.
func (s *Server) noteStart(ctx context.Context) {
	how := "joining by invite"
	if s.cfg.Open {
		how = "joining open to everybody"
	}
	s.tryNote(ctx, audit.Event{Kind: audit.Host, What: audit.Started, Note: how})
	s.noted = true
}

func (s *Server) noteStop() {
	if !s.noted {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), noteTimeout)
	defer cancel()
	s.tryNote(ctx, audit.Event{Kind: audit.Host, What: audit.Stopped})
}

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

	Broken    *ledger.Broken `json:"broken,omitempty"`     // an entry after Seen cannot be read
	NoAccount bool           `json:"no_account,omitempty"` // nobody has the name that was asked for
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
// until nothing more is seen.
func (s *Server) Audit(ctx context.Context, q AuditQuery) (AuditPage, error) {
	return readAudit(ctx, s.store, q)
}

func readAudit(ctx context.Context, r store.Rendezvous, q AuditQuery) (page AuditPage, err error) {
	if page.Head, err = r.AuditHead(ctx); err != nil {
		return AuditPage{}, fmt.Errorf("read the head of the audit journal: %w", err)
	}
	account, err := findAudited(ctx, r, q.Account)
	if protocol.CodeOf(err) == protocol.UnknownAccount {
		return AuditPage{Head: page.Head, Seen: q.After, NoAccount: true}, nil
	}
	if err != nil {
		return AuditPage{}, err
	}
	picks := func(e audit.Entry) bool {
		return !e.Time().Before(q.Since) && (q.Kind == "" || e.Kind == q.Kind) && (q.Account == "" || e.Account == account)
	}
	names := auditNames{r, map[protocol.AccountID]string{}}
	page.Entries, page.Seen = []AuditEntry{}, q.After
	for scanned := 0; scanned < auditScan && len(page.Entries) < auditEntries; scanned += auditBatch {
		entries, err := r.AuditEntries(ctx, page.Seen, auditBatch)
		for _, e := range entries {
			page.Seen = e.N
			if !picks(e) {
				continue
			}
			who, err := names.of(ctx, e.Account)
			if err != nil {
				return AuditPage{}, err
			}
			page.Entries = append(page.Entries, AuditEntry{e, who})
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

// findAudited returns the account with this id or name; the zero one for none.
func findAudited(ctx context.Context, r store.Rendezvous, text string) (id protocol.AccountID, err error) {
	if text == "" || id.UnmarshalText([]byte(text)) == nil {
		return id, nil
	}
	a, err := r.AccountByName(ctx, text)
	return a.ID, err
}

// auditNames remembers the names of accounts for a page.
type auditNames struct {
	store store.Rendezvous
	known map[protocol.AccountID]string
}

func (n auditNames) of(ctx context.Context, id protocol.AccountID) (string, error) {
	if name, ok := n.known[id]; ok || id == (protocol.AccountID{}) {
		return name, nil
	}
	a, err := n.store.Account(ctx, id)
	if err != nil && protocol.CodeOf(err) != protocol.UnknownAccount {
		return "", fmt.Errorf("find account: %w", err)
	}
	n.known[id] = a.Name
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
	for _, name := range []string{identityFile, storeDir} {
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
