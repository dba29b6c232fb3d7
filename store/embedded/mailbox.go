package embedded

import (
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// Put implements store.Mailbox.
func (s *Store) Put(ctx context.Context, mail []store.Mail, q store.Quotas) (codes []protocol.Code, err error) {
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		codes = make([]protocol.Code, len(mail))
		d := newDelivery(tx)
		for i, m := range mail {
			var err error
			if codes[i], err = d.put(m, q); err != nil {
				return err
			}
		}
		return d.save()
	})
	return codes, err
}

// Fetch implements store.Mailbox.
func (s *Store) Fetch(ctx context.Context, device protocol.DeviceID, after uint64, limit, maxBytes int, now time.Time) (mail []store.Stored, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		box, _, err := get[boxRow](tx, boxKey(device))
		if err != nil || box.count == 0 {
			return err
		}
		size := 0
		first := mailKey(device, max(after+1, box.head))
		for pair, err := range tx.Scan(first, mailKey(device, box.next)) {
			if err != nil {
				return err
			}
			row, err := parse[mailRow](pair.Value)
			if err != nil {
				return err
			}
			if !row.expires.After(now) {
				continue
			}
			size += len(row.envelope)
			if len(mail) == limit || len(mail) > 0 && size > maxBytes {
				return nil
			}
			r := store.ReadKey(pair.Key)
			r.Bytes(len(device))
			mail = append(mail, store.Stored{Seq: r.Uint64(), Mail: store.Mail{
				To: device, From: row.from, ID: row.id, Kind: row.kind, Envelope: row.envelope, Expires: row.expires,
			}})
		}
		return nil
	})
	return mail, err
}

// Ack implements store.Mailbox.
func (s *Store) Ack(ctx context.Context, device protocol.DeviceID, ids []protocol.EnvelopeID) (removed int, err error) {
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		removed = 0
		d := newDelivery(tx)
		for _, id := range ids {
			was, err := d.remove(device, id)
			if err != nil {
				return err
			}
			if was {
				removed++
			}
		}
		return d.save()
	})
	return removed, err
}

// MailboxUsage implements store.Mailbox.
func (s *Store) MailboxUsage(ctx context.Context, device protocol.DeviceID) (u store.Usage, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		box, _, err := get[boxRow](tx, boxKey(device))
		u = store.Usage{Count: int(box.count), Bytes: int(box.bytes)}
		return err
	})
	return u, err
}

// SenderUsage implements store.Mailbox.
func (s *Store) SenderUsage(ctx context.Context, account protocol.AccountID) (u store.Usage, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		row, _, err := get[usageRow](tx, senderKey(account))
		u = row.usage()
		return err
	})
	return u, err
}

// delivery changes mailboxes within one transaction. It holds the counters
// that many items share and writes each of them once, in save.
type delivery struct {
	tx        store.Tx
	devices   map[protocol.DeviceID]store.Device
	boxes     map[protocol.DeviceID]*boxRow
	roomBoxes map[protocol.DeviceID]*usageRow // of them, mail of kind OfRoom
	senders   map[sender]*usageRow
}

// sender is who sends; mail of kind OfRoom counts by itself.
type sender struct {
	account protocol.AccountID
	ofRoom  bool
}

func (s sender) key() []byte {
	if s.ofRoom {
		return roomSenderKey(s.account)
	}
	return senderKey(s.account)
}

func newDelivery(tx store.Tx) *delivery {
	return &delivery{
		tx:        tx,
		devices:   map[protocol.DeviceID]store.Device{},
		boxes:     map[protocol.DeviceID]*boxRow{},
		roomBoxes: map[protocol.DeviceID]*usageRow{},
		senders:   map[sender]*usageRow{},
	}
}

// put stores one envelope, or says why not.
func (d *delivery) put(m store.Mail, q store.Quotas) (protocol.Code, error) {
	_, err := d.device(m.To)
	if code := protocol.CodeOf(err); code == protocol.UnknownDevice || code == protocol.Revoked {
		return code, nil
	}
	if err != nil {
		return 0, err
	}
	_, waits, err := get[waitingRow](d.tx, waitingKey(m.To, m.ID))
	if err != nil || waits {
		return protocol.OK, err
	}
	box, err := d.box(m.To)
	if err != nil {
		return 0, err
	}
	counts, err := d.countsFor(m.To, m.From, m.Kind)
	if err != nil {
		return 0, err
	}
	size := uint64(len(m.Envelope))
	if over(box.count+1, q.RecipientCount) || over(box.bytes+size, q.RecipientBytes) {
		return protocol.MailboxFull, nil
	}
	if code := counts.refuse(size, q); code != protocol.OK {
		return code, nil
	}
	if m.Kind == store.Request {
		key := pendingKey(m.From, m.To)
		switch _, err := d.tx.Get(key); {
		case err == nil:
			return protocol.RequestPending, nil
		case !errors.Is(err, store.ErrNotFound):
			return 0, err
		}
		if err := d.tx.Set(key, nil); err != nil {
			return 0, err
		}
	}
	return protocol.OK, d.store(m, box, counts)
}

