package engine

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
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
	maxAccountKeys = 32                  // kept at once; more come only from a device that went mad
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
	n := 0
	err = all(w.tx, []byte{tableAccountKey}, func(store.Pair) (bool, error) {
		n++
		return n < maxAccountKeys, nil
	})
	if err != nil || n >= maxAccountKeys {
		return err
	}
	return w.setAccountKey(k, false)
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
	case missing && late:
		return w.notice(NoticeNoAccountKey, w.e.id.Account, "the key of your account was replaced on another device, and has not come to this one: start your other devices, or add this computer again: parley --dir NEW link CODE")
	case !missing && len(w.expiring(c)) > 0:
		w.hint.Chain = true
	}
	return nil
}

// rsaRow is one RSA key of this device. A signed prekey names the one that it
// goes with.
type rsaRow struct {
	private   []byte
	created   time.Time
	keepUntil time.Time // zero: it is in use
}

func (r *rsaRow) encode() []byte {
	e := newRow(544)
	e.bytes(r.private)
	e.time(r.created)
	e.time(r.keepUntil)
	return e.b
}

func (r *rsaRow) decode(b []byte) error {
	d := readRow(b)
	r.private = bytes.Clone(d.bytes())
	r.created, r.keepUntil = d.time(), d.time()
	return d.end("RSA")
}

func (w *work) setRSA(k key.RSAPrivate, created time.Time) error {
	hash := k.Public().Hash()
	if err := w.ledger(ledger.RSA, hash[:], ledger.Created, ""); err != nil {
		return err
	}
	return w.put(keyRSA(hash), &rsaRow{private: k.Bytes(), created: created})
}

// rsaFor returns the RSA key of a hash; ErrNotFound if it is gone.
func (e *Engine) rsaFor(tx store.Tx, hash [32]byte) (key.RSAPrivate, error) {
	r, ok, err := load[rsaRow](tx, keyRSA(hash))
	if err != nil {
		return key.RSAPrivate{}, err
	}
	if !ok {
		e.rsas.forget(hash)
		return key.RSAPrivate{}, ErrNotFound
	}
	return e.rsas.parse(hash, r.private)
}

// currentRSA returns the newest RSA key: the one that new signed prekeys name.
func (e *Engine) currentRSA(tx store.Tx) (key.RSAPrivate, error) {
	var newest rsaRow
	var hash [32]byte
	err := all(tx, []byte{tableRSA}, func(pair store.Pair) (bool, error) {
		r, err := decodeRow[rsaRow](pair.Value)
		if err == nil && (newest.private == nil || r.created.After(newest.created)) {
			newest, hash = r, [32]byte(pair.Key[1:])
		}
		return true, err
	})
	if err != nil {
		return key.RSAPrivate{}, err
	}
	return e.rsas.parse(hash, newest.private)
}

// rsaCache keeps parsed RSA keys, by their hash: parsing one costs 0.5 ms. What
// belongs to a hash never changes. When it is full it is emptied.
type rsaCache struct {
	mu   sync.Mutex
	keys map[[32]byte]key.RSAPrivate
}

const maxRSACache = 4

func (c *rsaCache) parse(hash [32]byte, private []byte) (key.RSAPrivate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.keys[hash]; ok {
		return k, nil
	}
	k, err := key.ParseRSA(private)
	if err != nil || k.Public().Hash() != hash {
		return k, fmt.Errorf("RSA row: %w", store.ErrDamaged)
	}
	if c.keys == nil || len(c.keys) >= maxRSACache {
		c.keys = make(map[[32]byte]key.RSAPrivate, maxRSACache)
	}
	c.keys[hash] = k
	return k, nil
}

func (c *rsaCache) forget(hash [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, hash)
}

// keyAccountKey, keyRSA and keyOwnIdentity hold private keys: the vault
// destroys old versions of these rows.
func keyAccountKey(public []byte) []byte { return store.Key(tableAccountKey, public) }
func keyRSA(hash [32]byte) []byte        { return store.Key(tableRSA, hash[:]) }
func keyOwnIdentity() []byte             { return store.Key(tableIdentity) }
func keyReborn() []byte                  { return store.Key(tableIdentity, []byte{1}) }
func keyPending() []byte                 { return store.Key(tableIdentity, []byte{3}) }
func keySwap() []byte                    { return store.Key(tableIdentity, []byte{2}) }
