package embedded

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func guestKey(a protocol.AccountID) []byte { return store.Key('Q', a[:]) }

// RegisterGuest implements store.Guests.
func (s *Store) RegisterGuest(ctx context.Context, p store.GuestParams) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		old, exists, err := get[accountRow](tx, accountKey(p.Account))
		if err != nil {
			return err
		}
		if exists && !store.Account(old).IsGuest() {
			return protocol.Refuse(protocol.AccountExists, "as %s", old.Name)
		}
		if !exists {
			if err := addGuest(tx, p); err != nil {
				return err
			}
		}
		return put(tx, guestKey(p.Account), untilRow{p.Now.Add(store.GuestMemory)})
	})
}

func addGuest(tx store.Tx, p store.GuestParams) error {
	d := p.Device
	switch _, known, err := get[deviceRow](tx, deviceKey(d.ID)); {
	case err != nil:
		return err
	case known:
		return protocol.Refuse(protocol.DeviceExists, "device %s", d.ID)
	}
	added := deviceRow{ID: d.ID, Account: p.Account, PeerID: d.PeerID, Cert: d.Cert, Created: p.Now, Guest: true}
	if err := addDevice(tx, added); err != nil {
		return err
	}
	return putAccount(tx, accountRow{ID: p.Account, Chain: p.Chain, ChainSeq: p.ChainSeq, ChainHead: p.ChainHead, Created: p.Now})
}

// guestDue tells that it is time to look whether a guest is in a room.
func (w sweeper) guestDue(pair store.Pair) (bool, error) {
	g, err := parse[untilRow](pair.Value)
	return w.past(g.until.Add(store.GuestLook - store.GuestMemory)), err
}

// dropGuest forgets a guest whose time is over, and remembers one that is in a room.
// Where the mailbox ended stays: should the guest come again, its cursor still holds.
func (w sweeper) dropGuest(tx store.Tx, row store.Pair, budget int) (removed int, err error) {
	g, err := parse[untilRow](row.Value)
	if err != nil {
		return 0, err
	}
	account := protocol.AccountID(store.ReadKey(row.Key).Bytes(len(protocol.AccountID{})))
	inRoom := false
	err = scanPrefix(tx, inRoomPrefix(account), func(store.Pair) (bool, error) { inRoom = true; return false, nil })
	if err != nil {
		return 0, err
	}
	switch {
	case inRoom:
		return 0, put(tx, row.Key, untilRow{w.now.Add(store.GuestMemory)})
	case !w.past(g.until):
		return 0, nil
	}
	owned, err := devicesOf(tx, account)
	if err != nil {
		return 0, err
	}
	for _, d := range owned { // one
		n, err := w.dropDevice(tx, store.Pair{Key: deviceKey(d.ID)}, budget)
		if removed += n; err != nil || removed >= budget {
			return removed, err // the rest comes next
		}
		err = errors.Join(
			tx.Delete(deviceKey(d.ID)), tx.Delete(ownedKey(account, d.ID)), tx.Delete(peerKey(d.PeerID)), tx.Delete(storeKey(d.ID)))
		if err != nil {
			return removed, err
		}
	}
	return removed + 1, errors.Join(tx.Delete(accountKey(account)), tx.Delete(headKey(account)), tx.Delete(row.Key))
}
