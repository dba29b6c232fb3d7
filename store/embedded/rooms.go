package embedded

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/store"
)

// AppendRoom implements store.Rooms.
func (s *Store) AppendRoom(ctx context.Context, e store.NewRoomEntry, q store.RoomQuotas) (appended store.RoomEntry, err error) {
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		room, known, err := get[roomRow](tx, roomKey(e.Room))
		switch {
		case err != nil:
			return err
		case !known && e.Seq == 0:
			if err := makeRoom(tx, e, q); err != nil {
				return err
			}
			room = roomRow{creator: e.Author, first: 1}
		case !known:
			return unknownRoom(e.Room)
		case e.Seq != room.seq+1 || e.Prev != room.head:
			return protocol.Refuse(protocol.RoomMoved, "the log of the room ends with entry %d", room.seq)
		}
		room.seq, room.head = e.Seq, e.Hash
		room.logBytes += uint64(len(e.Entry))
		if over(room.seq+1, q.LogEntries) || over(room.logBytes, q.LogBytes) {
			return protocol.Refuse(protocol.RoomFull, "the log of the room has %d entries", room.seq)
		}
		if err := changeMembers(tx, &room, e, q); err != nil {
			return err
		}
		appended = store.RoomEntry{Seq: e.Seq, Cursor: room.cursor, Entry: e.Entry}
		return errors.Join(
			put(tx, roomEntryKey(e.Room, e.Seq), roomEntryRow{room.cursor, e.Entry}),
			put(tx, roomKey(e.Room), room))
	})
	return appended, err
}

func unknownRoom(id protocol.RoomID) error {
	return protocol.Refuse(protocol.UnknownRoom, "%s", id)
}

// makeRoom counts a new room for its author and notes it.
func makeRoom(tx store.Tx, e store.NewRoomEntry, q store.RoomQuotas) error {
	made, err := countMade(tx, e.Author, 1)
	if err != nil {
		return err
	}
	if over(made, q.Made) {
		return protocol.Refuse(protocol.TooLarge, "an account may make %d rooms", q.Made)
	}
	return note(tx, e.Now, audit.Event{Kind: audit.Room, What: audit.Made, Account: e.Author, Name: e.Room.String()})
}

// countMade adds to how many rooms an account made.
func countMade(tx store.Tx, a protocol.AccountID, more int) (uint64, error) {
	made, _, err := get[sizeRow](tx, madeKey(a))
	if err != nil {
		return 0, err
	}
	made += sizeRow(more)
	return uint64(made), putOrDelete(tx, madeKey(a), made == 0, made)
}

// changeMembers writes who came and went. A room that nobody is in any more does not
// count for who made it.
func changeMembers(tx store.Tx, room *roomRow, e store.NewRoomEntry, q store.RoomQuotas) error {
	for _, a := range e.Went {
		if err := tx.Delete(inRoomKey(a, e.Room)); err != nil {
			return err
		}
	}
	until := untilRow{e.Now.Add(store.RoomMemory)}
	for _, a := range e.Left {
		if err := put(tx, outOfRoomKey(a, e.Room), until); err != nil {
			return err
		}
	}
	for _, a := range e.Came {
		rooms := uint64(1)
		err := scanPrefix(tx, inRoomPrefix(a), func(store.Pair) (bool, error) { rooms++; return true, nil })
		if err != nil {
			return err
		}
		if over(rooms, q.Joined) {
			return protocol.Refuse(protocol.TooLarge, "an account may be in %d rooms", q.Joined)
		}
		if err := errors.Join(tx.Set(inRoomKey(a, e.Room), nil), tx.Delete(outOfRoomKey(a, e.Room))); err != nil {
			return err
		}
	}
	room.members += uint64(len(e.Came))
	room.members -= uint64(len(e.Went))
	if room.members > 0 || len(e.Went) == 0 {
		return nil
	}
	_, err := countMade(tx, room.creator, -1)
	return errors.Join(err, put(tx, emptyRoomKey(e.Room), until))
}

// RoomLog implements store.Rooms.
func (s *Store) RoomLog(ctx context.Context, room protocol.RoomID, from uint64, limit, maxBytes int) (entries []store.RoomEntry, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		size := 0
		for pair, err := range tx.Scan(roomEntryKey(room, from), store.PrefixEnd(store.Key('G', room[:]))) {
			if err != nil {
				return err
			}
			row, err := parse[roomEntryRow](pair.Value)
			if err != nil {
				return err
			}
			size += len(row.entry)
			if len(entries) == limit || len(entries) > 0 && size > maxBytes {
				return nil
			}
			entries = append(entries, store.RoomEntry{Seq: lastNumber(pair.Key), Cursor: row.cursor, Entry: row.entry})
		}
		return nil
	})
	return entries, err
}

// lastNumber is the number that a key ends with.
func lastNumber(key []byte) uint64 {
	r := store.ReadKey(key)
	r.Bytes(len(key) - 1 - 8)
	return r.Uint64()
}

// Room implements store.Rooms.
func (s *Store) Room(ctx context.Context, id protocol.RoomID) (room store.Room, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		room, err = readRoom(tx, id)
		return err
	})
	return room, err
}

func readRoom(tx store.Tx, id protocol.RoomID) (store.Room, error) {
	row, known, err := get[roomRow](tx, roomKey(id))
	if err == nil && !known {
		err = unknownRoom(id)
	}
	return row.room(id), err
}

// RoomsOf implements store.Rooms.
func (s *Store) RoomsOf(ctx context.Context, account protocol.AccountID) (rooms []store.Room, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		return scanPrefix(tx, inRoomPrefix(account), func(pair store.Pair) (bool, error) {
			room, err := readRoom(tx, roomOf(pair.Key))
			if protocol.CodeOf(err) == protocol.UnknownRoom {
				err = fmt.Errorf("%w: a room that an account is in is missing", store.ErrDamaged)
			}
			rooms = append(rooms, room)
			return true, err
		})
	})
	return rooms, err
}

func roomOf(inRoomKey []byte) protocol.RoomID {
	r := store.ReadKey(inRoomKey)
	r.Bytes(len(protocol.AccountID{}))
	return protocol.RoomID(r.Bytes(len(protocol.RoomID{})))
}

// ShareRoom implements store.Rooms.
func (s *Store) ShareRoom(ctx context.Context, a, b protocol.AccountID, lately bool) (share bool, err error) {
	lists := [][]byte{inRoomPrefix(a)}
	if lately {
		lists = append(lists, outOfRoomPrefix(a))
	}
	err = s.kv.View(ctx, func(tx store.Tx) error {
		for _, list := range lists {
			err := scanPrefix(tx, list, func(pair store.Pair) (more bool, err error) {
				share, err = isIn(tx, b, roomOf(pair.Key), lately)
				return !share, err
			})
			if share || err != nil {
				return err
			}
		}
		return nil
	})
	return share, err
}
