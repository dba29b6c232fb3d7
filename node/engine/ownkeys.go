package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	accountKeyKept = 30 * 24 * time.Hour // how long an account key is kept that is not in force (any more)
	accountKeyLate = 24 * time.Hour      // after this the user hears that the key in force did not come
	maxAccountKeys = 32                  // kept at once; more come only from a device that went mad, or was stolen
)

// accountKeyRow is the private half of an account key or of the recovery key.
// Several account keys may be there: one that will be in force when the chain
// that names it is uploaded, or was until lately.
type accountKeyRow struct {
	private  []byte
	mine     bool // made here: the other devices of the account get it from here
	created  time.Time
	replaced time.Time // zero: never
}

func (r *accountKeyRow) encode() []byte {
	e := newRow(64)
	e.bytes(r.private)
	e.bool(r.mine)
	e.time(r.created)
	e.time(r.replaced)
	return e.b
}

func (r *accountKeyRow) decode(b []byte) error {
	d := readRow(b)
	r.private = bytes.Clone(d.bytes())
	d.bool(&r.mine)
	r.created, r.replaced = d.time(), d.time()
	return d.end("account key")
}

func (w *work) setAccountKey(k key.AccountPrivate, mine bool) error {
	row := accountKeyRow{private: k.Bytes(), mine: mine, created: w.now}
	reason := "given to this device"
	if mine {
		reason = "replaces the one before"
	}
	if err := w.ledger(ledger.Account, k.Public().Bytes(), ledger.Created, reason); err != nil {
		return err
	}
	return w.put(keyAccountKey(k.Public().Bytes()), &row)
}

func (w *work) setRecoveryKey(k key.RecoveryPrivate) error {
	row := accountKeyRow{private: k.Bytes(), created: w.now}
	if err := w.ledger(ledger.Recovery, k.Public().Bytes(), ledger.Created, ""); err != nil {
		return err
	}
	return w.put(keyAccountKey(k.Public().Bytes()), &row)
}

// takeAccountKey keeps an account key that another device of the account sent.
// Whether it is in force the chain says, now or when it comes.
func (w *work) takeAccountKey(seed []byte) error {
	k, err := key.ParseAccount(seed)
	if err != nil {
		return nil
	}
	place := keyAccountKey(k.Public().Bytes())
	if old, err := get(w.tx, place); err != nil || old != nil {
		return err
	}
	if err := w.roomForAccountKey(); err != nil {
		return err
	}
	if err := w.setAccountKey(k, false); err != nil {
		return err
	}
	return w.useAccountKey()
}

// useAccountKey does what the account key in force is wanted for, if it is here:
// asks for a renewal that is due, and ends the sessions with revoked devices,
// from which nothing more is awaited.
func (w *work) useAccountKey() error {
	c, _, err := w.e.signingKey(w.tx)
	if errors.Is(err, ErrNoAccountKey) {
		return nil
	}
	if err != nil {
		return err
	}
	w.hint.Chain = w.hint.Chain || w.wantsRenewal(c)
	return w.endRevoked(c)
}

// endRevoked ends the sessions with revoked devices of the account.
func (w *work) endRevoked(c *account.Chain) error {
	for _, device := range c.Ended() {
		d, err := w.device(device)
		if err == ErrNotFound {
			continue
		}
		if err != nil {
			return err
		}
		if err := w.forgetSessions(device, d); err != nil {
			return err
		}
	}
	return nil
}

// roomForAccountKey forgets the oldest key that was given to this device and is
// not in force, if there are too many: the next one may be the one that counts.
func (w *work) roomForAccountKey() error {
	c, err := w.e.OwnChain(w.tx)
	if err != nil {
		return err
	}
	var oldest []byte
	var since time.Time
	n := 0
	err = all(w.tx, []byte{tableAccountKey}, func(pair store.Pair) (bool, error) {
		n++
		r, err := decodeRow[accountKeyRow](pair.Value)
		if err != nil {
			return false, err
		}
		inForce := bytes.Equal(pair.Key, keyAccountKey(c.Signer().Bytes())) || bytes.Equal(pair.Key, keyAccountKey(c.Recovery().Bytes()))
		if !r.mine && !inForce && (oldest == nil || r.created.Before(since)) {
			oldest, since = slices.Clone(pair.Key), r.created
		}
		return true, nil
	})
	if err != nil || n < maxAccountKeys || oldest == nil {
		return err
	}
	return w.delete(oldest)
}

