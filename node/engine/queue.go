package engine

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// A content for a device is in one of three queues: waiting, until there is a
// session to seal it with; out, sealed, until it is durable elsewhere; kept,
// when the mailbox took it, until the device acknowledges it. Until then it can
// go back to waiting, to be sealed anew on a session that replaces a broken one.

// post queues a content for a device. Sealed is false when it waits; then a
// look-up is asked for. Order is kept: it waits behind what waits, unless that is
// blocked by an alarm and this is not.
func (w *work) post(device protocol.DeviceID, d *deviceRow, r itemRow, content *wire.Content) (sealed bool, err error) {
	blocked, err := w.blocked(d.account)
	if err != nil {
		return false, err
	}
	free := blocked && (r.receipt || r.urgent)
	if (d.waiting == 0 && !blocked || free) && d.reseal == 0 {
		s, ok, err := w.sendingSession(d)
		if err != nil {
			return false, err
		}
		if ok {
			return true, errors.Join(w.seal(device, d, s, r, content), w.renew(d, s))
		}
	}
	d.waiting++
	w.count().waiting++
	if err := w.put(keyItem(tableWaiting, device, r.number), &r); err != nil || blocked {
		return false, err
	}
	return false, w.wantLookup(d.account)
}

// postOther is post for a content that is not part of the history.
func (w *work) postOther(device protocol.DeviceID, d *deviceRow, kind wire.MailKind, content *wire.Content) (protocol.MsgID, error) {
	r, err := w.newItem(d, kind, content)
	if err != nil {
		return r.id, err
	}
	_, err = w.post(device, d, r, content)
	return r.id, err
}

// postUrgent is postOther for what goes out also while all else is held.
func (w *work) postUrgent(device protocol.DeviceID, d *deviceRow, content *wire.Content) error {
	r, err := w.newItem(d, wire.MailKind_MESSAGE, content)
	if err != nil {
		return err
	}
	r.urgent = true
	_, err = w.post(device, d, r, content)
	return err
}

// newItem gives a content that is not part of the history its id, by which the
// device acknowledges it, unless it is itself an acknowledgement.
func (w *work) newItem(d *deviceRow, kind wire.MailKind, content *wire.Content) (itemRow, error) {
	w.count().items++
	r := itemRow{account: d.account, id: protocol.NewMsgID(), number: w.count().items, kind: kind, since: w.now}
	content.MsgId, content.SentMs = r.id[:], uint64(millis(w.now))
	var err error
	if r.content, err = proto.Marshal(content); err != nil {
		return r, fmt.Errorf("encode content: %w", err)
	}
	if r.receipt = content.GetReceipt() != nil && content.GetSeq() == 0; r.receipt {
		return r, nil
	}
	return r, w.put(keyMine(r.id), &indexRow{account: d.account, number: r.number})
}

// seal puts a content into out, encrypted, together with the next state of the
// session.
func (w *work) seal(device protocol.DeviceID, d *deviceRow, s session.State, r itemRow, content *wire.Content) error {
	plain, err := w.plain(r, content)
	if err != nil {
		return err
	}
	if plain, err = w.withHead(d, plain); err != nil {
		return err
	}
	next, env, err := s.Encrypt(w.now, plain)
	if err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	w.setSession(next)
	if err := w.usedSession(d, s.ID()); err != nil {
		return err
	}
	d.run = 0
	w.count().items++
	w.count().queued++
	r.sealed, r.envelope = env, protocol.IDOf(env)
	if err := w.put(keyItem(tableOut, device, w.count().items), &r); err != nil {
		return err
	}
	w.hint.outbox(device)
	return w.setEnvelope(r.envelope, w.count().items, r.number)
}

// plain is what is sealed.
func (w *work) plain(r itemRow, content *wire.Content) ([]byte, error) {
	if r.accountKey {
		return w.withAccountKey(r.content)
	}
	if r.roomKeys {
		return w.withRoomKeys(r.content)
	}
	if r.position == 0 {
		return r.content, nil
	}
	b, err := proto.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("encode content: %w", err)
	}
	return b, nil
}

// setEnvelope notes where an envelope's content is: in out under one number,
// or in kept under another.
func (w *work) setEnvelope(id protocol.EnvelopeID, out, kept uint64) error {
	e := newRow(16)
	e.u64(out)
	e.u64(kept)
	return w.set(keyEnvelope(id), e.b)
}

