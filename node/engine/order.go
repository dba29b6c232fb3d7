package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// A device numbers its texts to us 1, 2, 3 ... and they are shown in that
// order. What comes early is held; after gapTime the missing ones become holes
// in the conversation, which they fill if they come after all.

// show appends a row of somebody else to the conversation.
func (w *work) show(a protocol.AccountID, p *peerRow, h historyRow) error {
	if err := w.applyEarly(&h); err != nil {
		return err
	}
	p.position++
	if !h.seen {
		p.unread++
	}
	return w.place(a, p.position, h)
}

// place writes a text that came at a position, and does to it what was done to it
// before it came.
func (w *work) place(a protocol.AccountID, position uint64, h historyRow) error {
	if h.mine || h.seen {
		if err := w.beginTime(a, position, &h); err != nil {
			return err
		}
	}
	if err := w.record(a, position, &h); err != nil {
		return err
	}
	if err := w.putIndex(a, position, &h); err != nil {
		return err
	}
	if err := w.addFile(a, position, &h, true); err != nil {
		return err
	}
	if err := w.event(eventRow{kind: KindMessage, account: a, position: position}); err != nil {
		return err
	}
	return w.applyActions(a, position, &h)
}

func (w *work) putIndex(a protocol.AccountID, position uint64, h *historyRow) error {
	key := keyIndex(h.id, h.device)
	if h.mine {
		key = keyMine(h.id)
	}
	return w.put(key, &indexRow{account: a, position: position, number: h.number})
}

// hold keeps a text that came early. One that is held already is a duplicate.
func (w *work) hold(in *incoming, seq uint64, h historyRow) error {
	key := keyItem(tableHeld, in.from, seq)
	held, err := get(w.tx, key)
	if err != nil || held != nil {
		return err
	}
	in.d.held++
	if err := w.put(key, &h); err != nil {
		return err
	}
	return w.at(w.now.Add(gapTime), timerGap, in.from[:])
}

// release shows what is held and next in the order, as far as one transaction
// may carry it.
func (w *work) release(device protocol.DeviceID, d *deviceRow) error {
	if d.held == 0 {
		return nil
	}
	if d.account == w.e.id.Account {
		return w.releaseContents(device, d)
	}
	p, err := w.peer(d.account)
	if err != nil {
		return err
	}
	rows := 0
	return all(w.tx, store.Key(tableHeld, device[:]), func(pair store.Pair) (bool, error) {
		if keyNumber(pair.Key) != d.next {
			return false, nil
		}
		if w.full(rows) {
			return false, w.at(w.now, timerGap, device[:])
		}
		rows++
		return true, w.releaseOne(p, d, pair)
	})
}

func (w *work) releaseOne(p *peerRow, d *deviceRow, pair store.Pair) error {
	h, err := decodeRow[historyRow](pair.Value)
	if err != nil {
		return err
	}
	d.held--
	d.next++
	if err := w.delete(pair.Key); err != nil {
		return err
	}
	have, err := w.haveText(d.account, h.id)
	if err != nil || have { // the same text under two numbers
		return err
	}
	return w.show(d.account, p, h)
}

// haveText tells whether a text of an account is in the conversation, whichever
// of its devices it came from: one that became a new device sends again what
// was not acknowledged to the old one.
func (w *work) haveText(a protocol.AccountID, id protocol.MsgID) (have bool, err error) {
	err = all(w.tx, store.Key(tableIndex, id[:]), func(pair store.Pair) (bool, error) {
		index, err := decodeRow[indexRow](pair.Value)
		if err != nil || index.account != a || index.position == 0 {
			return err == nil, err
		}
		h, ok, err := load[historyRow](w.tx, keyHistory(a, index.position))
		have = ok && !h.mine
		return !have, err
	})
	return have, err
}

// closeGap gives up waiting for what is missing before the first text held, if
// it is time, and asks the device for it with a new session: what never came
// may be sealed so that it can no longer be opened.
func (w *work) closeGap(device protocol.DeviceID, d *deviceRow) error {
	if err := w.release(device, d); err != nil || d.held == 0 {
		return err
	}
	first, since, err := w.firstHeld(device, d)
	if err != nil || first <= d.next {
		return err
	}
	if due := since.Add(gapTime); due.After(w.now) {
		return w.at(due, timerGap, device[:])
	}
	if d.account == w.e.id.Account { // late contents of siblings need no holes
		d.next = first
	} else if first-d.next > protocol.MaxSkip { // nobody can fill so many
		d.next = first - protocol.MaxSkip
	}
	p, err := w.peer(d.account)
	if err != nil {
		return err
	}
	for rows := 0; d.next < first; rows++ {
		if w.full(rows) {
			return w.at(w.now, timerGap, device[:])
		}
		if err := w.showHole(device, d, p); err != nil {
			return err
		}
	}
	if err := w.broken(device, d, protocol.SessionID{}, d.repair.UnknownSession()); err != nil {
		return err
	}
	return w.release(device, d)
}

// firstHeld returns the number of what is held first of a device, and since
// when it is.
func (w *work) firstHeld(device protocol.DeviceID, d *deviceRow) (seq uint64, since time.Time, err error) {
	err = all(w.tx, store.Key(tableHeld, device[:]), func(pair store.Pair) (bool, error) {
		seq = keyNumber(pair.Key)
		if d.account == w.e.id.Account {
			r, err := decodeRow[heldRow](pair.Value)
			since = r.recorded
			return false, err
		}
		h, err := decodeRow[historyRow](pair.Value)
		since = h.recorded
		return false, err
	})
	return seq, since, err
}

// showHole appends a hole for the next text of the device.
func (w *work) showHole(device protocol.DeviceID, d *deviceRow, p *peerRow) error {
	p.position++
	h := historyRow{state: StateHole, device: device, recorded: w.now}
	if err := w.put(keyHistory(d.account, p.position), &h); err != nil {
		return err
	}
	e := newRow(8)
	e.u64(p.position)
	if err := w.set(keyItem(tableHole, device, d.next), e.b); err != nil {
		return err
	}
	d.next++
	return w.event(eventRow{kind: KindMessage, account: d.account, position: p.position})
}

// showLate puts a text that was given up into its hole; without one, as after a
// gap too wide for holes, at the end.
func (w *work) showLate(in *incoming, seq uint64, h historyRow) error {
	h.late = true
	key := keyItem(tableHole, in.from, seq)
	b, err := get(w.tx, key)
	if err != nil {
		return err
	}
	if b == nil {
		return w.show(in.d.account, in.p, h)
	}
	r := readRow(b)
	position := r.u64()
	if err := r.end("hole"); err != nil {
		return err
	}
	if err := w.delete(key); err != nil {
		return err
	}
	if err := w.applyEarly(&h); err != nil {
		return err
	}
	if position > in.p.readTo && !h.seen { // else nobody would look there again
		in.p.unread++
	}
	return w.place(in.d.account, position, h)
}
