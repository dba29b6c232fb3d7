package embedded

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/store"
)

// Register implements store.Accounts.
func (s *Store) Register(ctx context.Context, p store.RegisterParams) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		holder, taken, err := accountOfName(tx, p.Name)
		if err != nil {
			return err
		}
		if taken && holder == p.Account {
			return nil // a retry
		}
		old, exists, err := get[accountRow](tx, accountKey(p.Account))
		if err != nil {
			return err
		}
		account := accountRow{
			ID: p.Account, Name: p.Name, Created: p.Now,
			Chain: p.Chain, ChainSeq: p.ChainSeq, ChainHead: p.ChainHead,
		}
		if p.Invite != nil && !exists { // first: who is not invited does not learn which names are taken
			if account.InvitedBy, err = useInvite(tx, *p.Invite, p.Now); err != nil {
				return err
			}
		}
		switch {
		case taken:
			return protocol.Refuse(protocol.NameTaken, "%s", p.Name)
		case exists:
			return protocol.Refuse(protocol.AccountExists, "as %s", old.Name)
		}
		if err := noteRegistered(tx, p); err != nil {
			return err
		}
		if err := putDevices(tx, p.Account, p.Devices, p.Now); err != nil {
			return err
		}
		if err := logRegistered(tx, p.Label, &account); err != nil {
			return err
		}
		return errors.Join(
			tx.Set(nameKey(p.Name), p.Account[:]),
			putAccount(tx, account))
	})
}

func putAccount(tx store.Tx, a accountRow) error {
	return errors.Join(put(tx, accountKey(a.ID), a), tx.Set(headKey(a.ID), a.ChainHead[:]))
}

func accountOfName(tx store.Tx, name string) (id protocol.AccountID, ok bool, err error) {
	value, err := tx.Get(nameKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return id, false, nil
	}
	if err != nil {
		return id, false, err
	}
	id, err = protocol.FromBytes[protocol.AccountID](value)
	return id, err == nil, err
}

// SetChain implements store.Accounts.
func (s *Store) SetChain(ctx context.Context, p store.ChainParams) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		account, ok, err := get[accountRow](tx, accountKey(p.Account))
		switch {
		case err != nil:
			return err
		case !ok:
			return protocol.Refuse(protocol.UnknownAccount, "%s", p.Account)
		case bytes.Equal(p.Chain, account.Chain):
			return nil // a retry
		case !bytes.HasPrefix(p.Chain, account.Chain):
			return protocol.Refuse(protocol.ChainConflict, "the stored chain, at %d, is no part of this one", account.ChainSeq)
		}
		if err := noteChain(tx, account.ChainSeq, p); err != nil {
			return err
		}
		account.Chain, account.ChainSeq, account.ChainHead = p.Chain, p.ChainSeq, p.ChainHead
		if err := logChain(tx, &account); err != nil {
			return err
		}
		if err := putAccount(tx, account); err != nil {
			return err
		}
		for _, id := range p.Revoked {
			if err := revokeDevice(tx, p.Account, id, p.Now); err != nil {
				return err
			}
		}
		return putDevices(tx, p.Account, p.Devices, p.Now)
	})
}

func putDevices(tx store.Tx, account protocol.AccountID, devices []store.NewDevice, now time.Time) error {
	for _, d := range devices {
		if err := putDevice(tx, account, d, now); err != nil {
			return err
		}
	}
	return nil
}

// putDevice adds a device, or renews the certificate of one that is the same.
func putDevice(tx store.Tx, account protocol.AccountID, d store.NewDevice, now time.Time) error {
	old, known, err := get[deviceRow](tx, deviceKey(d.ID))
	switch {
	case err != nil:
		return err
	case known && old.Account != account:
		return protocol.Refuse(protocol.DeviceExists, "device %s", d.ID)
	case known && old.Revoked:
		return protocol.Refuse(protocol.Revoked, "device %s", d.ID)
	case known && !bytes.Equal(old.PeerID, d.PeerID):
		return protocol.Refuse(protocol.DeviceExists, "device %s has another peer id", d.ID)
	case known && bytes.Equal(old.Cert, d.Cert):
		return nil
	case known:
		old.Cert = d.Cert
		return errors.Join(put(tx, deviceKey(d.ID), old), noteDevice(tx, now, audit.Renewed, account, d.ID))
	}
	added := deviceRow{ID: d.ID, Account: account, PeerID: d.PeerID, Cert: d.Cert, Created: now}
	if err := addDevice(tx, added); err != nil {
		return err
	}
	return noteDevice(tx, now, audit.Added, account, d.ID)
}

