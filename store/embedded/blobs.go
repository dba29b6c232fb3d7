package embedded

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func blobKey(n store.BlobName) []byte                          { return store.Key('B', n[:]) }
func takenPrefix(n store.BlobName) []byte                      { return store.Key('W', n[:]) }
func blobUsageKey(a protocol.AccountID) []byte                 { return store.Key('S', a[:]) }
func ownBlobsPrefix(a protocol.AccountID) []byte               { return store.Key('K', a[:]) }
func ownBlobKey(a protocol.AccountID, n store.BlobName) []byte { return store.Key('K', a[:], n[:]) }
func takenKey(n store.BlobName, a protocol.AccountID) []byte   { return store.Key('W', n[:], a[:]) }

// blobRow is a blob without its name, which is in the key.
type blobRow store.Blob

func (b *blobRow) encode(w *writer) {
	w.fixed(b.By[:])
	w.num(uint64(len(b.Accounts)))
	for _, a := range b.Accounts {
		w.fixed(a[:])
	}
	w.fixed(b.Room[:])
	w.num(uint64(b.Size))
	w.num(uint64(b.Have))
	w.time(b.Expires)
}

func (b *blobRow) decode(r *reader) {
	r.fixed(b.By[:])
	for n := r.num(); n > 0 && !r.bad; n-- {
		var a protocol.AccountID
		r.fixed(a[:])
		b.Accounts = append(b.Accounts, a)
	}
	r.fixed(b.Room[:])
	b.Size = int64(r.num())
	b.Have = int64(r.num())
	b.Expires = r.time()
}

func blobOf(tx store.Tx, name store.BlobName) (b store.Blob, known bool, err error) {
	row, known, err := get[blobRow](tx, blobKey(name))
	b = store.Blob(row)
	b.Name = name
	return b, known, err
}

// PutBlob implements store.Blobs.
func (s *Store) PutBlob(ctx context.Context, b store.Blob, q store.BlobQuotas, now time.Time) (begun store.Blob, err error) {
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		old, known, err := blobOf(tx, b.Name)
		if err != nil {
			return err
		}
		if known && old.Expires.After(now) {
			begun = old
			return checkSameBlob(old, b)
		}
		if known {
			if _, err := dropBlob(tx, old); err != nil {
				return err
			}
		}
		begun = b
		begun.Have, begun.Expires = 0, b.Expires.Truncate(time.Second).UTC()
		return addBlob(tx, begun, q)
	})
	return begun, err
}

func checkSameBlob(old, b store.Blob) error {
	if b.Size == old.Size && b.Room == old.Room && slices.Equal(b.Accounts, old.Accounts) {
		return nil
	}
	return protocol.Refuse(protocol.BadRequest, "the account has another blob of this id")
}

func addBlob(tx store.Tx, b store.Blob, q store.BlobQuotas) error {
	u, _, err := get[usageRow](tx, blobUsageKey(b.By))
	if err != nil {
		return err
	}
	u.count, u.bytes = u.count+1, u.bytes+uint64(b.Size)
	if over(u.count, q.Count) || over(u.bytes, q.Bytes) {
		return protocol.Refuse(protocol.BlobFull, "an account may have %d blobs of %d bytes", q.Count, q.Bytes)
	}
	return errors.Join(
		put(tx, blobKey(b.Name), blobRow(b)),
		tx.Set(ownBlobKey(b.By, b.Name), nil),
		put(tx, blobUsageKey(b.By), u))
}

// MarkBlob implements store.Blobs.
func (s *Store) MarkBlob(ctx context.Context, name store.BlobName, have int64) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		b, known, err := blobOf(tx, name)
		if err != nil {
			return err
		}
		if !known {
			return unknownBlob()
		}
		b.Have = have
		return put(tx, blobKey(name), blobRow(b))
	})
}

func unknownBlob() error { return protocol.Refuse(protocol.UnknownFile, "no such blob") }

// Blob implements store.Blobs.
func (s *Store) Blob(ctx context.Context, name store.BlobName, now time.Time) (b store.Blob, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		var known bool
		b, known, err = blobOf(tx, name)
		if err == nil && !(known && b.Expires.After(now)) {
			return unknownBlob()
		}
		return err
	})
	return b, err
}

// TakeBlob implements store.Blobs.
func (s *Store) TakeBlob(ctx context.Context, name store.BlobName, account protocol.AccountID, everybody []protocol.AccountID) (gone bool, err error) {
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		b, known, err := blobOf(tx, name)
		if gone = !known; err != nil || gone {
			return err
		}
		if err := tx.Set(takenKey(name, account), nil); err != nil {
			return err
		}
		for _, a := range everybody {
			switch _, err := tx.Get(takenKey(name, a)); {
			case errors.Is(err, store.ErrNotFound):
				return nil
			case err != nil:
				return err
			}
		}
		gone = true
		_, err = dropBlob(tx, b)
		return err
	})
	return gone, err
}

// DropBlob implements store.Blobs.
func (s *Store) DropBlob(ctx context.Context, name store.BlobName) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		b, known, err := blobOf(tx, name)
		if err != nil || !known {
			return err
		}
		_, err = dropBlob(tx, b)
		return err
	})
}

// dropBlob deletes all that is known of a blob, and returns how many rows that was.
func dropBlob(tx store.Tx, b store.Blob) (removed int, err error) {
	u, _, err := get[usageRow](tx, blobUsageKey(b.By))
	if err != nil {
		return 0, err
	}
	u.count, u.bytes = u.count-1, u.bytes-uint64(b.Size)
	err = scanPrefix(tx, takenPrefix(b.Name), func(pair store.Pair) (bool, error) {
		removed++
		return true, tx.Delete(pair.Key)
	})
	return removed + 1, errors.Join(err,
		tx.Delete(blobKey(b.Name)),
		tx.Delete(ownBlobKey(b.By, b.Name)),
		putOrDelete(tx, blobUsageKey(b.By), u.count == 0, u))
}

func (w sweeper) blobExpired(pair store.Pair) (bool, error) {
	b, err := parse[blobRow](pair.Value)
	return w.past(b.Expires), err
}

func (w sweeper) dropExpiredBlob(tx store.Tx, row store.Pair, _ int) (int, error) {
	b, err := parse[blobRow](row.Value)
	if err != nil {
		return 0, err
	}
	b.Name = blobNameIn(row.Key, 0)
	return dropBlob(tx, store.Blob(b))
}

// blobNameIn reads the name that a key holds behind skip bytes.
func blobNameIn(key []byte, skip int) store.BlobName {
	r := store.ReadKey(key)
	r.Bytes(skip)
	return store.BlobName(r.Bytes(len(store.BlobName{})))
}

// dropBlobsOf deletes the blobs of an account none of whose devices is left.
func dropBlobsOf(tx store.Tx, account protocol.AccountID, budget int) (removed int, err error) {
	devices, err := devicesOf(tx, account)
	if err != nil || slices.ContainsFunc(devices, func(d store.Device) bool { return !d.Revoked }) {
		return 0, err
	}
	err = scanPrefix(tx, ownBlobsPrefix(account), func(pair store.Pair) (bool, error) {
		b, _, err := blobOf(tx, blobNameIn(pair.Key, len(account)))
		if err != nil {
			return false, err
		}
		n, err := dropBlob(tx, b)
		removed += n
		return removed < budget, err
	})
	return removed, err
}
