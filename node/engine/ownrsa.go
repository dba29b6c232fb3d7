package engine

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/store"
)

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

func keyRSA(hash [32]byte) []byte { return store.Key(tableRSA, hash[:]) }
