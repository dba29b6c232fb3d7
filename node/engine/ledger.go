package engine

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/store"
)

// The ledger says what happened to this device's keys. An entry is written in
// the transaction that does it; none is ever changed or removed. It grows by
// 1 KB for each session that others open and 50 KB a year besides: 100 sessions
// a day make 37 MB a year, so nothing is ever cut, and a cut always shows.

// ledgerRow is one entry, encoded, and its hash. The head row, whose key has no
// number, holds the newest once more.
type ledgerRow struct {
	hash  ledger.Hash
	entry []byte
}

func (r *ledgerRow) encode() []byte {
	e := newRow(40 + len(r.entry))
	e.raw(r.hash[:])
	e.bytes(r.entry)
	return e.b
}

func (r *ledgerRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.hash[:])
	r.entry = bytes.Clone(d.bytes())
	return d.end("ledger")
}

func (r *ledgerRow) parse() (ledger.Entry, error) {
	e, err := ledger.Parse(r.entry)
	if err != nil {
		return e, fmt.Errorf("ledger row: %w", store.ErrDamaged)
	}
	e.Hash = r.hash
	return e, nil
}

// ledger notes what happened to a key, named by the first bytes of what is
// public of it: its id, its hash, or the public key.
func (w *work) ledger(kind ledger.Kind, id []byte, what ledger.Act, reason string) error {
	head, err := ledgerHead(w.tx)
	if err != nil {
		return err
	}
	e := ledger.Entry{
		N: head.N + 1, TimeMs: millis(w.now), Kind: kind, What: what,
		Reason: reason[:min(len(reason), ledger.MaxReason)],
	}
	if w.now.IsZero() { // nobody said
		e.TimeMs = head.TimeMs
	}
	copy(e.ID[:], id)
	r := ledgerRow{hash: e.After(head.Hash), entry: e.Encode()}
	if err := w.put(keyLedger(e.N), &r); err != nil {
		return err
	}
	return w.put(store.Key(tableLedger), &r)
}

// ledgerDevice notes the same of the keys that a device is made of.
func (w *work) ledgerDevice(dsk key.DevicePrivate, dik key.IdentityPrivate, host key.HostPrivate, what ledger.Act, reason string) error {
	return errors.Join(
		w.ledger(ledger.Signing, dsk.Public().Bytes(), what, reason),
		w.ledger(ledger.Identity, dik.Public().Bytes(), what, reason),
		w.ledger(ledger.Host, host.Public().Bytes(), what, reason))
}

// ledgerEnd notes the end of the device's keys and the account's.
func (w *work) ledgerEnd(id *Identity) error {
	const why = "the device was ended"
	if err := w.ledgerDevice(id.DSK, id.DIK, id.Host, ledger.Destroyed, why); err != nil {
		return err
	}
	if err := w.ledgerAll(why); err != nil {
		return err
	}
	for _, keys := range []struct {
		table byte
		kind  ledger.Kind
	}{{tableAccountKey, ledger.Account}, {tableRSA, ledger.RSA}} {
		err := all(w.tx, []byte{keys.table}, func(pair store.Pair) (bool, error) {
			return true, w.ledger(keys.kind, pair.Key[1:], ledger.Destroyed, why)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ledgerAll notes that all sessions and prekeys are destroyed, in one entry
// each that names no key.
func (w *work) ledgerAll(reason string) error {
	return errors.Join(
		w.ledger(ledger.Session, nil, ledger.Destroyed, "all: "+reason),
		w.ledger(ledger.Signed, nil, ledger.Destroyed, "all: "+reason),
		w.ledger(ledger.OneTime, nil, ledger.Destroyed, "all: "+reason))
}

// ledgerCert notes this device's certificate, if it is another than before.
func (w *work) ledgerCert(cert account.Cert) error {
	old, err := get(w.tx, keyCert(cert.DeviceID()))
	if err != nil || bytes.Equal(old, cert.Marshal()) {
		return err
	}
	if old != nil {
		id := sha256.Sum256(old)
		if err := w.ledger(ledger.Certificate, id[:], ledger.Replaced, ""); err != nil {
			return err
		}
	}
	id := sha256.Sum256(cert.Marshal())
	return w.ledger(ledger.Certificate, id[:], ledger.Created, "until "+cert.NotAfter.Format(time.DateOnly))
}

// ledgerHead is the newest entry; the zero value before the first.
func ledgerHead(tx store.Tx) (ledger.Entry, error) {
	r, ok, err := load[ledgerRow](tx, store.Key(tableLedger))
	if err != nil || !ok {
		return ledger.Entry{}, err
	}
	return r.parse()
}

// Ledger returns entries after the number after, oldest first, at most limit
// (0: 100, and never more than 1000).
func (e *Engine) Ledger(tx store.Tx, after uint64, limit int) ([]ledger.Entry, error) {
	limit = pageSize(limit)
	var list []ledger.Entry
	err := eachEntry(tx, after, func(entry ledger.Entry) (bool, error) {
		list = append(list, entry)
		return len(list) < limit, nil
	})
	return list, err
}

// LedgerHead returns the newest entry; its number is 0 if there is none.
func (e *Engine) LedgerHead(tx store.Tx) (ledger.Entry, error) { return ledgerHead(tx) }

// VerifyLedger computes the whole chain again. The error is a *ledger.Broken
// that names the first entry that is missing or is not what was written.
func (e *Engine) VerifyLedger(tx store.Tx) error {
	var c ledger.Chain
	err := eachEntry(tx, 0, func(entry ledger.Entry) (bool, error) { return true, c.Next(entry) })
	if err != nil {
		return err
	}
	head, err := ledgerHead(tx)
	if err != nil {
		return err
	}
	if head.N != c.N || head.Hash != c.Head {
		return &ledger.Broken{N: c.N + 1, Problem: fmt.Sprintf("missing; there were %d", head.N)}
	}
	return nil
}

func eachEntry(tx store.Tx, after uint64, fn func(ledger.Entry) (bool, error)) error {
	for pair, err := range tx.Scan(keyLedger(after+1), store.PrefixEnd([]byte{tableLedger})) {
		if err != nil {
			return err
		}
		r, err := decodeRow[ledgerRow](pair.Value)
		if err != nil {
			return err
		}
		entry, err := r.parse()
		if err == nil && entry.N != keyNumber(pair.Key) {
			err = &ledger.Broken{N: keyNumber(pair.Key), Problem: fmt.Sprintf("entry %d is in its place", entry.N)}
		}
		if err != nil {
			return err
		}
		if more, err := fn(entry); err != nil || !more {
			return err
		}
	}
	return nil
}