// OwnChain returns the statement chain of this account as it is known here.
func (e *Engine) OwnChain(tx store.Tx) (*account.Chain, error) {
	b, err := get(tx, keyChain(e.id.Account))
	if err != nil {
		return nil, err
	}
	c, err := account.ParseChain(b)
	if err != nil {
		return nil, fmt.Errorf("own chain row: %w", store.ErrDamaged)
	}
	return c, nil
}

// signingKey returns the own chain and the key that may sign its next
// statement; ErrNoAccountKey if that is not here.
func (e *Engine) signingKey(tx store.Tx) (*account.Chain, key.AccountPrivate, error) {
	c, err := e.OwnChain(tx)
	if err != nil {
		return nil, key.AccountPrivate{}, err
	}
	r, ok, err := load[accountKeyRow](tx, keyAccountKey(c.Signer().Bytes()))
	if err != nil {
		return nil, key.AccountPrivate{}, err
	}
	if !ok {
		return nil, key.AccountPrivate{}, ErrNoAccountKey
	}
	k, err := key.ParseAccount(r.private)
	if err != nil || k.Public() != c.Signer() {
		return nil, key.AccountPrivate{}, fmt.Errorf("account key row: %w", store.ErrDamaged)
	}
	return c, k, nil
}

// self returns this device with its certificate in force, for openings.
func (e *Engine) self(tx store.Tx) (envelope.Identity, error) {
	cert, err := loadCert(tx, e.id.Device)
	if err != nil {
		return envelope.Identity{}, fmt.Errorf("own certificate: %w", err)
	}
	return envelope.Identity{Cert: cert, Identity: e.id.DIK}, nil
}

// RecoverySeed returns the recovery key, whose bytes are the recovery words. Not
// ok once the user has confirmed to have them: then it is on paper only.
func (e *Engine) RecoverySeed(tx store.Tx) (rk key.RecoveryPrivate, ok bool, err error) {
	c, err := e.OwnChain(tx)
	if err != nil {
		return rk, false, err
	}
	r, ok, err := load[accountKeyRow](tx, keyAccountKey(c.Recovery().Bytes()))
	if err != nil || !ok {
		return rk, false, err
	}
	rk, err = key.ParseRecovery(r.private)
	if err != nil || rk.Public() != c.Recovery() {
		return rk, false, fmt.Errorf("recovery key row: %w", store.ErrDamaged)
	}
	return rk, true, nil
}

// ConfirmRecovery destroys the recovery key, since the user has the words, and
// has the other devices do so: one that was restored from a backup may hold it.
func (e *Engine) ConfirmRecovery(tx store.Tx, now time.Time) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	c, err := e.OwnChain(tx)
	if err != nil {
		return Hint{}, err
	}
	if err := w.forgetRecoveryKey(c.Recovery().Bytes()); err != nil {
		return Hint{}, err
	}
	list, err := w.siblings()
	if err != nil {
		return Hint{}, err
	}
	for _, device := range list {
		d, err := w.device(device)
		if err != nil {
			return Hint{}, err
		}
		forget := &wire.AccountKey{Forget: c.Recovery().Bytes()}
		content := &wire.Content{Body: &wire.Content_AccountKey{AccountKey: forget}}
		if _, err := w.postOther(device, d, wire.MailKind_MESSAGE, content); err != nil {
			return Hint{}, err
		}
	}
	return w.end()
}

