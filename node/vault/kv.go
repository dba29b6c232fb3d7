package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/parley-chat/parley/store"
)

// A sealed value:
//
//	0   1  schema version, 1
//	1   2  id of the key it is sealed with, big-endian; 0: derived from the
//	       master key; others are in the wrap file
//	3  24  nonce
//	27  n  ciphertext, as long as the value
//	.. 16  tag
//
// The additional data is the row's whole key in the store, then bytes 0 to 2:
// a value cannot be moved to another row.
const (
	schemaVersion = 1
	valuesKey     = 0
	sealHeader    = 3
)

// Overhead is how many bytes sealing adds to a value; the longest value that
// fits a sealed store is store.MaxValue - Overhead bytes.
const Overhead = sealHeader + nonceSize + tagSize

// Store is a store.KV over another, whose values it seals as they are written
// and opens as they are read; keys stay as they are. A value that was changed,
// moved to another key, sealed by another vault or under a key that is gone is
// store.ErrDamaged.
type Store struct {
	kv        store.KV
	vault     *Vault
	ephemeral func(key []byte) bool
	ring      atomic.Pointer[ring]
	rotating  sync.Mutex // one Rotate at a time; who holds it changes ring
}

// Seal wraps kv, which must be the one store of this vault and held by this
// process alone; Close closes it. ephemeral says which rows Rotate is for, by
// the first byte of their key: whole tables. Tables may become ephemeral from
// one version of a program to the next; the way back would lose their rows.
// store.ErrDamaged if the wrap file is; kv stays open after an error.
func (v *Vault) Seal(kv store.KV, ephemeral func(key []byte) bool) (*Store, error) {
	if err := tidy(v.path(fileName)); err != nil {
		return nil, fmt.Errorf("tidy up vault: %w", err)
	}
	r, err := v.readRing()
	if err != nil {
		return nil, err
	}
	s := &Store{kv: kv, vault: v, ephemeral: ephemeral}
	s.ring.Store(r)
	return s, nil
}

// errRotated tells View to begin again.
var errRotated = errors.New("the wrap keys have changed")

// View implements store.KV. The ring has to be the one that was in force when
// the snapshot was taken, so it must be the same before and after that.
func (s *Store) View(ctx context.Context, fn func(store.Tx) error) error {
	for {
		r := s.ring.Load()
		err := s.kv.View(ctx, func(tx store.Tx) error {
			if s.ring.Load() != r {
				return errRotated
			}
			return fn(sealedTx{s, r, tx})
		})
		if err != errRotated {
			return err
		}
	}
}

// Update implements store.KV. Updates run one after the other and see each
// other's writes, so the ring in force when fn starts is the right one.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.kv.Update(ctx, func(tx store.Tx) error { return fn(sealedTx{s, s.ring.Load(), tx}) })
}

// Close implements store.KV.
func (s *Store) Close() error { return s.kv.Close() }

type sealedTx struct {
	store *Store
	ring  *ring
	tx    store.Tx
}

func (t sealedTx) Get(key []byte) ([]byte, error) {
	sealed, err := t.tx.Get(key)
	if err != nil {
		return nil, err
	}
	return t.open(key, sealed)
}

func (t sealedTx) Set(key, value []byte) error {
	if len(value) > store.MaxValue-Overhead {
		return fmt.Errorf("value of %d bytes: %w", len(value), store.ErrTooBig)
	}
	sealed, err := t.seal(key, value)
	if err != nil {
		return fmt.Errorf("seal value: %w", err)
	}
	return t.tx.Set(key, sealed)
}

func (t sealedTx) Delete(key []byte) error { return t.tx.Delete(key) }

func (t sealedTx) Scan(start, end []byte) iter.Seq2[store.Pair, error] {
	return t.openEach(t.tx.Scan(start, end))
}

func (t sealedTx) ScanDown(start, end []byte) iter.Seq2[store.Pair, error] {
	return t.openEach(t.tx.ScanDown(start, end))
}

// openEach opens values one by one, as the caller asks for them.
func (t sealedTx) openEach(sealed iter.Seq2[store.Pair, error]) iter.Seq2[store.Pair, error] {
	return func(yield func(store.Pair, error) bool) {
		for pair, err := range sealed {
			if err == nil {
				pair.Value, err = t.open(pair.Key, pair.Value)
			}
			if err != nil {
				yield(store.Pair{}, err)
				return
			}
			if !yield(pair, nil) {
				return
			}
		}
	}
}

func (t sealedTx) seal(key, value []byte) ([]byte, error) {
	id, cipher := uint16(valuesKey), t.store.vault.values
	if t.store.ephemeral(key) {
		id, cipher = t.ring.current.id, t.ring.current.cipher
	}
	sealed := make([]byte, sealHeader, Overhead+len(value))
	sealed[0] = schemaVersion
	binary.BigEndian.PutUint16(sealed[1:], id)
	return cipher.seal(sealed, value, valueAAD(key, sealed))
}

func (t sealedTx) open(key, sealed []byte) ([]byte, error) {
	id, err := sealedUnder(key, sealed)
	if err != nil {
		return nil, err
	}
	cipher := t.store.vault.values
	if id != valuesKey {
		cipher = t.ring.find(id)
	}
	if cipher == nil {
		return nil, fmt.Errorf("row %x: sealed under the wrap key %d, which is gone: %w", key, id, store.ErrDamaged)
	}
	value, err := cipher.open(sealed[sealHeader:], valueAAD(key, sealed[:sealHeader]))
	if err != nil {
		return nil, fmt.Errorf("row %x: %v: %w", key, err, store.ErrDamaged)
	}
	return value, nil
}

// sealedUnder reads the id of the key that a row is sealed with.
func sealedUnder(key, sealed []byte) (uint16, error) {
	if len(sealed) < Overhead || sealed[0] != schemaVersion {
		return 0, fmt.Errorf("row %x: not sealed by this vault: %w", key, store.ErrDamaged)
	}
	return binary.BigEndian.Uint16(sealed[1:]), nil
}

func valueAAD(key, header []byte) []byte {
	return append(append(make([]byte, 0, len(key)+sealHeader), key...), header...)
}
