package embedded

import (
	"context"

	"github.com/parley-chat/parley/store"
)

// Totals implements store.Rendezvous.
func (s *Store) Totals(ctx context.Context) (t store.Totals, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		t = store.Totals{}
		err := scanPrefix(tx, store.Key('n'), func(store.Pair) (bool, error) { // an account has one name
			t.Accounts++
			return true, nil
		})
		if err != nil {
			return err
		}
		err = scanPrefix(tx, store.Key('S'), func(pair store.Pair) (bool, error) {
			u, err := parse[usageRow](pair.Value)
			t.Blobs.Count += int(u.count)
			t.Blobs.Bytes += int(u.bytes)
			return true, err
		})
		if err != nil {
			return err
		}
		return scanPrefix(tx, store.Key('b'), func(pair store.Pair) (bool, error) {
			box, err := parse[boxRow](pair.Value)
			t.Mail.Count += int(box.count)
			t.Mail.Bytes += int(box.bytes)
			return true, err
		})
	})
	return t, err
}
