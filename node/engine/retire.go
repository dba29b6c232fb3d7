package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
)

// Retire destroys the keys of a device that was revoked or left its account:
// its own and the account's at once, sessions and prekeys as many as one
// transaction may carry. More tells to call it again. The history stays. From
// the first call on Load gives ErrRevoked.
func Retire(tx store.Tx, now time.Time) (more bool, err error) {
	id, err := loadIdentity(tx)
	if err != nil {
		return false, err
	}
	w := &work{tx: tx, now: now}
	if err := w.endIdentity(id); err != nil {
		return false, err
	}
	return clearTables(tx, tableSession, tableOneTime, tableSigned, tableStock, tableGiven, tablePrekeys, tableReplay, tableGone,
		tableRoomKey, tableRoomChain, tableRoomSender, tableRoomReceiver)
}

// endIdentity destroys the keys that are few: those of the device, the account
// keys and the RSA keys.
func (w *work) endIdentity(id *Identity) error {
	if id.Revoked {
		return nil
	}
	if err := w.ledgerEnd(id); err != nil {
		return err
	}
	ended := *id
	ended.Revoked = true
	ended.DSK, ended.DIK, ended.Host = key.DevicePrivate{}, key.IdentityPrivate{}, key.HostPrivate{}
	if err := ended.save(w.tx); err != nil {
		return err
	}
	if err := w.delete(keyReborn()); err != nil {
		return err
	}
	_, err := clearTables(w.tx, tableAccountKey, tableRSA, tableGuest)
	return err
}

// clearRows is how many rows clearTables deletes at once: they count little
// against store.MaxTx.
const clearRows = 1024

// clearTables deletes the rows of tables; more if there were too many for one
// transaction.
func clearTables(tx store.Tx, tables ...byte) (more bool, err error) {
	rows := 0
	for _, table := range tables {
		for pair, err := range tx.Scan([]byte{table}, store.PrefixEnd([]byte{table})) {
			if err != nil {
				return false, err
			}
			if rows == clearRows {
				return true, nil
			}
			rows++
			if err := tx.Delete(pair.Key); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}
