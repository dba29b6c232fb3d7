package embedded

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/store"
)

// maxBound is how many prekey ids of a device are remembered until they
// expire, claimed and taken back ones included. Beyond it the stock is full.
const maxBound = 5000

// PutSigned implements store.Prekeys.
func (s *Store) PutSigned(ctx context.Context, device protocol.DeviceID, key store.SignedPrekey, now time.Time) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		owner, err := liveDevice(tx, device)
		if err != nil {
			return err
		}
		kept, _, err := get[signedRow](tx, signedKey(device))
		if err != nil {
			return err
		}
		for _, k := range kept {
			if k.ID == key.ID && k.Key != key.Key {
				return protocol.Refuse(protocol.KeyConflict, "signed prekey %s", key.ID)
			}
			if k.ID == key.ID {
				return nil // a retry
			}
		}
		kept = append(kept, key)
		slices.SortStableFunc(kept, func(a, b store.SignedPrekey) int {
			return cmp.Or(b.Created.Compare(a.Created), slices.Compare(a.ID[:], b.ID[:]))
		})
		if kept[0].ID == key.ID {
			what := audit.Published
			if len(kept) > 1 {
				what = audit.Replaced
			}
			err = note(tx, now, audit.Event{Kind: audit.Prekey, What: what, Account: owner.Account, Device: device, Name: key.ID.String()})
		}
		return errors.Join(err, put(tx, signedKey(device), kept[:min(2, len(kept))]))
	})
}

// PutOneTime implements store.Prekeys.
func (s *Store) PutOneTime(ctx context.Context, device protocol.DeviceID, keys []store.OneTimePrekey, limit int, now time.Time) (res store.UploadResult, err error) {
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		res = store.UploadResult{}
		if _, err := liveDevice(tx, device); err != nil {
			return err
		}
		stock, err := freshStock(tx, device, now)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := putOneTime(tx, device, k, &stock, limit, now, &res); err != nil {
				return err
			}
		}
		if res.Stored > 0 {
			if err := put(tx, stockKey(device), stock); err != nil {
				return err
			}
		}
		res.Count, err = count(tx, device, stock, now)
		return err
	})
	return res, err
}

// putOneTime judges one key of an upload.
func putOneTime(tx store.Tx, device protocol.DeviceID, k store.OneTimePrekey, stock *stockRow, limit int, now time.Time, res *store.UploadResult) error {
	bound, known, err := get[boundRow](tx, boundKey(device, k.ID))
	switch {
	case err != nil:
		return err
	case known && bound.key != k.Key:
		res.Conflicts = append(res.Conflicts, k.ID)
		return nil
	case known:
		return nil // waiting, or claimed already
	case !k.Expires.After(now):
		res.Expired = append(res.Expired, k.ID)
		return nil
	case stock.waiting >= uint64(limit) || stock.bound >= maxBound:
		res.Full = append(res.Full, k.ID)
		return nil
	}
	n := stock.end
	stock.end++
	stock.waiting++
	stock.bound++
	res.Stored++
	return errors.Join(
		put(tx, oneTimeKey(device, n), oneTimeRow{k.ID, k.Expires, k.Record}),
		put(tx, boundKey(device, k.ID), boundRow{k.Key, n, k.Expires}))
}

// freshStock returns the stock without the expired prekeys at its beginning.
// It writes nothing, so it serves Views too.
func freshStock(tx store.Tx, device protocol.DeviceID, now time.Time) (stockRow, error) {
	stock, _, err := get[stockRow](tx, stockKey(device))
	if err != nil {
		return stock, err
	}
	for ; stock.next < stock.end; stock.next++ {
		k, there, err := get[oneTimeRow](tx, oneTimeKey(device, stock.next))
		if err != nil {
			return stock, err
		}
		if there && k.expires.After(now) {
			return stock, nil
		}
		if there {
			stock.waiting--
		}
	}
	return stock, nil
}

func count(tx store.Tx, device protocol.DeviceID, stock stockRow, now time.Time) (store.PrekeyCount, error) {
	c := store.PrekeyCount{OneTime: int(stock.waiting)}
	signed, _, err := get[signedRow](tx, signedKey(device))
	if err != nil {
		return c, err
	}
	for _, k := range signed {
		if k.Expires.After(now) {
			c.Signed++
		}
	}
	c.Digest, err = digest(tx, device, stock)
	return c, err
}

