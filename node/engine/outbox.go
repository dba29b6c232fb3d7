package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Queue returns envelopes that are to be sent to a device, in order, beginning
// after the number after: at most limit of them and about maxBytes of envelopes,
// but at least one if there is one. There is none while Held, while the device's
// account is known to have changed (see Changed), nor once this device no longer
// belongs to its own account; and while a recovery of the account is to be looked
// at, only what that may take.
func (e *Engine) Queue(tx store.Tx, now time.Time, to protocol.DeviceID, after uint64, maxBytes, limit int) ([]Queued, error) {
	if held, err := e.Held(tx, now); held != "" || err != nil {
		return nil, err
	}
	p, account, err := e.mayReach(tx, to)
	if p == nil || err != nil {
		return nil, err
	}
	var list []Queued
	start := keyItem(tableOut, to, after+1)
	for pair, err := range tx.Scan(start, store.PrefixEnd(store.Key(tableOut, to[:]))) {
		if err != nil {
			return nil, err
		}
		r, err := decodeRow[itemRow](pair.Value)
		if err != nil {
			return nil, err
		}
		if p.held() && !r.urgent {
			continue
		}
		if len(list) > 0 && (len(list) >= limit || maxBytes < len(r.sealed)) {
			break
		}
		maxBytes -= len(r.sealed)
		list = append(list, Queued{
			N: keyNumber(pair.Key), To: to, Account: account, ID: r.envelope, Envelope: r.sealed, Kind: r.kind, Since: r.since,
		})
	}
	return list, nil
}

// mayReach tells whose a device is, if anything may be sent to it now; else p is
// nil.
func (e *Engine) mayReach(tx store.Tx, to protocol.DeviceID) (p *peerRow, a protocol.AccountID, err error) {
	if e.stopped.Load() {
		return nil, a, nil
	}
	d, ok, err := load[deviceRow](tx, keyDevice(to))
	if !ok || err != nil {
		return nil, a, err
	}
	row, ok, err := load[peerRow](tx, keyPeer(d.account))
	if !ok || err != nil || row.changed {
		return nil, a, err
	}
	return &row, d.account, nil
}

// QueuedDevices returns the devices that Queue has something for.
func (e *Engine) QueuedDevices(tx store.Tx) ([]protocol.DeviceID, error) {
	all, err := devicesIn(tx, tableOut, protocol.DeviceID{}, -1)
	if err != nil {
		return nil, err
	}
	list := all[:0]
	for _, d := range all {
		p, _, err := e.mayReach(tx, d)
		if err != nil {
			return nil, err
		}
		if p != nil {
			list = append(list, d)
		}
	}
	return list, nil
}

// devicesIn skips from device to device through a queue: at most limit
// devices, however many rows each has; a negative limit is no bound.
func devicesIn(tx store.Tx, table byte, from protocol.DeviceID, limit int) ([]protocol.DeviceID, error) {
	var list []protocol.DeviceID
	start, end := store.Key(table, from[:]), store.PrefixEnd([]byte{table})
	for start != nil && len(list) != limit {
		found := false
		for pair, err := range tx.Scan(start, end) {
			if err != nil {
				return nil, err
			}
			d := keyDeviceOf(pair.Key)
			list = append(list, d)
			start = store.PrefixEnd(store.Key(table, d[:]))
			found = true
			break
		}
		if !found {
			break
		}
	}
	return list, nil
}

// Counts returns how many envelopes are not yet durable elsewhere and how many
// contents wait for a session.
func (e *Engine) Counts(tx store.Tx) (queued, waiting int, err error) {
	c, _, err := load[countsRow](tx, store.Key(tableCounts))
	return int(c.queued), int(c.waiting), err
}

// Delivered notes that envelopes are durable at the device. Ids that are not
// queued are ignored.
func (e *Engine) Delivered(tx store.Tx, now time.Time, to protocol.DeviceID, ids []protocol.EnvelopeID, via Path) (Hint, error) {
	return e.settle(tx, now, to, ids, func(w *work, key []byte, r itemRow) error {
		if err := w.drop(key, r); err != nil {
			return err
		}
		return w.reached(r, StateDelivered, via)
	})
}

