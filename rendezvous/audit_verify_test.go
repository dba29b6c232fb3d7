package rendezvous

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/embedded"
	"github.com/parley-chat/parley/store/memory"
)

// auditOf is a journal over a KV in memory, with an account called alice in it.
func auditOf(t testing.TB) (*StoppedAudit, store.KV, store.Rendezvous) {
	t.Helper()
	kv := memory.New()
	r, err := embedded.New(t.Context(), kv)
	if err != nil {
		t.Fatal(err)
	}
	now := newClock().Now()
	mustDo(t, r.Register(t.Context(), store.RegisterParams{
		Name: "alice", Account: protocol.AccountID{1}, Chain: []byte("chain"), ChainSeq: 1, Now: now,
		Devices: []store.NewDevice{{ID: protocol.DeviceID{1}, PeerID: []byte("peer")}},
	}))
	return &StoppedAudit{store: r, close: kv.Close}, kv, r
}

// tampered is a journal whose rows a test changes behind its back.
type tampered struct {
	t     *testing.T
	kv    store.KV
	src   AuditSource
	whole ledger.Chain
	rows  []store.Pair
	head  []byte
}

var (
	auditRows = store.Key('J')
	auditHead = store.Key('j')
)

func newTampered(t *testing.T) *tampered {
	src, kv, r := auditOf(t)
	for i := range 6 {
		mustDo(t, r.Note(t.Context(), time.UnixMilli(int64(i)), audit.Event{Kind: audit.Token, What: audit.Issued, Name: fmt.Sprint("key ", i), Note: "relay"}))
	}
	w := &tampered{t: t, kv: kv, src: src}
	var err error
	if w.whole, err = VerifyAudit(t.Context(), src, ledger.Chain{}); err != nil || w.whole.N != 8 {
		t.Fatalf("%+v, %v", w.whole, err)
	}
	mustDo(t, kv.View(t.Context(), func(tx store.Tx) (err error) {
		w.head, err = tx.Get(auditHead)
		for pair, err := range tx.Scan(auditRows, store.PrefixEnd(auditRows)) {
			if err != nil {
				return err
			}
			w.rows = append(w.rows, pair)
		}
		return err
	}))
	return w
}

// broken makes a change, checks which entry is said to be wrong, and undoes it.
func (w *tampered) broken(what string, n uint64, change func(store.Tx) error) {
	w.t.Helper()
	mustDo(w.t, w.kv.Update(w.t.Context(), change))
	c, err := VerifyAudit(w.t.Context(), w.src, ledger.Chain{})
	if b, ok := errors.AsType[*ledger.Broken](err); !ok || b.N != n || c.N != n-1 {
		w.t.Errorf("%s: holds up to %d, %v; want entry %d", what, c.N, err, n)
	}
	mustDo(w.t, w.kv.Update(w.t.Context(), func(tx store.Tx) error {
		for pair := range tx.Scan(auditRows, store.PrefixEnd(auditRows)) {
			if err := tx.Delete(pair.Key); err != nil {
				return err
			}
		}
		return errors.Join(set(tx, w.rows), tx.Set(auditHead, w.head))
	}))
}

func set(tx store.Tx, rows []store.Pair) error {
	for _, row := range rows {
		if err := tx.Set(row.Key, row.Value); err != nil {
			return err
		}
	}
	return nil
}

