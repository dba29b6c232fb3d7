package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// PutRoom implements store.Rooms.
func (s *Store) PutRoom(ctx context.Context, id protocol.RoomID, messages []store.NewRoomMessage, q store.RoomQuotas) (results []store.RoomPut, err error) {
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		results = make([]store.RoomPut, len(messages))
		b, err := openRoomBox(tx, id)
		if err != nil {
			return err
		}
		for i, m := range messages {
			if results[i], err = b.put(m, q); err != nil {
				return err
			}
		}
		return b.save()
	})
	return results, err
}

// RoomMail implements store.Rooms.
func (s *Store) RoomMail(ctx context.Context, id protocol.RoomID, after uint64, limit, maxBytes int, now time.Time) (mail []store.RoomMessage, err error) {
	page := roomPage{limit: limit, maxBytes: maxBytes, now: now}
	err = s.kv.View(ctx, func(tx store.Tx) error {
		room, _, err := get[roomRow](tx, roomKey(id))
		if err != nil || room.count == 0 {
			return err
		}
		for pair, err := range tx.Scan(roomMailKey(id, max(after+1, room.first)), roomMailKey(id, room.cursor+1)) {
			if err != nil {
				return err
			}
			if more, err := page.add(pair); err != nil || !more {
				return err
			}
		}
		return nil
	})
	return page.mail, err
}

// FillRoom implements store.Rooms.
func (s *Store) FillRoom(ctx context.Context, id protocol.RoomID, ranges []store.RoomRange, after uint64, limit, maxBytes int, now time.Time) (mail []store.RoomMessage, err error) {
	page := roomPage{limit: limit, maxBytes: maxBytes, now: now}
	err = s.kv.View(ctx, func(tx store.Tx) error {
		for _, r := range ranges {
			for pair, err := range tx.Scan(roomNumberKey(id, r.Device, r.First), append(roomNumberKey(id, r.Device, r.Last), 0)) {
				if err != nil {
					return err
				}
				at, err := parse[roomNumberRow](pair.Value)
				if err != nil {
					return err
				}
				if at.cursor <= after {
					continue
				}
				key := roomMailKey(id, at.cursor)
				value, err := tx.Get(key)
				if err != nil {
					return missingMail(err)
				}
				if more, err := page.add(store.Pair{Key: key, Value: value}); err != nil || !more {
					return err
				}
			}
		}
		return nil
	})
	return page.mail, err
}

func missingMail(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: a message of a room is missing", store.ErrDamaged)
	}
	return err
}

// RoomUsage implements store.Rooms.
func (s *Store) RoomUsage(ctx context.Context, room protocol.RoomID, account protocol.AccountID) (u store.Usage, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		row, _, err := get[usageRow](tx, roomUsageKey(room, account))
		u = row.usage()
		return err
	})
	return u, err
}

// roomPage collects messages up to its limits.
type roomPage struct {
	limit, maxBytes int
	now             time.Time
	size            int
	mail            []store.RoomMessage
}

// add adds a message, if it has not expired; more is false when the page is full.
func (p *roomPage) add(pair store.Pair) (more bool, err error) {
	row, err := parse[roomMailRow](pair.Value)
	if err != nil || !row.expires.After(p.now) {
		return true, err
	}
	p.size += len(row.message)
	if len(p.mail) == p.limit || len(p.mail) > 0 && p.size > p.maxBytes {
		return false, nil
	}
	p.mail = append(p.mail, store.RoomMessage{Cursor: lastNumber(pair.Key), Message: row.message, Expires: row.expires})
	return true, nil
}

// roomBox changes the messages of one room within one transaction. It writes the
// counters that many messages share once, in save.
type roomBox struct {
	tx       store.Tx
	id       protocol.RoomID
	room     roomRow
	accounts map[protocol.AccountID]*usageRow
}