// forgetRecoveryKey destroys the recovery key, if it is here and has this public
// half: no other key is destroyed because somebody says so.
func (w *work) forgetRecoveryKey(public []byte) error {
	c, err := w.e.OwnChain(w.tx)
	if err != nil || !bytes.Equal(public, c.Recovery().Bytes()) {
		return err
	}
	place := keyAccountKey(public)
	if b, err := get(w.tx, place); err != nil || b == nil {
		return err
	}
	if err := w.ledger(ledger.Recovery, public, ledger.Destroyed, "the user has the recovery words"); err != nil {
		return err
	}
	return w.delete(place)
}

// accountKeyReplaced notes since when an account key is not in force any more.
func (w *work) accountKeyReplaced(old key.AccountPublic) error {
	place := keyAccountKey(old.Bytes())
	r, ok, err := load[accountKeyRow](w.tx, place)
	if err != nil || !ok {
		return err
	}
	r.replaced = w.now
	if err := w.ledger(ledger.Account, old.Bytes(), ledger.Replaced, ""); err != nil {
		return err
	}
	return w.put(place, &r)
}

// nextAccountKey returns a new account key, stored before anything names it. One
// that was made before and never came into force is taken again.
func (w *work) nextAccountKey(c *account.Chain) (next key.AccountPrivate, err error) {
	var seed []byte
	err = w.eachAccountKey(c, func(_ []byte, r accountKeyRow) error {
		if r.mine && r.replaced.IsZero() {
			seed = r.private
		}
		return nil
	})
	if err != nil {
		return next, err
	}
	if seed != nil {
		return key.ParseAccount(seed)
	}
	next = key.NewAccount()
	return next, w.setAccountKey(next, true)
}

// eachAccountKey calls fn for the account keys that are not in force.
func (w *work) eachAccountKey(c *account.Chain, fn func(place []byte, r accountKeyRow) error) error {
	inForce, recovery := keyAccountKey(c.Signer().Bytes()), keyAccountKey(c.Recovery().Bytes())
	return all(w.tx, []byte{tableAccountKey}, func(pair store.Pair) (bool, error) {
		if bytes.Equal(pair.Key, inForce) || bytes.Equal(pair.Key, recovery) {
			return true, nil
		}
		r, err := decodeRow[accountKeyRow](pair.Value)
		if err != nil {
			return false, err
		}
		return true, fn(pair.Key, r)
	})
}

// sweepAccount destroys account keys that were replaced long ago, or never came
// into force; asks for a renewal of certificates when one is due; and tells the
// user when the key in force is not here, so that this device can do nothing
// for the account.
func (w *work) sweepAccount() error {
	if w.e.isGuest() { // the key of its account was never kept
		return nil
	}
	if err := w.at(w.now.Add(accountEvery), timerAccount, nil); err != nil {
		return err
	}
	c, _, err := w.e.signingKey(w.tx)
	missing := errors.Is(err, ErrNoAccountKey)
	if missing {
		c, err = w.e.OwnChain(w.tx)
	}
	if err != nil {
		return err
	}
	late := true
	err = w.eachAccountKey(c, func(place []byte, r accountKeyRow) error {
		since := r.replaced
		if since.IsZero() {
			since = r.created
		}
		late = late && w.now.Sub(since) > accountKeyLate
		if w.now.Sub(since) <= accountKeyKept {
			return nil
		}
		if err := w.ledger(ledger.Account, place[1:], ledger.Destroyed, "expired"); err != nil {
			return err
		}
		return w.delete(place)
	})
	switch {
	case err != nil:
		return err
	case !missing:
		return w.useAccountKey()
	case late:
		if err := w.endRevoked(c); err != nil {
			return err
		}
		return w.notice(NoticeNoAccountKey, w.e.id.Account, "the key of your account was replaced on another device, and has not come to this one: start your other devices, or add this computer again: parley --dir NEW link CODE")
	}
	return nil
}

func keyAccountKey(public []byte) []byte { return store.Key(tableAccountKey, public) }
func keyOwnIdentity() []byte             { return store.Key(tableIdentity) }
func keyReborn() []byte                  { return store.Key(tableIdentity, []byte{1}) }
func keyPending() []byte                 { return store.Key(tableIdentity, []byte{3}) }
func keySwap() []byte                    { return store.Key(tableIdentity, []byte{2}) }
