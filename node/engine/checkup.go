package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/store"
)

// KeyCheck is one thing that CheckKeys looked at.
type KeyCheck struct {
	Name    string
	Problem string // "": it is as it should be
	Fatal   bool   // the store is damaged
	Text    string
}

// certSoon is how long before the end of its certificate a device says so: by
// then it should have been renewed.
const certSoon = 30 * 24 * time.Hour

// CheckKeys looks at everything that concerns keys in this store. The error is
// a fault of the store that is not of a single row.
func (e *Engine) CheckKeys(tx store.Tx, now time.Time) ([]KeyCheck, error) {
	now = fromMillis(millis(now))
	checks := []struct {
		name string
		fn   func(store.Tx, time.Time) (text, problem string, err error)
	}{
		{"device keys", e.checkIdentity},
		{"certificate", e.checkCert},
		{"signed prekey", e.checkSigned},
		{"one-time prekeys", e.checkOneTime},
		{"ledger", e.checkLedger},
	}
	var list []KeyCheck
	for _, c := range checks {
		text, problem, err := c.fn(tx, now)
		broken, cut := errors.AsType[*ledger.Broken](err)
		switch {
		case cut:
			list = append(list, KeyCheck{Name: c.name, Problem: broken.Error(), Fatal: true})
		case errors.Is(err, store.ErrDamaged), errors.Is(err, ErrNotFound):
			list = append(list, KeyCheck{Name: c.name, Problem: err.Error(), Fatal: true})
		case err != nil:
			return nil, err
		default:
			list = append(list, KeyCheck{Name: c.name, Problem: problem, Text: text})
		}
	}
	return list, nil
}

// checkIdentity reads the keys again and holds them against the certificate.
func (e *Engine) checkIdentity(tx store.Tx, _ time.Time) (text, problem string, err error) {
	id, err := loadIdentity(tx)
	if err != nil {
		return "", "", err
	}
	self, err := e.self(tx)
	if err != nil {
		return "", "", err
	}
	if self.Cert.DeviceID() != id.Device || string(self.Cert.PeerID) != string(id.Host.Public().PeerID()) {
		return "", "", fmt.Errorf("the keys do not fit the certificate: %w", store.ErrDamaged)
	}
	return "they fit the certificate", "", nil
}

func (e *Engine) checkCert(tx store.Tx, now time.Time) (text, problem string, err error) {
	self, err := e.self(tx)
	if err != nil {
		return "", "", err
	}
	until := self.Cert.NotAfter
	text = "until " + until.Format(time.DateOnly)
	switch left := until.Sub(now); {
	case left <= 0:
		return text, "it ended on " + until.Format(time.DateOnly) + ": contacts no longer accept this device", nil
	case left < certSoon:
		return text, "it ends on " + until.Format(time.DateOnly) + " and was not renewed", nil
	}
	return text, "", nil
}

func (e *Engine) checkSigned(tx store.Tx, now time.Time) (text, problem string, err error) {
	k, _, err := load[prekeysRow](tx, store.Key(tablePrekeys))
	if err != nil {
		return "", "", err
	}
	if k.signed == (protocol.PrekeyID{}) {
		return "", "none was made yet", nil
	}
	pair, err := loadPair(tx, keySigned(k.signed))
	if err != nil {
		return "", "", err
	}
	if pair == nil {
		return "", "", fmt.Errorf("signed prekey %v is not there: %w", k.signed, store.ErrDamaged)
	}
	if err := pair.Record.Verify(e.id.Device, e.id.DSK.Public()); err != nil {
		return "", "", fmt.Errorf("signed prekey %v: %v: %w", k.signed, err, store.ErrDamaged)
	}
	if _, err := e.rsaFor(tx, pair.Record.RSAHash); err != nil {
		return "", "", fmt.Errorf("its RSA key: %w", err)
	}
	text = "until " + pair.Record.Expires.Format(time.DateOnly)
	if held := k.held(now); held != "" {
		return text, held, nil
	}
	if !now.Before(pair.Record.Expires) {
		return text, HeldOld, nil
	}
	return text, "", nil
}

// checkOneTime looks whether a private half belongs to every prekey that is or
// will be published. Of those used since the rendezvous last spoke none does.
func (e *Engine) checkOneTime(tx store.Tx, now time.Time) (text, problem string, err error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return "", "", err
	}
	k, stock, err := w.prekeys()
	if err != nil {
		return "", "", err
	}
	used := 0
	for _, s := range stock {
		pair, err := loadPair(tx, keyOneTime(s.id))
		if err != nil {
			return "", "", err
		}
		if pair == nil {
			used++
			continue
		}
		if pair.Record.ID() != s.id {
			return "", "", fmt.Errorf("one-time prekey %v is another: %w", s.id, store.ErrDamaged)
		}
	}
	text = fmt.Sprintf("%d for the rendezvous, %d of them used, %d kept", len(stock), used, k.kept)
	return text, k.problem, nil
}

func (e *Engine) checkLedger(tx store.Tx, _ time.Time) (text, problem string, err error) {
	head, err := ledgerHead(tx)
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%d entries", head.N), "", e.VerifyLedger(tx)
}

// CertUntil returns when this device's certificate ends.
func (e *Engine) CertUntil(tx store.Tx) (time.Time, error) {
	self, err := e.self(tx)
	return self.Cert.NotAfter, err
}