// Stored notes that envelopes are durable in the device's mailbox. What they
// hold is kept until the device acknowledges it or the mailbox drops it, save
// receipts.
func (e *Engine) Stored(tx store.Tx, now time.Time, to protocol.DeviceID, ids []protocol.EnvelopeID) (Hint, error) {
	return e.settle(tx, now, to, ids, func(w *work, key []byte, r itemRow) error {
		if key[0] == tableKept {
			return nil
		}
		if r.receipt {
			return w.drop(key, r)
		}
		if err := w.delete(key); err != nil {
			return err
		}
		w.count().queued--
		r.sealed, r.stored = nil, w.now
		if err := w.put(keyItem(tableKept, to, r.number), &r); err != nil {
			return err
		}
		return w.reached(r, StateStored, Mailbox)
	})
}

// settle calls fn for each of the envelopes that is queued for the device.
func (e *Engine) settle(tx store.Tx, now time.Time, to protocol.DeviceID, ids []protocol.EnvelopeID, fn func(w *work, key []byte, r itemRow) error) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	for _, id := range ids {
		key, r, ok, err := w.item(to, id)
		if err != nil {
			return Hint{}, err
		}
		if !ok {
			continue
		}
		if err := fn(w, key, r); err != nil {
			return Hint{}, err
		}
	}
	if err := w.clearReason(to); err != nil {
		return Hint{}, err
	}
	return w.end()
}

// item finds the content of an envelope for a device, in out or kept.
func (w *work) item(device protocol.DeviceID, id protocol.EnvelopeID) (key []byte, r itemRow, ok bool, err error) {
	out, kept, ok, err := w.envelope(id)
	if !ok || err != nil {
		return nil, r, false, err
	}
	for _, key := range [][]byte{keyItem(tableOut, device, out), keyItem(tableKept, device, kept)} {
		r, ok, err := load[itemRow](w.tx, key)
		if err != nil || ok && r.envelope == id {
			return key, r, err == nil, err
		}
	}
	return nil, r, false, nil
}

// drop removes a content from its queue, whichever it is.
func (w *work) drop(key []byte, r itemRow) error {
	switch key[0] {
	case tableOut:
		w.count().queued--
	case tableWaiting:
		w.count().waiting--
		d, err := w.device(keyDeviceOf(key))
		if err != nil {
			return err
		}
		d.waiting--
	}
	if r.envelope != (protocol.EnvelopeID{}) {
		if err := w.delete(keyEnvelope(r.envelope)); err != nil {
			return err
		}
	}
	if r.position == 0 && !r.receipt {
		if err := w.settled(keyDeviceOf(key), r); err != nil {
			return err
		}
	}
	return w.delete(key)
}

// settled forgets the id of a content that is no message: nobody will name it
// again.
func (w *work) settled(device protocol.DeviceID, r itemRow) error {
	if err := w.delete(keyMine(r.id)); err != nil {
		return err
	}
	if r.roomKeys {
		if err := w.roomKeysSettled(r.content); err != nil {
			return err
		}
	}
	if r.account == w.e.id.Account {
		return w.shared(device, r.id)
	}
	return nil
}

// order of an own message's states; what is not in it is final.
var order = map[State]int{StateQueued: 1, StateStored: 2, StateDelivered: 3, StateRead: 4}

// reached moves a message forward, never back. Other than for stored, one copy
// less is in a queue.
func (w *work) reached(r itemRow, state State, via Path) error {
	if r.position == 0 || r.copy {
		return nil
	}
	h, ok, err := load[historyRow](w.tx, keyHistory(r.account, r.position))
	if err != nil || !ok {
		return err
	}
	if state != StateStored {
		h.copies = max(h.copies, 1) - 1
	}
	return w.advance(r.account, r.position, &h, state, via)
}

// advance writes h with the new state, if it is a later one.
func (w *work) advance(a protocol.AccountID, position uint64, h *historyRow, state State, via Path) error {
	forward := h.mine && order[h.state] > 0 && order[state] > order[h.state]
	if forward {
		if err := w.leaveQueued(a, h); err != nil {
			return err
		}
		h.state = state
		if via != PathUnknown && state != StateRead {
			h.via = via
			h.step(w.now, via.String(), "")
		}
		if state != StateStored {
			h.step(w.now, state.String(), "")
		}
		if err := w.event(eventRow{kind: KindState, account: a, position: position}); err != nil {
			return err
		}
		if err := w.passState(h); err != nil {
			return err
		}
	}
	if err := w.destroySettled(a, position, h); err != nil {
		return err
	}
	return w.put(keyHistory(a, position), h)
}

