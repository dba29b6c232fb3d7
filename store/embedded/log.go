package embedded

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/store"
)

// logRegistered writes the first entry of an account.
func logRegistered(tx store.Tx, label [32]byte, a *accountRow) (err error) {
	a.Entry, err = appendLeaf(tx, directory.Leaf{Label: label, Account: a.ID, Seq: a.ChainSeq, Head: a.ChainHead})
	return err
}

// logChain writes the next entry of an account, whose chain has grown.
func logChain(tx store.Tx, a *accountRow) error {
	row, ok, err := get[leafRow](tx, entryKey(a.Entry))
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: entry %d of the log is missing", store.ErrDamaged, a.Entry)
	}
	return logRegistered(tx, row.Label, a)
}

func appendLeaf(tx store.Tx, leaf directory.Leaf) (index uint64, err error) {
	size, _, err := get[sizeRow](tx, logSizeKey)
	if err != nil {
		return 0, err
	}
	n := int64(size)
	hashes, err := tlog.StoredHashes(n, leaf.Marshal(), tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		return readHashes[tlog.Hash](tx, indexes)
	}))
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	if err != nil {
		return 0, fmt.Errorf("hash entry %d of the log: %w", n, err)
	}
	for i, h := range hashes {
		if err := tx.Set(hashKey(tlog.StoredHashIndex(0, n)+int64(i)), h[:]); err != nil {
			return 0, err
		}
	}
	return uint64(size), errors.Join(
		put(tx, entryKey(uint64(size)), leafRow(leaf)),
		put(tx, logSizeKey, size+1))
}

func readHashes[H ~[32]byte](tx store.Tx, indexes []int64) ([]H, error) {
	hashes := make([]H, len(indexes))
	for i, index := range indexes {
		value, err := tx.Get(hashKey(index))
		if err != nil {
			return nil, fmt.Errorf("hash %d of the log: %w", index, err)
		}
		if len(value) != len(hashes[i]) {
			return nil, fmt.Errorf("%w: hash %d of the log has %d bytes", store.ErrDamaged, index, len(value))
		}
		hashes[i] = H(value)
	}
	return hashes, nil
}

// LogSize implements store.Log.
func (s *Store) LogSize(ctx context.Context) (n uint64, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		size, _, err := get[sizeRow](tx, logSizeKey)
		n = uint64(size)
		return err
	})
	return n, err
}

// LogHashes implements store.Log.
func (s *Store) LogHashes(ctx context.Context, indexes []int64) (hashes [][32]byte, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		hashes, err = readHashes[[32]byte](tx, indexes)
		return err
	})
	return hashes, err
}

// LogLeaves implements store.Log.
func (s *Store) LogLeaves(ctx context.Context, from uint64, max int) (leaves []store.Leaf, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		leaves = nil
		for pair, err := range tx.Scan(entryKey(from), store.PrefixEnd(store.Key('E'))) {
			if err != nil || len(leaves) == max {
				return err
			}
			row, err := parse[leafRow](pair.Value)
			if err != nil {
				return err
			}
			leaves = append(leaves, store.Leaf(row))
		}
		return nil
	})
	return leaves, err
}
