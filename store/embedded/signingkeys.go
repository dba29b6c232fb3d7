package embedded

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

const maxKeyID = 64 // bytes

var changesPrefix = store.Key('Y')

func changeKey(n uint64) []byte       { return store.Key('Y', n) }
func signingKeyKey(id string) []byte  { return store.Key('y', id) }
func goneSigningKey(id string) []byte { return store.Key('z', id) }

// SigningKeys implements store.SigningKeys.
func (s *Store) SigningKeys(ctx context.Context) (keys []store.SigningKey, number uint64, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		keys, number, err = signingKeys(tx)
		return err
	})
	return keys, number, err
}

func signingKeys(tx store.Tx) (keys []store.SigningKey, number uint64, err error) {
	for last, err := range tx.ScanDown(changesPrefix, store.PrefixEnd(changesPrefix)) {
		if err != nil {
			return nil, 0, err
		}
		number = store.ReadKey(last.Key).Uint64()
		break
	}
	err = scanPrefix(tx, store.Key('y'), func(pair store.Pair) (bool, error) {
		k, err := parse[signingKeyRow](pair.Value)
		keys = append(keys, store.SigningKey(k))
		return true, err
	})
	slices.SortFunc(keys, func(a, b store.SigningKey) int { // in one second: who is further in its life first
		return cmp.Or(a.Published.Compare(b.Published), int(b.State)-int(a.State))
	})
	return keys, number, err
}

// ChangeSigningKeys implements store.SigningKeys.
func (s *Store) ChangeSigningKeys(ctx context.Context, after uint64, keys []store.SigningKey, why store.KeyCause, now time.Time) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		before, number, err := signingKeys(tx)
		if err != nil {
			return err
		}
		if number != after {
			return store.ErrOvertaken
		}
		change := changeRow{At: now}
		for _, k := range keys {
			if err := setSigningKey(tx, k); err != nil {
				return err
			}
			change.Steps = append(change.Steps, store.KeyStep{ID: k.ID, State: k.State})
		}
		if err := checkSigners(tx, before); err != nil {
			return err
		}
		return errors.Join(put(tx, changeKey(number+1), change), noteKeyChange(tx, now, why, keys))
	})
}

// setSigningKey writes one key, if it may become that.
func setSigningKey(tx store.Tx, k store.SigningKey) error {
	if len(k.ID) == 0 || len(k.ID) > maxKeyID || len(k.Public) != 32 {
		return protocol.Refuse(protocol.BadRequest, "malformed signing key")
	}
	switch _, err := tx.Get(goneSigningKey(k.ID)); {
	case err == nil:
		return protocol.Refuse(protocol.KeyConflict, "signing key %q is gone", k.ID)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	old, known, err := get[signingKeyRow](tx, signingKeyKey(k.ID))
	switch {
	case err != nil:
		return err
	case known && (!bytes.Equal(old.Public, k.Public) || k.State != store.KeyGone && old.Seed != k.Seed):
		return protocol.Refuse(protocol.KeyConflict, "signing key %q is another one", k.ID)
	case known && !old.State.MayBecome(k.State):
		return protocol.Refuse(protocol.BadRequest, "a signing key that is %s cannot be %s", old.State, k.State)
	case !known && k.State != store.KeyPublished && k.State != store.KeySigning:
		return protocol.Refuse(protocol.BadRequest, "a new signing key cannot be %s", k.State)
	}
	if k.State == store.KeyGone {
		return errors.Join(tx.Delete(signingKeyKey(k.ID)), tx.Set(goneSigningKey(k.ID), nil))
	}
	return put(tx, signingKeyKey(k.ID), signingKeyRow(k))
}

// checkSigners makes sure that one key signs, or that none ever did.
func checkSigners(tx store.Tx, before []store.SigningKey) error {
	after, _, err := signingKeys(tx)
	if err != nil {
		return err
	}
	n := 0
	for _, k := range after {
		if k.State == store.KeySigning {
			n++
		}
	}
	signs := func(k store.SigningKey) bool { return k.State == store.KeySigning }
	if n > 1 || n == 0 && slices.ContainsFunc(before, signs) {
		return protocol.Refuse(protocol.BadRequest, "%d keys would sign", n)
	}
	return nil
}

// KeyChanges implements store.SigningKeys.
func (s *Store) KeyChanges(ctx context.Context, after uint64, max int) (changes []store.KeyChange, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		changes = nil
		for pair, err := range tx.Scan(changeKey(after+1), store.PrefixEnd(changesPrefix)) {
			if err != nil {
				return err
			}
			if len(changes) >= max {
				return nil
			}
			c, err := parse[changeRow](pair.Value)
			if err != nil {
				return err
			}
			c.Number = store.ReadKey(pair.Key).Uint64()
			changes = append(changes, store.KeyChange(c))
		}
		return nil
	})
	return changes, err
}

// signingKeyRow is a signing key that is not gone.
type signingKeyRow store.SigningKey

func (k *signingKeyRow) encode(w *writer) {
	w.bytes([]byte(k.ID))
	w.bytes(k.Public)
	w.fixed(k.Seed[:])
	w.num(uint64(k.State))
	w.time(k.Published)
	w.time(k.Signing)
	w.time(k.Retiring)
}

func (k *signingKeyRow) decode(r *reader) {
	k.ID = string(r.bytes())
	k.Public = r.bytes()
	r.fixed(k.Seed[:])
	k.State = store.KeyState(r.num())
	k.Published, k.Signing, k.Retiring = r.time(), r.time(), r.time()
}

// changeRow is a change; its number is in the key.
type changeRow store.KeyChange

func (c *changeRow) encode(w *writer) {
	w.time(c.At)
	w.num(uint64(len(c.Steps)))
	for _, s := range c.Steps {
		w.bytes([]byte(s.ID))
		w.num(uint64(s.State))
	}
}

func (c *changeRow) decode(r *reader) {
	c.At = r.time()
	for n := r.num(); n > 0 && !r.bad; n-- {
		c.Steps = append(c.Steps, store.KeyStep{ID: string(r.bytes()), State: store.KeyState(r.num())})
	}
}
