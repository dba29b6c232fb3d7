package embedded

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// SetContacts implements store.Contacts.
func (s *Store) SetContacts(ctx context.Context, owner protocol.AccountID, accounts []protocol.AccountID) error {
	accounts = store.SortAccounts(accounts)
	if len(accounts) > protocol.MaxContacts {
		return protocol.Refuse(protocol.TooLarge, "%d contacts, at most %d", len(accounts), protocol.MaxContacts)
	}
	digest := store.ContactsDigest(accounts)
	return s.kv.Update(ctx, func(tx store.Tx) error {
		gone := map[protocol.AccountID]bool{}
		old, err := contactsOf(tx, owner)
		if err != nil {
			return err
		}
		for _, a := range old {
			gone[a] = true
		}
		for _, a := range accounts {
			if gone[a] {
				delete(gone, a)
			} else if err := tx.Set(listKey(owner, a), nil); err != nil {
				return err
			}
		}
		for a := range gone {
			if err := tx.Delete(listKey(owner, a)); err != nil {
				return err
			}
		}
		return tx.Set(digestKey(owner), digest[:])
	})
}

func contactsOf(tx store.Tx, owner protocol.AccountID) (accounts []protocol.AccountID, err error) {
	err = scanPrefix(tx, listPrefix(owner), func(pair store.Pair) (bool, error) {
		r := store.ReadKey(pair.Key)
		r.Bytes(len(owner))
		accounts = append(accounts, protocol.AccountID(r.Bytes(len(owner))))
		return true, r.Err()
	})
	return accounts, err
}

// ContactsDigest implements store.Contacts.
func (s *Store) ContactsDigest(ctx context.Context, owner protocol.AccountID) (digest [32]byte, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		value, err := tx.Get(digestKey(owner))
		if errors.Is(err, store.ErrNotFound) {
			digest = store.ContactsDigest(nil)
			return nil
		}
		copy(digest[:], value)
		return err
	})
	return digest, err
}

// Allows implements store.Contacts.
func (s *Store) Allows(ctx context.Context, owner, other protocol.AccountID) (ok bool, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		ok, err = listed(tx, owner, other)
		return err
	})
	return ok, err
}

func listed(tx store.Tx, owner, other protocol.AccountID) (bool, error) {
	_, err := tx.Get(listKey(owner, other))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Watchers implements store.Contacts. It looks at the list of each account on
// the list, so it costs what the list is long.
func (s *Store) Watchers(ctx context.Context, account protocol.AccountID) (watchers []protocol.AccountID, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		friends, err := contactsOf(tx, account)
		if err != nil {
			return err
		}
		for _, f := range friends {
			ok, err := listed(tx, f, account)
			if err != nil {
				return err
			}
			if ok {
				watchers = append(watchers, f)
			}
		}
		return nil
	})
	return watchers, err
}
