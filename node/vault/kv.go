package vault

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/parley-chat/parley/store"
)

// A sealed value:
//
//	0   1  schema version, 1
//	1   2  id of the key it is sealed with, big-endian; 0: derived from the master key
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

// Seal wraps a store: values are sealed as they are written and opened as they
// are read, keys stay as they are. A value that was changed, moved to another
// key or sealed by another vault is store.ErrDamaged. Close closes kv.
func (v *Vault) Seal(kv store.KV) store.KV { return sealedKV{vault: v, kv: kv} }

type sealedKV struct {
	vault *Vault
	kv    store.KV
}

func (s sealedKV) View(ctx context.Context, fn func(store.Tx) error) error {
	return s.kv.View(ctx, func(tx store.Tx) error { return fn(sealedTx{s.vault, tx}) })
}

func (s sealedKV) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.kv.Update(ctx, func(tx store.Tx) error { return fn(sealedTx{s.vault, tx}) })
}

func (s sealedKV) Close() error { return s.kv.Close() }

type sealedTx struct {
	vault *Vault
	tx    store.Tx
}

func (s sealedTx) Get(key []byte) ([]byte, error) {
	sealed, err := s.tx.Get(key)
	if err != nil {
		return nil, err
	}
	return s.vault.openValue(key, sealed)
}

func (s sealedTx) Set(key, value []byte) error {
	if len(value) > store.MaxValue-Overhead {
		return fmt.Errorf("value of %d bytes: %w", len(value), store.ErrTooBig)
	}
	sealed, err := s.vault.sealValue(key, value)
	if err != nil {
		return fmt.Errorf("seal value: %w", err)
	}
	return s.tx.Set(key, sealed)
}

func (s sealedTx) Delete(key []byte) error { return s.tx.Delete(key) }

func (s sealedTx) Scan(start, end []byte) iter.Seq2[store.Pair, error] {
	return s.vault.openEach(s.tx.Scan(start, end))
}

func (s sealedTx) ScanDown(start, end []byte) iter.Seq2[store.Pair, error] {
	return s.vault.openEach(s.tx.ScanDown(start, end))
}

// openEach opens values one by one, as the caller asks for them.
func (v *Vault) openEach(sealed iter.Seq2[store.Pair, error]) iter.Seq2[store.Pair, error] {
	return func(yield func(store.Pair, error) bool) {
		for pair, err := range sealed {
			if err == nil {
				pair.Value, err = v.openValue(pair.Key, pair.Value)
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

func (v *Vault) sealValue(key, value []byte) ([]byte, error) {
	sealed := make([]byte, sealHeader, Overhead+len(value))
	sealed[0] = schemaVersion
	binary.BigEndian.PutUint16(sealed[1:], valuesKey)
	return v.values.seal(sealed, value, valueAAD(key, sealed))
}

func (v *Vault) openValue(key, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != schemaVersion || binary.BigEndian.Uint16(sealed[1:]) != valuesKey {
		return nil, fmt.Errorf("row %x: not sealed by this vault: %w", key, store.ErrDamaged)
	}
	value, err := v.values.open(sealed[sealHeader:], valueAAD(key, sealed[:sealHeader]))
	if err != nil {
		return nil, fmt.Errorf("row %x: %v: %w", key, err, store.ErrDamaged)
	}
	return value, nil
}

func valueAAD(key, header []byte) []byte {
	return append(append(make([]byte, 0, len(key)+sealHeader), key...), header...)
}
