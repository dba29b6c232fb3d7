// Package embedded is a store.Rendezvous over any store.KV: the default of a
// rendezvous that runs as one process.
//
// Every method is one View or one Update. It starts no goroutine and holds no
// state besides the KV; what is remembered is listed in rows.go. It may not
// import the packages that open messages.
package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// Store implements store.Rendezvous.
type Store struct{ kv store.KV }

var _ store.Rendezvous = (*Store)(nil)

// schema is the version of rows.go. A store of another one is refused untouched.
const schema = 6

// New prepares kv, which stays the caller's to close.
func New(ctx context.Context, kv store.KV) (*Store, error) {
	err := kv.Update(ctx, func(tx store.Tx) error {
		value, err := tx.Get(schemaKey)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return tx.Set(schemaKey, []byte{schema})
		case err != nil:
			return err
		case !bytes.Equal(value, []byte{schema}):
			return fmt.Errorf("written by another version: schema %x, this program has %x", value, schema)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open rendezvous store: %w", err)
	}
	return &Store{kv: kv}, nil
}

// row is anything in rows.go that has a fixed encoding.
type row[T any] interface {
	*T
	encode(*writer)
	decode(*reader)
}

// get reads a row; ok is false when there is none.
func get[T any, R row[T]](tx store.Tx, key []byte) (v T, ok bool, err error) {
	value, err := tx.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	v, err = parse[T, R](value)
	return v, err == nil, err
}

func parse[T any, R row[T]](value []byte) (v T, err error) {
	r := &reader{rest: value}
	R(&v).decode(r)
	if err := r.err(); err != nil {
		return v, fmt.Errorf("%w: row of type %T: %w", store.ErrDamaged, v, err)
	}
	return v, nil
}

// put writes a row.
func put[T any, R row[T]](tx store.Tx, key []byte, v T) error {
	w := make(writer, 0, 128)
	R(&v).encode(&w)
	return tx.Set(key, w)
}

// scanPrefix calls each for all rows whose keys start with prefix, until it
// returns false or an error.
func scanPrefix(tx store.Tx, prefix []byte, each func(store.Pair) (bool, error)) error {
	for pair, err := range tx.Scan(prefix, store.PrefixEnd(prefix)) {
		if err != nil {
			return err
		}
		if more, err := each(pair); err != nil || !more {
			return err
		}
	}
	return nil
}

// liveDevice returns a device that may be written to.
func liveDevice(tx store.Tx, id protocol.DeviceID) (store.Device, error) {
	d, ok, err := get[deviceRow](tx, deviceKey(id))
	switch {
	case err != nil:
		return store.Device{}, err
	case !ok:
		return store.Device{}, protocol.Refuse(protocol.UnknownDevice, "%s", id)
	case d.Revoked:
		return store.Device{}, protocol.Refuse(protocol.Revoked, "%s", id)
	}
	return store.Device(d), nil
}