func openRoomBox(tx store.Tx, id protocol.RoomID) (*roomBox, error) {
	room, known, err := get[roomRow](tx, roomKey(id))
	if err == nil && !known {
		err = unknownRoom(id)
	}
	return &roomBox{tx, id, room, map[protocol.AccountID]*usageRow{}}, err
}

func (b *roomBox) account(id protocol.AccountID) (*usageRow, error) {
	return load(b.tx, b.accounts, id, roomUsageKey(b.id, id), usageRow{})
}

// put stores one message, or says why not.
func (b *roomBox) put(m store.NewRoomMessage, q store.RoomQuotas) (store.RoomPut, error) {
	id := protocol.IDOf(m.Message)
	at, known, err := get[roomNumberRow](b.tx, roomNumberKey(b.id, m.Device, m.Number))
	switch {
	case err != nil:
		return store.RoomPut{}, err
	case known && at.id == id:
		return store.RoomPut{Cursor: at.cursor}, nil
	case known:
		return store.RoomPut{Code: protocol.BadRequest}, nil
	}
	brought, err := b.account(m.By)
	if err != nil {
		return store.RoomPut{}, err
	}
	r, size := &b.room, uint64(len(m.Message))
	switch {
	case over(brought.count+1, q.AccountCount) || over(brought.bytes+size, q.AccountBytes):
		return store.RoomPut{Code: protocol.SenderFull}, nil
	case over(r.count+1, q.Count) || over(r.bytes+size, q.Bytes):
		return store.RoomPut{Code: protocol.RoomFull}, nil
	}
	if r.count == 0 || m.Expires.Before(r.earliest) {
		r.earliest = m.Expires
	}
	r.cursor++
	r.count++
	r.bytes += size
	brought.count++
	brought.bytes += size
	return store.RoomPut{Cursor: r.cursor}, errors.Join(
		put(b.tx, roomMailKey(b.id, r.cursor), roomMailRow{m.Device, m.Number, m.By, m.Expires, m.Message}),
		put(b.tx, roomNumberKey(b.id, m.Device, m.Number), roomNumberRow{r.cursor, id}))
}

// remove deletes a message.
func (b *roomBox) remove(cursor uint64, m roomMailRow) error {
	brought, err := b.account(m.by)
	if err != nil {
		return err
	}
	size := uint64(len(m.message))
	b.room.count--
	b.room.bytes -= size
	brought.count--
	brought.bytes -= size
	return errors.Join(
		b.tx.Delete(roomMailKey(b.id, cursor)),
		b.tx.Delete(roomNumberKey(b.id, m.device, m.number)))
}

func (b *roomBox) save() error {
	for id, u := range b.accounts {
		if err := putOrDelete(b.tx, roomUsageKey(b.id, id), u.count == 0, *u); err != nil {
			return err
		}
	}
	return put(b.tx, roomKey(b.id), b.room)
}

func (w sweeper) roomStale(pair store.Pair) (bool, error) {
	room, err := parse[roomRow](pair.Value)
	return room.count > 0 && w.past(room.earliest), err
}

// dropRoomMail removes expired messages of one room, which are the first ones: all are
// kept for the same time. Where a clock was set back, some wait for those before them.
func (w sweeper) dropRoomMail(tx store.Tx, row store.Pair, budget int) (removed int, err error) {
	b, err := openRoomBox(tx, protocol.RoomID(store.ReadKey(row.Key).Bytes(len(protocol.RoomID{}))))
	if err != nil {
		return 0, err
	}
	for pair, err := range tx.Scan(roomMailKey(b.id, b.room.first), roomMailKey(b.id, b.room.cursor+1)) {
		if err != nil {
			return removed, err
		}
		m, err := parse[roomMailRow](pair.Value)
		if err != nil {
			return removed, err
		}
		b.room.first, b.room.earliest = lastNumber(pair.Key), m.expires
		if !w.past(m.expires) || removed == budget {
			break
		}
		removed++
		if err := b.remove(b.room.first, m); err != nil {
			return removed, err
		}
	}
	return removed, b.save()
}