// TestKLC12_AuditTampering: whatever is changed, cut out, moved or added on the
// disk, is found, and it is told where.
func TestKLC12_AuditTampering(t *testing.T) {
	w := newTampered(t)
	for i, row := range w.rows {
		n := uint64(i) + 1
		for at := range row.Value {
			w.broken(fmt.Sprintf("entry %d, byte %d", n, at), n, func(tx store.Tx) error {
				changed := bytes.Clone(row.Value)
				changed[at] ^= 1
				return tx.Set(row.Key, changed)
			})
			w.broken(fmt.Sprintf("entry %d, cut after %d", n, at), n, func(tx store.Tx) error { return tx.Set(row.Key, row.Value[:at]) })
		}
		w.broken(fmt.Sprintf("entry %d longer", n), n, func(tx store.Tx) error { return tx.Set(row.Key, append(bytes.Clone(row.Value), 0)) })
		w.broken(fmt.Sprintf("entry %d removed", n), n, func(tx store.Tx) error { return tx.Delete(row.Key) })
		w.broken(fmt.Sprintf("all from %d on removed", n), n, func(tx store.Tx) error {
			for _, row := range w.rows[i:] {
				if err := tx.Delete(row.Key); err != nil {
					return err
				}
			}
			return nil
		})
		if i == 0 {
			continue
		}
		before := w.rows[i-1]
		w.broken(fmt.Sprintf("entries %d and %d swapped", n-1, n), n-1, func(tx store.Tx) error {
			return errors.Join(tx.Set(row.Key, before.Value), tx.Set(before.Key, row.Value))
		})
		w.broken(fmt.Sprintf("entry %d in place of the next", n-1), n, func(tx store.Tx) error { return tx.Set(row.Key, before.Value) })
	}
}

// TestKLC12_AuditTamperingAtTheEnd: the same of who computes hashes, at the end.
func TestKLC12_AuditTamperingAtTheEnd(t *testing.T) {
	w := newTampered(t)
	last := w.rows[len(w.rows)-1]
	w.broken("the last entry written anew", w.whole.N, func(tx store.Tx) error {
		e, err := audit.Parse(last.Value[32:])
		if err != nil {
			return err
		}
		e.Note = "http"
		anew := e.After(ledger.Hash(w.rows[len(w.rows)-2].Value[:32]))
		return tx.Set(last.Key, append(anew[:], e.Encode()...))
	})
	w.broken("an entry added", w.whole.N+1, func(tx store.Tx) error {
		e := audit.Event{Kind: audit.Host, What: audit.Started}.Next(w.whole)
		return tx.Set(store.Key('J', e.N), append(e.Hash[:], e.Encode()...))
	})
	for at := range 1 + len(ledger.Hash{}) { // the number, and the hash
		mustDo(t, w.kv.Update(t.Context(), func(tx store.Tx) error {
			changed := bytes.Clone(w.head)
			changed[at] ^= 1
			return tx.Set(auditHead, changed)
		}))
		if _, err := VerifyAudit(t.Context(), w.src, ledger.Chain{}); err == nil {
			t.Errorf("byte %d of the head", at)
		}
	}
}

// TestAuditNoted: who writes the whole journal again, or sets it back, is found
// by what was noted before.
func TestAuditNoted(t *testing.T) {
	src, _, r := auditOf(t)
	mustDo(t, r.Note(t.Context(), newClock().Now(), audit.Event{Kind: audit.Host, What: audit.Started}))
	noted, err := VerifyAudit(t.Context(), src, ledger.Chain{})
	mustDo(t, err)
	mustDo(t, r.Note(t.Context(), newClock().Now(), audit.Event{Kind: audit.Host, What: audit.Stopped}))
	if c, err := VerifyAudit(t.Context(), src, noted); err != nil || c.N != noted.N+1 {
		t.Errorf("%+v, %v", c, err)
	}
	anew, _, r := auditOf(t)
	older, err := VerifyAudit(t.Context(), anew, noted)
	if b, ok := errors.AsType[*ledger.Broken](err); !ok || b.N != noted.N || older.N != noted.N-1 {
		t.Errorf("set back: %+v, %v", older, err)
	}
	mustDo(t, r.Note(t.Context(), newClock().Now(), audit.Event{Kind: audit.Host, What: audit.Removed}))
	c, err := VerifyAudit(t.Context(), anew, noted)
	if b, ok := errors.AsType[*ledger.Broken](err); !ok || b.N != noted.N || c != older {
		t.Errorf("written anew: %+v, %v", c, err)
	}
}