// counts are what a piece of mail counts for, besides the mailbox.
type counts struct {
	sender  *usageRow
	roomBox *usageRow // nil: not of kind OfRoom
}

func (d *delivery) countsFor(to protocol.DeviceID, from protocol.AccountID, kind store.MailKind) (c counts, err error) {
	by := sender{from, kind == store.OfRoom}
	if c.sender, err = load(d.tx, d.senders, by, by.key(), usageRow{}); err == nil && by.ofRoom {
		c.roomBox, err = load(d.tx, d.roomBoxes, to, roomBoxKey(to), usageRow{})
	}
	return c, err
}

func (c counts) refuse(size uint64, q store.Quotas) protocol.Code {
	senderCount, senderBytes := q.SenderCount, q.SenderBytes
	if c.roomBox != nil {
		senderCount, senderBytes = q.RoomSenderCount, q.RoomSenderBytes
		if over(c.roomBox.count+1, q.RoomRecipientCount) || over(c.roomBox.bytes+size, q.RoomRecipientBytes) {
			return protocol.MailboxFull
		}
	}
	if over(c.sender.count+1, senderCount) || over(c.sender.bytes+size, senderBytes) {
		return protocol.SenderFull
	}
	return protocol.OK
}

func (c counts) add(size uint64) {
	for _, u := range []*usageRow{c.sender, c.roomBox} {
		if u != nil {
			u.count, u.bytes = u.count+1, u.bytes+size
		}
	}
}

func (c counts) take(size uint64) {
	for _, u := range []*usageRow{c.sender, c.roomBox} {
		if u != nil {
			u.count, u.bytes = u.count-1, u.bytes-size
		}
	}
}

func over(n uint64, limit int) bool { return limit > 0 && n > uint64(limit) }

func (d *delivery) store(m store.Mail, box *boxRow, c counts) error {
	size, seq := uint64(len(m.Envelope)), box.next
	if box.count == 0 || m.Expires.Before(box.earliest) {
		box.earliest = m.Expires
	}
	box.next++
	box.count++
	box.bytes += size
	c.add(size)
	return errors.Join(
		put(d.tx, mailKey(m.To, seq), mailRow{m.From, m.ID, m.Kind, m.Expires, m.Envelope}),
		put(d.tx, waitingKey(m.To, m.ID), waitingRow{seq, size, m.From, m.Kind, m.Expires}))
}

// remove deletes one envelope and tells whether it was there.
func (d *delivery) remove(to protocol.DeviceID, id protocol.EnvelopeID) (bool, error) {
	w, waits, err := get[waitingRow](d.tx, waitingKey(to, id))
	if err != nil || !waits {
		return false, err
	}
	box, err := d.box(to)
	if err != nil {
		return false, err
	}
	c, err := d.countsFor(to, w.from, w.kind)
	if err != nil {
		return false, err
	}
	if w.kind == store.Request {
		if err := d.tx.Delete(pendingKey(w.from, to)); err != nil {
			return false, err
		}
	}
	c.take(w.size)
	box.bytes -= w.size
	if box.count--; box.count == 0 {
		box.head = box.next // readers need not step over what is deleted
	}
	return true, errors.Join(d.tx.Delete(mailKey(to, w.seq)), d.tx.Delete(waitingKey(to, id)))
}

// save writes the counters.
func (d *delivery) save() error {
	var errs []error
	for id, box := range d.boxes {
		errs = append(errs, put(d.tx, boxKey(id), *box))
	}
	for id, u := range d.roomBoxes {
		errs = append(errs, putOrDelete(d.tx, roomBoxKey(id), u.count == 0, *u))
	}
	for by, u := range d.senders {
		errs = append(errs, putOrDelete(d.tx, by.key(), u.count == 0, *u))
	}
	return errors.Join(errs...)
}

func putOrDelete[T any, R row[T]](tx store.Tx, key []byte, empty bool, v T) error {
	if empty {
		return tx.Delete(key)
	}
	return put[T, R](tx, key, v)
}

// device returns the device also with the error Revoked.
func (d *delivery) device(id protocol.DeviceID) (store.Device, error) {
	device, known := d.devices[id]
	if !known {
		var err error
		if device, err = deviceOf(d.tx, id); err != nil {
			return device, err
		}
		d.devices[id] = device
	}
	if device.Revoked {
		return device, protocol.Refuse(protocol.Revoked, "%s", id)
	}
	return device, nil
}

func (d *delivery) box(id protocol.DeviceID) (*boxRow, error) {
	return load(d.tx, d.boxes, id, boxKey(id), boxRow{next: 1})
}

// load reads a row that many items share, once; missing rows start as zero.
func load[K comparable, T any, R row[T]](tx store.Tx, loaded map[K]*T, id K, key []byte, zero T) (*T, error) {
	if v, ok := loaded[id]; ok {
		return v, nil
	}
	v, ok, err := get[T, R](tx, key)
	if err != nil {
		return nil, err
	}
	if !ok {
		v = zero
	}
	loaded[id] = &v
	return &v, nil
}