// addDevice writes a device that is not there.
func addDevice(tx store.Tx, d deviceRow) error {
	switch _, err := tx.Get(peerKey(d.PeerID)); {
	case err == nil:
		return protocol.Refuse(protocol.DeviceExists, "the peer id of device %s belongs to another", d.ID)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return errors.Join(
		put(tx, deviceKey(d.ID), d),
		tx.Set(ownedKey(d.Account, d.ID), nil),
		tx.Set(peerKey(d.PeerID), d.ID[:]))
}

// revokeDevice marks a device for ever, also one that was never seen.
func revokeDevice(tx store.Tx, account protocol.AccountID, id protocol.DeviceID, now time.Time) error {
	d, known, err := get[deviceRow](tx, deviceKey(id))
	switch {
	case err != nil:
		return err
	case known && d.Account != account:
		return protocol.Refuse(protocol.DeviceExists, "device %s", id)
	case known && d.Revoked:
		return nil
	case !known:
		d = deviceRow{ID: id, Account: account, Created: now}
	}
	d.Revoked = true
	return errors.Join(
		put(tx, deviceKey(id), d),
		tx.Set(ownedKey(account, id), nil),
		noteDevice(tx, now, audit.Revoked, account, id))
}

// Account implements store.Accounts.
func (s *Store) Account(ctx context.Context, id protocol.AccountID) (a store.Account, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		a, err = accountOf(tx, id)
		return err
	})
	return a, err
}

// AccountByName implements store.Accounts.
func (s *Store) AccountByName(ctx context.Context, name string) (a store.Account, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		id, ok, err := accountOfName(tx, name)
		if err != nil {
			return err
		}
		if !ok {
			return protocol.Refuse(protocol.UnknownAccount, "%s", name)
		}
		a, err = accountOf(tx, id)
		return err
	})
	return a, err
}

func accountOf(tx store.Tx, id protocol.AccountID) (store.Account, error) {
	row, ok, err := get[accountRow](tx, accountKey(id))
	if err != nil {
		return store.Account{}, err
	}
	if !ok {
		return store.Account{}, protocol.Refuse(protocol.UnknownAccount, "%s", id)
	}
	return store.Account(row), nil
}

// Device implements store.Accounts.
func (s *Store) Device(ctx context.Context, id protocol.DeviceID) (d store.Device, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		d, err = deviceOf(tx, id)
		return err
	})
	return d, err
}

// DeviceByPeer implements store.Accounts.
func (s *Store) DeviceByPeer(ctx context.Context, peerID []byte) (d store.Device, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		value, err := tx.Get(peerKey(peerID))
		if errors.Is(err, store.ErrNotFound) {
			return protocol.Refuse(protocol.UnknownDevice, "no device has this peer id")
		}
		if err != nil {
			return err
		}
		id, err := protocol.FromBytes[protocol.DeviceID](value)
		if err != nil {
			return err
		}
		d, err = deviceOf(tx, id)
		return err
	})
	return d, err
}

func deviceOf(tx store.Tx, id protocol.DeviceID) (store.Device, error) {
	row, ok, err := get[deviceRow](tx, deviceKey(id))
	if err != nil {
		return store.Device{}, err
	}
	if !ok {
		return store.Device{}, protocol.Refuse(protocol.UnknownDevice, "%s", id)
	}
	return store.Device(row), nil
}

// Devices implements store.Accounts.
func (s *Store) Devices(ctx context.Context, account protocol.AccountID) (devices []store.Device, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		devices, err = devicesOf(tx, account)
		return err
	})
	return devices, err
}

func devicesOf(tx store.Tx, account protocol.AccountID) (devices []store.Device, err error) {
	err = scanPrefix(tx, ownedPrefix(account), func(pair store.Pair) (bool, error) {
		r := store.ReadKey(pair.Key)
		r.Bytes(len(account))
		d, err := deviceOf(tx, protocol.DeviceID(r.Bytes(len(protocol.DeviceID{}))))
		devices = append(devices, d)
		return true, err
	})
	return devices, err
}

// Heads implements store.Accounts.
func (s *Store) Heads(ctx context.Context, owner protocol.AccountID) (heads []store.Head, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		heads = nil
		accounts, err := contactsOf(tx, owner)
		if err != nil {
			return err
		}
		for _, id := range store.SortAccounts(append(accounts, owner)) {
			hash, err := tx.Get(headKey(id))
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			h := store.Head{Account: id}
			copy(h.Hash[:], hash)
			heads = append(heads, h)
		}
		return nil
	})
	return heads, err
}

// CheckStore implements store.StoreIDs.
func (s *Store) CheckStore(ctx context.Context, device protocol.DeviceID, at store.StoreStart) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		row, known, err := get[storeRow](tx, storeKey(device))
		old := store.StoreStart(row)
		switch {
		case err != nil:
			return err
		case known && at.StoreID != old.StoreID:
			return protocol.Refuse(protocol.DeviceCloned, "another store uses the keys of this device")
		case known && at == old:
			return nil // a retry
		case known && at.Counter <= old.Counter:
			return protocol.Refuse(protocol.StoreRolledBack, "start %d of the store, after another start %d", at.Counter, old.Counter)
		}
		return put(tx, storeKey(device), storeRow(at))
	})
}