func (w *work) envelope(id protocol.EnvelopeID) (out, kept uint64, ok bool, err error) {
	b, err := get(w.tx, keyEnvelope(id))
	if err != nil || b == nil {
		return 0, 0, false, err
	}
	d := readRow(b)
	out, kept = d.u64(), d.u64()
	return out, kept, true, d.end("envelope")
}

// drain seals what waits for a device, in order, as far as one transaction may
// carry it.
func (w *work) drain(device protocol.DeviceID, d *deviceRow) error {
	if d.waiting == 0 || d.reseal != 0 {
		return nil
	}
	if blocked, err := w.blocked(d.account); err != nil || blocked {
		return err
	}
	rows := 0
	return all(w.tx, store.Key(tableWaiting, device[:]), func(pair store.Pair) (bool, error) {
		if w.full(rows) {
			return false, w.at(w.now, timerDrain, device[:])
		}
		rows++
		s, ok, err := w.sendingSession(d)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, w.wantLookup(d.account)
		}
		return true, w.sealWaiting(device, d, s, pair)
	})
}

func (w *work) sealWaiting(device protocol.DeviceID, d *deviceRow, s session.State, pair store.Pair) error {
	r, err := decodeRow[itemRow](pair.Value)
	if err != nil {
		return err
	}
	if err := w.delete(pair.Key); err != nil {
		return err
	}
	d.waiting--
	w.count().waiting--
	if r.position == 0 {
		return w.seal(device, d, s, r, nil)
	}
	h, ok, err := loadHistory(w.tx, r.account, r.position)
	if err != nil || !ok {
		return err
	}
	if !r.copy {
		h.step(w.now, "lookup", "sealed for device "+short(device))
		if err := w.put(keyHistory(r.account, r.position), &h); err != nil {
			return err
		}
	}
	return w.seal(device, d, s, r, r.textContent(&h))
}

// sealAnew takes back what the device has not acknowledged, to seal it again
// on the session that is now the one to send on. It goes only to the very
// device it was meant for.
func (w *work) sealAnew(device protocol.DeviceID, d *deviceRow) error {
	d.reseal = w.count().items + 1
	d.headSent = time.Time{}
	return w.unseal(device, d)
}

// unseal moves one batch back to waiting, and goes on with drain when all is
// there.
func (w *work) unseal(device protocol.DeviceID, d *deviceRow) error {
	rows := 0
	done := true
	for _, table := range []byte{tableKept, tableOut} {
		start, end := keyItem(table, device, 0), keyItem(table, device, d.reseal)
		for pair, err := range w.tx.Scan(start, end) {
			if err != nil {
				return err
			}
			if done = !w.full(rows); !done {
				break
			}
			rows++
			if err := w.unsealOne(device, d, table, pair); err != nil {
				return err
			}
		}
	}
	if !done {
		return w.at(w.now, timerDrain, device[:])
	}
	d.reseal = 0
	return w.drain(device, d)
}

func (w *work) unsealOne(device protocol.DeviceID, d *deviceRow, table byte, pair store.Pair) error {
	r, err := decodeRow[itemRow](pair.Value)
	if err != nil {
		return err
	}
	if table == tableOut {
		w.count().queued--
	}
	if err := w.delete(pair.Key); err != nil {
		return err
	}
	if err := w.delete(keyEnvelope(r.envelope)); err != nil {
		return err
	}
	r.sealed, r.envelope = nil, protocol.EnvelopeID{}
	d.waiting++
	w.count().waiting++
	if err := w.put(keyItem(tableWaiting, device, r.number), &r); err != nil {
		return err
	}
	if r.position == 0 || r.copy {
		return nil
	}
	return w.changeHistory(r.account, r.position, func(h *historyRow) {
		h.step(w.now, "repaired", "to be sealed again for device "+short(device))
	})
}

// changeHistory changes a row of a conversation, if it is there.
func (w *work) changeHistory(a protocol.AccountID, position uint64, fn func(*historyRow)) error {
	h, ok, err := load[historyRow](w.tx, keyHistory(a, position))
	if err != nil || !ok {
		return err
	}
	fn(&h)
	return w.put(keyHistory(a, position), &h)
}
