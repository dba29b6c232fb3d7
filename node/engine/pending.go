package engine

import (
	"bytes"
	"fmt"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
)

// Pending is a device on its way into an account that exists: restored from a
// backup, or recovered. It is stored before anything is sent, so that every
// try is made with the same keys; while it is stored, the device is not ready.
type Pending struct {
	key.Redacted

	Newcomer *Newcomer
	Chain    []byte             // that certifies it, as it is or will be uploaded; empty: not asked for yet
	AIK      key.AccountPrivate // in force in Chain; zero as long as that is empty
}

// SetPending stores p.
func SetPending(tx store.Tx, p *Pending) error {
	e := newRow(4 << 10)
	e.bytes(p.Newcomer.encode())
	e.bytes(p.Chain)
	e.bytes(p.AIK.Bytes())
	return tx.Set(keyPending(), e.b)
}

// GetPending returns what is stored; nil if nothing is.
func GetPending(tx store.Tx) (*Pending, error) {
	b, err := get(tx, keyPending())
	if err != nil || b == nil {
		return nil, err
	}
	d := readRow(b)
	newcomer, chain, aik := d.bytes(), d.bytes(), d.bytes()
	if err := d.end("pending device"); err != nil {
		return nil, err
	}
	p := &Pending{Chain: bytes.Clone(chain)}
	if p.Newcomer, err = decodeNewcomer(newcomer); err != nil {
		return nil, err
	}
	if len(aik) > 0 {
		if p.AIK, err = key.ParseAccount(aik); err != nil {
			return nil, fmt.Errorf("pending device row: %w", store.ErrDamaged)
		}
	}
	return p, nil
}

// EndPending says that the device is ready.
func EndPending(tx store.Tx) error { return tx.Delete(keyPending()) }

func keyPending() []byte { return store.Key(tableIdentity, []byte{3}) }
