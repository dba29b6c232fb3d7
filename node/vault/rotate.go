package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/store"
)

// A rotation seals so many rows anew in one transaction, at most: what others
// write waits for it.
const (
	batchRows  = 64
	batchBytes = 128 << 10
)

// Rotate replaces the wrap key: it writes a new one into the wrap file, seals
// every ephemeral row anew, and then destroys the old one, here and on disk.
// What was deleted or overwritten before is unreadable after, in whatever the
// store below, a backup of it or a thief has kept. Rows that are still under
// the master's own key, from before there were wrap keys, are taken along; of
// these the old bytes open as long as the vault does.
//
// A row that is damaged opens with no key there is. It is left as it is, for
// whoever looks into that, and counted; it does not keep the others' old key
// alive.
//
// Others may use the store meanwhile. After an error or a crash, or when ctx
// ends, all rows are readable, and the next Rotate finishes this rotation
// first. Old keys are cleared from memory as far as Go lets us: the expanded
// cipher key waits for the garbage collector.
func (s *Store) Rotate(ctx context.Context) (damaged int, err error) {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	if s.ring.Load().old != nil {
		if _, err := s.finish(ctx); err != nil {
			return 0, fmt.Errorf("finish an earlier rotation: %w", err)
		}
	}
	if err := s.begin(); err != nil {
		return 0, fmt.Errorf("begin rotation: %w", err)
	}
	if damaged, err = s.finish(ctx); err != nil {
		return 0, fmt.Errorf("rotate: %w", err)
	}
	return damaged, nil
}

// begin brings a new key into force. The file has both before a row is sealed
// under the new one.
func (s *Store) begin() error {
	old := s.ring.Load().current
	next, err := newWrapKey(old.id)
	if err != nil {
		return err
	}
	both := &ring{current: next, old: old}
	if err := s.vault.writeRing(both); err != nil {
		return err
	}
	s.ring.Store(both)
	return nil
}

// finish seals what is not under the current key anew and gives the old key up.
func (s *Store) finish(ctx context.Context) (damaged int, err error) {
	r := s.ring.Load()
	// When an empty update has run, those that began under the ring before are
	// over: from here on nobody seals under another key than the current one.
	if err := s.kv.Update(ctx, func(store.Tx) error { return nil }); err != nil {
		return 0, err
	}
	for table := range 256 {
		start := []byte{byte(table)}
		if !s.ephemeral(start) {
			continue
		}
		n, err := s.resealTable(ctx, start, r)
		if err != nil {
			return 0, err
		}
		damaged += n
	}
	only := &ring{current: r.current}
	if err := s.vault.writeRing(only); err != nil {
		return 0, err
	}
	s.ring.Store(only)
	clear(r.old.key[:])
	return damaged, nil
}

func (s *Store) resealTable(ctx context.Context, table []byte, r *ring) (damaged int, err error) {
	end := store.PrefixEnd(table)
	for start := table; ; {
		keys, err := s.stale(ctx, start, end, r)
		if err != nil || len(keys) == 0 {
			return damaged, err
		}
		n, err := s.reseal(ctx, keys, r)
		if err != nil {
			return damaged, err
		}
		damaged += n
		start = append(keys[len(keys)-1], 0) // the first key after it
	}
}

var errEnough = errors.New("enough for one transaction")

// stale lists the next rows that are not under the current key, or under none.
func (s *Store) stale(ctx context.Context, start, end []byte, r *ring) (keys [][]byte, err error) {
	size := 0
	err = s.kv.View(ctx, func(tx store.Tx) error {
		for pair, err := range tx.Scan(start, end) {
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			id, err := sealedUnder(pair.Key, pair.Value)
			if err == nil && id == r.current.id {
				continue
			}
			keys = append(keys, pair.Key)
			size += store.Cost(pair.Key, pair.Value)
			if len(keys) == batchRows || size > batchBytes {
				return errEnough
			}
		}
		return nil
	})
	if err == errEnough {
		err = nil
	}
	return keys, err
}

// reseal seals rows anew, but for the damaged. They may have changed since they
// were listed, and then are under the current key; or be gone.
func (s *Store) reseal(ctx context.Context, keys [][]byte, r *ring) (damaged int, err error) {
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		damaged = 0
		t := sealedTx{s, r, tx}
		for _, key := range keys {
			sealed, err := tx.Get(key)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			value, err := t.open(key, sealed)
			if errors.Is(err, store.ErrDamaged) {
				damaged++
				continue
			}
			if err != nil {
				return err
			}
			err = t.Set(key, value)
			clear(value)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return damaged, err
}
