package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// When receipts leave. What came through the mailbox is acknowledged soon: its
// author is waiting for that. What came directly was acknowledged on its
// connection; its receipt may take its time, but it is not left out: if the
// connection's acknowledgement was lost and the author put a copy into the
// mailbox, the copy is dropped here unopened, and only this receipt ends the
// author's wait.
const (
	receiptSoon  = 50 * time.Millisecond
	receiptLater = 30 * time.Second
	receiptCount = 64 // or when so many are collected
)

// receipt queues an acknowledgement of a message of a device: that it is
// durable here, or that it was read.
func (w *work) receipt(device protocol.DeviceID, id protocol.MsgID, read bool, delay time.Duration) error {
	return w.collect(receiptKey{tableReceipt, device}, id, read, delay)
}

// receiptKey names what is collected for a device: acknowledgements, or, for a
// sibling, states and reads that it is to be told.
type receiptKey struct {
	table  byte
	device protocol.DeviceID
}

func (k receiptKey) row() []byte { return store.Key(k.table, k.device[:]) }

func (w *work) collect(k receiptKey, id protocol.MsgID, read bool, delay time.Duration) error {
	l, err := w.receiptsFor(k)
	if err != nil {
		return err
	}
	r := &l.row
	if read {
		r.read = append(r.read, id)
	} else {
		r.delivered = append(r.delivered, id)
	}
	if len(r.delivered)+len(r.read) >= receiptCount {
		return w.flush(k)
	}
	if due := w.now.Add(delay); r.due.IsZero() || due.Before(r.due) {
		r.due = due
		return w.at(due, timerReceipts, k.device[:])
	}
	return nil
}

func (w *work) receiptsFor(k receiptKey) (*loaded[receiptRow], error) {
	if l, ok := w.receipts[k]; ok {
		return l, nil
	}
	b, err := get(w.tx, k.row())
	if err != nil {
		return nil, err
	}
	l := &loaded[receiptRow]{read: b}
	if b != nil {
		if err := l.row.decode(b); err != nil {
			return nil, err
		}
	}
	w.receipts[k] = l
	return l, nil
}

func (w *work) saveReceipts(k receiptKey, l *loaded[receiptRow]) error {
	if len(l.row.delivered)+len(l.row.read) > 0 {
		return w.save(k.row(), l.row.encode(), l.read)
	}
	if l.read == nil {
		return nil
	}
	return w.delete(k.row())
}

// flushReceipts sends all that is collected for a device and due.
func (w *work) flushReceipts(device protocol.DeviceID) error {
	for _, table := range []byte{tableReceipt, tablePassed} {
		k := receiptKey{table, device}
		l, err := w.receiptsFor(k)
		if err != nil {
			return err
		}
		if l.row.due.After(w.now) { // there is another timer for it
			continue
		}
		if err := w.flush(k); err != nil {
			return err
		}
	}
	return nil
}

// flush sends what is collected for a device, if it is still somebody to send
// to.
func (w *work) flush(k receiptKey) error {
	l, err := w.receiptsFor(k)
	if err != nil {
		return err
	}
	r := l.row
	l.row = receiptRow{}
	if len(r.delivered)+len(r.read) == 0 {
		return nil
	}
	d, err := w.device(k.device)
	if err == ErrNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	p, err := w.peer(d.account)
	if err != nil {
		return err
	}
	kind := wire.MailKind_MESSAGE
	if !p.close() {
		if mate, err := w.mate(d.account); err != nil || !mate {
			return err
		}
		kind = wire.MailKind_ROOM
	}
	if d.revoked {
		return nil
	}
	content := &wire.Content{Body: &wire.Content_Receipt{Receipt: &wire.Receipt{
		Delivered: messageIDs(r.delivered), Read: messageIDs(r.read),
	}}}
	if k.table == tablePassed {
		_, err = w.tell(k.device, content)
		return err
	}
	_, err = w.postOther(k.device, d, kind, content)
	return err
}

func messageIDs(ids []protocol.MsgID) [][]byte {
	list := make([][]byte, len(ids))
	for i := range ids {
		list[i] = ids[i][:]
	}
	return list
}

// receivedReceipt applies a device's acknowledgements of what this device sent
// it. Ids of messages that did not go to its account are ignored.
func (w *work) receivedReceipt(from protocol.DeviceID, d *deviceRow, r *wire.Receipt) error {
	if len(r.GetDelivered())+len(r.GetRead()) > protocol.MaxReceipts {
		return nil
	}
	sent := make(map[uint64]bool)
	for _, list := range []struct {
		ids   [][]byte
		state State
	}{{r.GetDelivered(), StateDelivered}, {r.GetRead(), StateRead}} {
		for _, id := range list.ids {
			if err := w.acknowledged(from, d, id, list.state, sent); err != nil {
				return err
			}
		}
	}
	return w.dropSent(from, sent)
}

// acknowledged notes that a device has, or somebody there read, one of our
// contents. If a copy for the device may be on its way once more, its number
// is added to sent.
func (w *work) acknowledged(from protocol.DeviceID, d *deviceRow, idBytes []byte, state State, sent map[uint64]bool) error {
	id, err := protocol.FromBytes[protocol.MsgID](idBytes)
	if err != nil {
		return nil
	}
	index, ok, err := load[indexRow](w.tx, keyMine(id))
	sibling := d.account == w.e.id.Account
	if err != nil || !ok || index.account != d.account && !sibling {
		return err
	}
	dropped, err := w.dropAcknowledged(from, index.number)
	if err != nil {
		return err
	}
	if index.position == 0 || sibling { // a sibling has its copy: that is no state of the message
		if !dropped && index.number > 0 {
			sent[index.number] = true
		}
		return nil
	}
	h, ok, err := load[historyRow](w.tx, keyHistory(index.account, index.position))
	if err != nil || !ok {
		return err
	}
	if dropped {
		h.copies = max(h.copies, 1) - 1
	} else if h.copies > 0 {
		sent[index.number] = true
	}
	if !dropped && order[state] <= order[h.state] {
		return nil
	}
	return w.advance(index.account, index.position, &h, state, PathUnknown)
}

// dropAcknowledged removes a content that a device has, if it waits or is kept.
func (w *work) dropAcknowledged(from protocol.DeviceID, number uint64) (bool, error) {
	for _, table := range []byte{tableKept, tableWaiting} {
		key := keyItem(table, from, number)
		r, ok, err := load[itemRow](w.tx, key)
		if err != nil {
			return false, err
		}
		if ok {
			return true, w.drop(key, r)
		}
	}
	return false, nil
}

// sentRows is how much of out is searched for what was acknowledged: what is
// on its way is at its head.
const sentRows = 256

// dropSent removes contents that a device has although their envelopes were not
// acknowledged: that answer was lost. Sent once more they would be dropped
// there as replays, without a word.
func (w *work) dropSent(from protocol.DeviceID, numbers map[uint64]bool) error {
	if len(numbers) == 0 {
		return nil
	}
	rows := 0
	return all(w.tx, store.Key(tableOut, from[:]), func(pair store.Pair) (bool, error) {
		r, err := decodeRow[itemRow](pair.Value)
		if err != nil {
			return false, err
		}
		if numbers[r.number] {
			if err := w.drop(pair.Key, r); err != nil {
				return false, err
			}
			if err := w.reached(r, StateDelivered, PathUnknown); err != nil {
				return false, err
			}
		}
		rows++
		return rows < sentRows, nil
	})
}
