package engine

import (
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// giveUp gives up a content for a device that is not written to any more. A
// message that no device of a contact has, because all it was meant for were
// revoked, goes to those that the contact has now, unless the account was
// recovered since: then they may be somebody else's.
func (w *work) giveUp(p *peerRow, d *deviceRow, key []byte, r itemRow) error {
	if !d.revoked || r.position == 0 || r.copy || p.relation != Accepted {
		return w.fail(key, r, "no longer a contact, or the device was revoked")
	}
	h, ok, err := loadHistory(w.tx, r.account, r.position)
	if err != nil {
		return err
	}
	lost := ok && h.copies <= 1 && (h.state == StateQueued || h.state == StateStored)
	devices := p.valid(w.now)
	switch {
	case !lost || len(devices) == 0:
		return w.fail(key, r, "the device was revoked")
	case !r.since.After(p.recoveredAt):
		return w.fail(key, r, "their account was recovered before this reached them: write it again to send it to their new devices")
	}
	if err := w.drop(key, r); err != nil {
		return err
	}
	h.copies = uint8(len(devices))
	h.step(w.now, "waiting", "the device it was for was revoked; it goes to their other devices")
	next := itemRow{account: r.account, position: r.position, since: r.since}
	if err := w.postText(devices, next, &h); err != nil {
		return err
	}
	return w.put(keyHistory(r.account, r.position), &h)
}

// postUnsent queues for a new device of a contact what was written since the
// directory last confirmed which devices the contact has, and has left for none
// yet: its author did not choose to leave the device out. What was written
// before a recovery of the account is not for its new devices. What is left only
// in queues of devices that ended, giveUp brings, in its order.
func (w *work) postUnsent(a protocol.AccountID, p *peerRow, device protocol.DeviceID, ended []protocol.DeviceID) error {
	if p.relation != Accepted || p.queued == 0 {
		return nil
	}
	unsent, err := w.unsent(a, p)
	if err != nil {
		return err
	}
	left, err := w.copiesLeft(ended)
	if err != nil {
		return err
	}
	for _, position := range slices.Backward(unsent) {
		h, ok, err := loadHistory(w.tx, a, position)
		if err != nil || !ok {
			return err
		}
		queued, err := get(w.tx, keyItem(tableWaiting, device, h.number))
		if err != nil {
			return err
		}
		if queued != nil || h.copies <= left[position] { // by giveUp, now or when it comes to this text
			continue
		}
		h.copies++
		if err := w.postText([]protocol.DeviceID{device}, itemRow{account: a, position: position, since: h.recorded}, &h); err != nil {
			return err
		}
		if err := w.put(keyHistory(a, position), &h); err != nil {
			return err
		}
	}
	return nil
}

// copiesLeft counts, for each text, the copies in the queues of revoked devices,
// of which not everything was given up yet.
func (w *work) copiesLeft(ended []protocol.DeviceID) (map[uint64]uint8, error) {
	left := map[uint64]uint8{}
	for _, device := range ended {
		for _, table := range []byte{tableKept, tableOut, tableWaiting} {
			err := all(w.tx, store.Key(table, device[:]), func(pair store.Pair) (bool, error) {
				r, err := decodeRow[itemRow](pair.Value)
				left[r.position]++
				return true, err
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return left, nil
}

// unsent returns where the texts are that postUnsent is about, the newest first.
func (w *work) unsent(a protocol.AccountID, p *peerRow) (list []uint64, err error) {
	for pair, err := range w.tx.ScanDown(keyHistory(a, 0), store.PrefixEnd(store.Key(tableHistory, a[:]))) {
		if err != nil {
			return nil, err
		}
		h, err := decodeRow[historyRow](pair.Value)
		if err != nil {
			return nil, err
		}
		if len(list) == batchRows || !h.recorded.After(p.checked) || !h.recorded.After(p.recoveredAt) {
			break
		}
		if h.mine && h.number > 0 && h.state == StateQueued {
			list = append(list, keyNumber(pair.Key))
		}
	}
	return list, nil
}