// digest hashes the ids of what waits, in order.
func digest(tx store.Tx, device protocol.DeviceID, stock stockRow) (sum [32]byte, err error) {
	var ids []protocol.PrekeyID
	for pair, err := range tx.Scan(oneTimeKey(device, stock.next), oneTimeKey(device, stock.end)) {
		if err != nil {
			return sum, err
		}
		k, err := parse[oneTimeRow](pair.Value)
		if err != nil {
			return sum, err
		}
		ids = append(ids, k.id)
	}
	slices.SortFunc(ids, func(a, b protocol.PrekeyID) int { return slices.Compare(a[:], b[:]) })
	h := sha256.New()
	for _, id := range ids {
		h.Write(id[:])
	}
	h.Sum(sum[:0])
	return sum, nil
}

// DropOneTime implements store.Prekeys. The ids stay bound.
func (s *Store) DropOneTime(ctx context.Context, device protocol.DeviceID) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		if _, err := liveDevice(tx, device); err != nil {
			return err
		}
		stock, _, err := get[stockRow](tx, stockKey(device))
		if err != nil {
			return err
		}
		for pair, err := range tx.Scan(oneTimeKey(device, stock.next), oneTimeKey(device, stock.end)) {
			if err != nil {
				return err
			}
			if err := tx.Delete(pair.Key); err != nil {
				return err
			}
		}
		stock.next, stock.waiting = stock.end, 0
		return put(tx, stockKey(device), stock)
	})
}

// CountPrekeys implements store.Prekeys.
func (s *Store) CountPrekeys(ctx context.Context, device protocol.DeviceID, now time.Time) (c store.PrekeyCount, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		stock, err := freshStock(tx, device, now)
		if err != nil {
			return err
		}
		c, err = count(tx, device, stock, now)
		return err
	})
	return c, err
}

// SignedPrekey implements store.Prekeys.
func (s *Store) SignedPrekey(ctx context.Context, device protocol.DeviceID, now time.Time) (k store.SignedPrekey, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		if _, err := liveDevice(tx, device); err != nil {
			return err
		}
		k, err = pickSigned(tx, device, protocol.PrekeyID{}, now)
		return err
	})
	return k, err
}

// pickSigned returns the signed prekey with that id, else the newest, unless
// expired.
func pickSigned(tx store.Tx, device protocol.DeviceID, id protocol.PrekeyID, now time.Time) (store.SignedPrekey, error) {
	kept, _, err := get[signedRow](tx, signedKey(device))
	if err != nil {
		return store.SignedPrekey{}, err
	}
	kept = slices.DeleteFunc(kept, func(k store.SignedPrekey) bool { return !k.Expires.After(now) })
	if len(kept) == 0 {
		return store.SignedPrekey{}, protocol.Refuse(protocol.Unavailable, "device %s has published no prekey that is still valid", device)
	}
	if i := slices.IndexFunc(kept, func(k store.SignedPrekey) bool { return k.ID == id }); i >= 0 {
		return kept[i], nil
	}
	return kept[0], nil
}

// Claim implements store.Prekeys.
func (s *Store) Claim(ctx context.Context, p store.ClaimParams) (c store.Claimed, err error) {
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		c = store.Claimed{}
		if _, err := liveDevice(tx, p.Device); err != nil {
			return err
		}
		answer, retry, err := get[claimRow](tx, claimKey(p))
		if err != nil {
			return err
		}
		if c.Signed, err = pickSigned(tx, p.Device, answer.signed, p.Now); err != nil {
			return err
		}
		stock, err := freshStock(tx, p.Device, p.Now)
		if err != nil {
			return err
		}
		if !retry {
			answer = claimRow{signed: c.Signed.ID, until: p.Now.Add(store.ClaimMemory)}
			if answer.oneTime = stock.next < stock.end; answer.oneTime {
				answer.n = stock.next
				stock.next++
				stock.waiting--
			}
			if err := errors.Join(put(tx, stockKey(p.Device), stock), put(tx, claimKey(p), answer)); err != nil {
				return err
			}
		}
		c.Retry, c.Left = retry, int(stock.waiting)
		if !answer.oneTime {
			return nil
		}
		key, _, err := get[oneTimeRow](tx, oneTimeKey(p.Device, answer.n))
		c.OneTime = key.record
		return err
	})
	return c, err
}
