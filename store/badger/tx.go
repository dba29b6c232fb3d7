package badger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"

	"github.com/dgraph-io/badger/v4"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/ordmap"
)

// A row in Badger is userPrefix and the key; the value and the CRC-32C of row
// key and value. Badger does not notice a value that changed on disk.
const userPrefix = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func rowKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), userPrefix), key...)
}

func seal(row, value []byte) []byte {
	return binary.BigEndian.AppendUint32(value, checksum(row, value))
}

func unseal(row, sealed []byte) ([]byte, error) {
	n := len(sealed) - 4
	if n < 0 || binary.BigEndian.Uint32(sealed[n:]) != checksum(row, sealed[:n]) {
		return nil, fmt.Errorf("%w: a row does not match its checksum", store.ErrDamaged)
	}
	return sealed[:n:n], nil
}

func checksum(row, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(row, castagnoli), castagnoli, value)
}

// tx reads a snapshot of Badger under the writes of its batch, which it adds
// to.
type tx struct {
	snapshot *badger.Txn
	recent   *recent // of an update; nil in a view
	writes   writes
	readOnly bool

	size    int  // of writes
	grown   int  // bytes set by this transaction
	deletes int  // by this transaction
	tooBig  bool // a write did not fit
}

// writes are what a transaction changed, by row key.
type writes = ordmap.Map[write]

type write struct {
	value   []byte
	deleted bool
}

func (t *tx) Get(key []byte) ([]byte, error) {
	row := rowKey(key)
	if t.readOnly {
		return readRow(t.snapshot, row)
	}
	w, err := t.find(row)
	if err != nil {
		return nil, err
	}
	if w.deleted {
		return nil, store.ErrNotFound
	}
	return bytes.Clone(w.value), nil
}

// find looks for a row where an update may find it: among the writes of its
// batch, among recent rows, in Badger. The value is not the caller's.
func (t *tx) find(row []byte) (write, error) {
	if w, ok := t.writes.Get(row); ok {
		return w, nil
	}
	if w, ok := t.recent.get(row); ok {
		return w, nil
	}
	value, err := readRow(t.snapshot, row)
	if err != nil {
		return write{}, err
	}
	w := write{value: value}
	t.recent.put(row, w)
	return w, nil
}

func readRow(txn *badger.Txn, row []byte) (value []byte, err error) {
	defer damaged(&err)
	item, err := txn.Get(row)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("badger: %w", err)
	}
	sealed, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("badger: %w", err)
	}
	return unseal(row, sealed)
}

func (t *tx) Set(key, value []byte) error {
	w := write{value: append(make([]byte, 0, len(value)+4), value...)} // 4: room for seal
	if err := t.put(key, w); err != nil {
		return err
	}
	t.grown += store.Cost(key, value)
	return nil
}

func (t *tx) Delete(key []byte) error {
	if err := t.put(key, write{deleted: true}); err != nil {
		return err
	}
	t.deletes++
	return nil
}

func (t *tx) put(key []byte, w write) error {
	if t.readOnly {
		return store.ErrReadOnly
	}
	if err := store.CheckPair(key, w.value); err != nil {
		return err
	}
	if t.size += store.Cost(key, w.value); t.size > store.MaxTx {
		t.tooBig = true
		return errTooBig
	}
	t.writes = t.writes.Set(rowKey(key), w)
	return nil
}

var errTooBig = fmt.Errorf("%w: writes of one transaction", store.ErrTooBig)

// frees tells whether the transaction is one that makes room: it deletes, and
// writes no more than a few counters, and one for each row it deletes.
func (t *tx) frees() bool {
	return t.grown == 0 || t.deletes > 0 && t.grown <= 2<<10+200*t.deletes
}

func (t *tx) Scan(start, end []byte) iter.Seq2[store.Pair, error] {
	return t.scan(start, end, false)
}

func (t *tx) ScanDown(start, end []byte) iter.Seq2[store.Pair, error] {
	return t.scan(start, end, true)
}
