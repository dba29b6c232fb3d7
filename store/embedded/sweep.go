package embedded

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// sweepBatch is how many rows one transaction of Sweep drops.
const sweepBatch = 200

// Sweep implements store.Rendezvous. Each kind of row is read in Views, which
// stop nobody; what looks stale is looked at again and dropped in small
// Updates.
func (s *Store) Sweep(ctx context.Context, now time.Time) (dropped int, err error) {
	w := sweeper{s.kv, ctx, now}
	for _, k := range []kind{
		{'d', w.deviceRevoked, w.dropDevice},
		{'b', w.boxStale, w.dropMail},
		{'c', w.claimOld, w.dropClaim},
		{'u', w.boundExpired, w.dropBound},
		{'k', w.signedExpired, w.dropSigned},
		{'i', w.inviteOld, w.dropRow},
		{'R', w.roomStale, w.dropRoomMail},
		{'O', w.untilPast, w.dropRow},
		{'X', w.untilPast, w.dropRoom},
		{'Q', w.guestDue, w.dropGuest},
		{'B', w.blobExpired, w.dropExpiredBlob},
	} {
		n, err := w.sweep(k)
		dropped += n
		if err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

// kind is a kind of row that goes stale. drop removes what belongs to one such
// row, about budget rows at most, and returns how many; the rest comes next.
type kind struct {
	prefix byte
	stale  func(store.Pair) (bool, error)
	drop   func(tx store.Tx, row store.Pair, budget int) (removed int, err error)
}

type sweeper struct {
	kv  store.KV
	ctx context.Context
	now time.Time
}

func (w sweeper) past(t time.Time) bool { return !t.After(w.now) }

// sweep drops all stale rows of one kind.
func (w sweeper) sweep(k kind) (dropped int, err error) {
	prefix := store.Key(k.prefix)
	start := prefix
	for start != nil {
		var keys [][]byte
		keys, start, err = w.find(k, start, store.PrefixEnd(prefix))
		if err != nil {
			return dropped, err
		}
		for len(keys) > 0 {
			done, n, err := w.dropSome(k, keys)
			if err != nil {
				return dropped, err
			}
			keys, dropped = keys[done:], dropped+n
		}
	}
	return dropped, nil
}

// find returns stale keys and where to go on; nil at the end.
func (w sweeper) find(k kind, start, end []byte) (keys [][]byte, next []byte, err error) {
	err = w.kv.View(w.ctx, func(tx store.Tx) error {
		for pair, err := range tx.Scan(start, end) {
			if err != nil {
				return err
			}
			if len(keys) == sweepBatch {
				next = pair.Key
				return nil
			}
			old, err := k.stale(pair)
			if err != nil {
				return err
			}
			if old {
				keys = append(keys, pair.Key)
			}
		}
		return nil
	})
	return keys, next, err
}

// dropSome drops about sweepBatch rows in one transaction and returns how many
// of the keys are done with.
func (w sweeper) dropSome(k kind, keys [][]byte) (done, dropped int, err error) {
	err = w.kv.Update(w.ctx, func(tx store.Tx) error {
		done, dropped = 0, 0
		for done < len(keys) && dropped < sweepBatch {
			n, err := w.dropOne(tx, k, keys[done], sweepBatch-dropped)
			if err != nil {
				return err
			}
			if dropped += n; dropped < sweepBatch {
				done++ // else there may be more of this one
			}
		}
		return nil
	})
	return done, dropped, err
}

func (w sweeper) dropOne(tx store.Tx, k kind, key []byte, budget int) (int, error) {
	value, err := tx.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	row := store.Pair{Key: key, Value: value}
	if old, err := k.stale(row); err != nil || !old {
		return 0, err
	}
	return k.drop(tx, row, budget)
}

func (w sweeper) inviteOld(pair store.Pair) (bool, error) {
	inv, err := parse[inviteRow](pair.Value)
	return w.past(inv.Expires.Add(inviteMemory)), err
}

func (w sweeper) claimOld(pair store.Pair) (bool, error) {
	c, err := parse[claimRow](pair.Value)
	return w.past(c.until), err
}

// dropClaim forgets an answer and with it the prekey kept for repeating it.
func (w sweeper) dropClaim(tx store.Tx, row store.Pair, _ int) (int, error) {
	c, err := parse[claimRow](row.Value)
	if err != nil || !c.oneTime {
		return 1, errors.Join(err, tx.Delete(row.Key))
	}
	r := store.ReadKey(row.Key)
	r.Bytes(len(protocol.AccountID{}))
	device := protocol.DeviceID(r.Bytes(len(protocol.DeviceID{})))
	return 2, errors.Join(tx.Delete(row.Key), tx.Delete(oneTimeKey(device, c.n)))
}

func (w sweeper) boundExpired(pair store.Pair) (bool, error) {
	b, err := parse[boundRow](pair.Value)
	return w.past(b.expires), err
}

// dropBound forgets an expired prekey id and the prekey, claimed or not.
func (w sweeper) dropBound(tx store.Tx, row store.Pair, _ int) (int, error) {
	device := protocol.DeviceID(store.ReadKey(row.Key).Bytes(len(protocol.DeviceID{})))
	bound, err := parse[boundRow](row.Value)
	if err != nil {
		return 0, err
	}
	stock, _, err := get[stockRow](tx, stockKey(device))
	if err != nil {
		return 0, err
	}
	stock.bound--
	if bound.n >= stock.next {
		stock.waiting--
	}
	return 2, errors.Join(put(tx, stockKey(device), stock), tx.Delete(row.Key), tx.Delete(oneTimeKey(device, bound.n)))
}

func (w sweeper) signedExpired(pair store.Pair) (bool, error) {
	keys, err := parse[signedRow](pair.Value)
	return slices.ContainsFunc(keys, func(k store.SignedPrekey) bool { return w.past(k.Expires) }), err
}

func (w sweeper) dropSigned(tx store.Tx, row store.Pair, _ int) (int, error) {
	keys, err := parse[signedRow](row.Value)
	if err != nil {
		return 0, err
	}
	before := len(keys)
	keys = slices.DeleteFunc(keys, func(k store.SignedPrekey) bool { return w.past(k.Expires) })
	return before - len(keys), putOrDelete(tx, row.Key, len(keys) == 0, keys)
}

func (w sweeper) boxStale(pair store.Pair) (bool, error) {
	box, err := parse[boxRow](pair.Value)
	return box.count > 0 && w.past(box.earliest), err
}

// dropMail removes expired mail of one mailbox and finds out what expires next.
func (w sweeper) dropMail(tx store.Tx, row store.Pair, budget int) (removed int, err error) {
	device := protocol.DeviceID(store.ReadKey(row.Key).Bytes(len(protocol.DeviceID{})))
	d := newDelivery(tx)
	box, err := d.box(device)
	if err != nil {
		return 0, err
	}
	var earliest time.Time
	err = scanPrefix(tx, waitingPrefix(device), func(pair store.Pair) (bool, error) {
		m, err := parse[waitingRow](pair.Value)
		if err != nil {
			return false, err
		}
		if w.past(m.expires) && removed < budget {
			removed++
			_, err := d.remove(device, envelopeOf(pair.Key))
			return true, err
		}
		if earliest.IsZero() || m.expires.Before(earliest) {
			earliest = m.expires
		}
		return true, nil
	})
	box.earliest = earliest
	return removed, errors.Join(err, d.save())
}

func envelopeOf(waitingKey []byte) protocol.EnvelopeID {
	r := store.ReadKey(waitingKey)
	r.Bytes(len(protocol.DeviceID{}))
	return protocol.EnvelopeID(r.Bytes(len(protocol.EnvelopeID{})))
}

func (w sweeper) deviceRevoked(pair store.Pair) (bool, error) {
	d, err := parse[deviceRow](pair.Value)
	return d.Revoked, err
}

// dropDevice removes mail and prekeys of a revoked device, and with the last device of
// an account the account's blobs. The device row stays: a revoked device never comes back.
func (w sweeper) dropDevice(tx store.Tx, row store.Pair, budget int) (removed int, err error) {
	device := protocol.DeviceID(store.ReadKey(row.Key).Bytes(len(protocol.DeviceID{})))
	d := newDelivery(tx)
	err = scanPrefix(tx, waitingPrefix(device), func(pair store.Pair) (bool, error) {
		removed++
		_, err := d.remove(device, envelopeOf(pair.Key))
		return removed < budget, err
	})
	if err = errors.Join(err, d.save()); err != nil {
		return removed, err
	}
	for _, prefix := range [][]byte{boundPrefix(device), oneTimePrefix(device), stockKey(device), signedKey(device)} {
		err = scanPrefix(tx, prefix, func(pair store.Pair) (bool, error) {
			if removed >= budget {
				return false, nil
			}
			removed++
			return true, tx.Delete(pair.Key)
		})
		if err != nil {
			return removed, err
		}
	}
	owner, err := deviceOf(tx, device)
	if err != nil {
		return removed, err
	}
	blobs, err := dropBlobsOf(tx, owner.Account, budget-removed)
	return removed + blobs, err
}