func (w *work) leaveQueued(a protocol.AccountID, h *historyRow) error {
	if h.state != StateQueued || h.number == 0 { // of another device of ours: in no queue here
		return nil
	}
	p, err := w.peer(a)
	if err != nil {
		return err
	}
	p.queued = max(p.queued, 1) - 1
	return nil
}

// fail gives a content up. The message failed if no other copy is in a queue
// and none was delivered.
func (w *work) fail(key []byte, r itemRow, problem string) error {
	if err := w.drop(key, r); err != nil {
		return err
	}
	if r.position == 0 || r.copy {
		return nil
	}
	h, ok, err := load[historyRow](w.tx, keyHistory(r.account, r.position))
	if err != nil || !ok {
		return err
	}
	h.copies = max(h.copies, 1) - 1
	if h.copies == 0 && (h.state == StateQueued || h.state == StateStored) {
		if err := w.leaveQueued(r.account, &h); err != nil {
			return err
		}
		h.state, h.problem = StateFailed, problem
		h.step(w.now, "failed", problem)
		if err := w.event(eventRow{kind: KindState, account: r.account, position: r.position}); err != nil {
			return err
		}
	}
	if err := w.destroySettled(r.account, r.position, &h); err != nil {
		return err
	}
	return w.put(keyHistory(r.account, r.position), &h)
}

// Refused notes that an envelope was not taken, and does what its code asks
// for: gives the content up, looks the device up again, seals it anew, or
// keeps it to be tried later, with the reason for the trace. Offer is what the
// device gave with StaleKey to seal to instead; nil: nothing.
func (e *Engine) Refused(tx store.Tx, now time.Time, to protocol.DeviceID, id protocol.EnvelopeID, refusal *protocol.Error, offer *wire.Bundle) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	key, r, ok, err := w.item(to, id)
	if err != nil || !ok {
		return Hint{}, err
	}
	if err := w.refused(to, key, r, refusal, offer); err != nil {
		return Hint{}, err
	}
	return w.end()
}

func (w *work) refused(to protocol.DeviceID, key []byte, r itemRow, refusal *protocol.Error, offer *wire.Bundle) error {
	switch refusal.Code {
	case protocol.TooLarge, protocol.BadRequest:
		return w.fail(key, r, refusal.Error())
	case protocol.NotContact:
		if r.kind == wire.MailKind_ROOM { // nothing brings it there once it is in no room with us
			mate, err := w.mate(r.account)
			if err != nil {
				return err
			}
			again, err := w.comesAgain(w.e.id.Guest)
			if err != nil {
				return err
			}
			if !mate && !again {
				return w.fail(key, r, refusal.Error())
			}
		}
	case protocol.UnknownDevice, protocol.Revoked:
		d, err := w.device(to)
		if err != nil {
			return err
		}
		if err := w.wantRefresh(d.account); err != nil {
			return err
		}
	case protocol.StaleKey, protocol.Undecryptable:
		if err := w.replaceSession(to, r, refusal.Code, offer); err != nil {
			return err
		}
	}
	return w.reason(to, refusal.Error())
}

// Waiting notes why what is queued for a device waits. The same reason again
// changes nothing.
func (e *Engine) Waiting(tx store.Tx, now time.Time, to protocol.DeviceID, reason string) error {
	w := &work{e: e, tx: tx, now: fromMillis(millis(now))}
	return w.reason(to, reason)
}

// maxReason bounds the text of a reason, in bytes.
const maxReason = 200

func (w *work) reason(device protocol.DeviceID, reason string) error {
	reason = reason[:min(len(reason), maxReason)]
	old, ok, err := load[reasonRow](w.tx, keyReason(device))
	if err != nil || ok && old.reason == reason {
		return err
	}
	return w.put(keyReason(device), &reasonRow{since: w.now, reason: reason})
}

func (w *work) clearReason(device protocol.DeviceID) error {
	b, err := get(w.tx, keyReason(device))
	if err != nil || b == nil {
		return err
	}
	return w.delete(keyReason(device))
}
