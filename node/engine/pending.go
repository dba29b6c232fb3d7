package engine

import (
	"bytes"
	"fmt"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
)

// Pending is a device on its way into an account that exists: linked, restored
// from a backup, or recovered. It is stored before anything is sent, so that
// every try is made with the same keys.
type Pending struct {
	key.Redacted

	Newcomer *Newcomer

	// Linked: what another device gave, as it came. It is there; what is left
	// is to fill this store, which may need several transactions.
	Given []byte

	// Restored or recovered: the chain that certifies the device, as it is or
	// will be uploaded, and the account key that is in force in it. Empty: not
	// asked for yet.
	Chain []byte
	AIK   key.AccountPrivate
	RK    *key.RecoveryPrivate // recovered: the new recovery key
}

// SetPending stores p.
func SetPending(tx store.Tx, p *Pending) error {
	e := newRow(4 << 10)
	e.bytes(p.Newcomer.encode())
	e.bytes(p.Given)
	e.bytes(p.Chain)
	e.bytes(p.AIK.Bytes())
	if p.RK == nil {
		e.bytes(nil)
	} else {
		e.bytes(p.RK.Bytes())
	}
	return tx.Set(keyPending(), e.b)
}

// GetPending returns what is stored; nil if nothing is.
func GetPending(tx store.Tx) (*Pending, error) {
	b, err := get(tx, keyPending())
	if err != nil || b == nil {
		return nil, err
	}
	d := readRow(b)
	newcomer, given, chain, aik, rk := d.bytes(), d.bytes(), d.bytes(), d.bytes(), d.bytes()
	if err := d.end("pending device"); err != nil {
		return nil, err
	}
	p := &Pending{Given: bytes.Clone(given), Chain: bytes.Clone(chain)}
	if p.Newcomer, err = decodeNewcomer(newcomer); err != nil {
		return nil, err
	}
	if len(aik) > 0 {
		if p.AIK, err = key.ParseAccount(aik); err != nil {
			return nil, fmt.Errorf("pending device row: %w", store.ErrDamaged)
		}
	}
	if len(rk) > 0 {
		recovery, err := key.ParseRecovery(rk)
		if err != nil {
			return nil, fmt.Errorf("pending device row: %w", store.ErrDamaged)
		}
		p.RK = &recovery
	}
	return p, nil
}

// EndPending says that the device is a member.
func EndPending(tx store.Tx) error { return tx.Delete(keyPending()) }
