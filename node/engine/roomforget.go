package engine

import (
	"errors"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// Rooms come by what others say: by invitations, and by what the rendezvous tells. Those
// in use are bounded, and so are those that are over and of which nobody here said or
// read anything: the oldest of these is forgotten. A room with messages stays.

const (
	maxRooms    = 256 // in use
	maxRoomsOut = 256 // that are over, without a message
	maxInvites  = 16  // of one contact that wait for the user
	forgetCount = 64  // rows deleted at a time
)

// roomTables are the tables of what is here of a room besides its row and its log, by room.
var roomTables = []byte{
	tableRoomEntry, tableRoomKey, tableRoomChain, tableRoomSender, tableRoomReceiver, tableRoomOut, tableRoomWait,
	tableRoomHeld, tableRoomLent, tableRoomLentAge, tableRoomNote, tableRoomLink, tableRoomBranch,
}

// eachRoom calls fn with every room, without its log.
func (w *work) eachRoom(fn func(protocol.RoomID, *roomRow)) error {
	return all(w.tx, []byte{tableRoom}, func(pair store.Pair) (bool, error) {
		id := protocol.RoomID(pair.Key[1:])
		if r, open := w.rooms[id]; open {
			fn(id, &r.row)
			return true, nil
		}
		row, err := decodeRow[roomRow](pair.Value)
		if err == nil {
			fn(id, &row)
		}
		return true, err
	})
}

// roomOrNew is room; one that is not known is made so, at our rendezvous. ErrManyRooms.
func (w *work) roomOrNew(id protocol.RoomID) (*openRoom, error) {
	r, err := w.room(id)
	if err != ErrNoRoom {
		return r, err
	}
	home, err := ownHome(w.tx)
	if err != nil {
		return nil, err
	}
	w.hintRoom(id)
	return w.addRoom(id, roomRow{stage: RoomTold, home: home, since: w.now})
}

// addRoom makes a room known; ErrManyRooms.
func (w *work) addRoom(id protocol.RoomID, row roomRow) (*openRoom, error) {
	inUse, over := 0, 0
	err := w.eachRoom(func(_ protocol.RoomID, have *roomRow) {
		switch {
		case have.stage != RoomOut:
			inUse++
		case have.position == 0:
			over++
		}
	})
	if err != nil {
		return nil, err
	}
	if inUse >= maxRooms {
		return nil, ErrManyRooms
	}
	if over > maxRoomsOut {
		if err := w.at(w.now, timerRoomsOver, nil); err != nil {
			return nil, err
		}
	}
	r := &openRoom{id: id, row: row, receivers: map[protocol.DeviceID]*roomReceiver{}}
	w.keepRoom(r)
	return r, w.put(keyRoom(id), &r.row)
}

// mayInvite tells whether an invitation by a contact may be added to those that wait.
func (w *work) mayInvite(by protocol.AccountID) (bool, error) {
	open := 0
	err := w.eachRoom(func(_ protocol.RoomID, row *roomRow) {
		if row.stage == RoomInvited && row.by == by {
			open++
		}
	})
	return open < maxInvites, err
}

// forgetRoom removes a room of which nothing but its name, keys and a short log is here.
func (w *work) forgetRoom(r *openRoom) error {
	delete(w.rooms, r.id)
	err := w.delete(keyRoom(r.id))
	for _, table := range append([]byte{tableRoomLog}, roomTables...) {
		err = errors.Join(err, all(w.tx, store.Key(table, r.id[:]), func(pair store.Pair) (bool, error) {
			return true, w.delete(pair.Key)
		}))
	}
	return err
}

// forgetOver forgets the oldest of the rooms that are over, if there are too many, as far
// as one transaction carries that.
func (w *work) forgetOver() error {
	for rows := 0; ; rows += forgetCount {
		var oldest protocol.RoomID
		var since time.Time
		over := 0
		err := w.eachRoom(func(id protocol.RoomID, row *roomRow) {
			if row.stage != RoomOut || row.position > 0 {
				return
			}
			over++
			if _, open := w.rooms[id]; !open && (since.IsZero() || row.since.Before(since)) {
				oldest, since = id, row.since
			}
		})
		if err != nil || over <= maxRoomsOut || since.IsZero() {
			return err
		}
		if w.full(rows) {
			return w.at(w.now, timerRoomsOver, nil)
		}
		if err := w.forgetMore(oldest); err != nil {
			return err
		}
	}
}

// forgetMore forgets some of what is here of a room. Its log goes from the end, so that
// what is left is a log at any time, and the room may be used again.
func (w *work) forgetMore(id protocol.RoomID) error {
	rows := 0
	for _, table := range roomTables {
		err := all(w.tx, store.Key(table, id[:]), func(pair store.Pair) (bool, error) {
			rows++
			return rows < forgetCount, w.delete(pair.Key)
		})
		if err != nil || rows == forgetCount {
			return err
		}
	}
	row, _, err := load[roomRow](w.tx, keyRoom(id))
	if err != nil {
		return err
	}
	if !row.known {
		return w.delete(keyRoom(id))
	}
	from := max(row.seq+1, forgetCount) - forgetCount
	for number := from; number <= row.seq; number++ {
		if err := w.delete(keyRoomItem(tableRoomLog, id, number)); err != nil {
			return err
		}
	}
	if from == 0 {
		return w.delete(keyRoom(id))
	}
	b, err := w.tx.Get(keyRoomItem(tableRoomLog, id, from-1))
	if err != nil {
		return err
	}
	last, err := room.ParseEntry(b)
	if err != nil {
		return err
	}
	row.seq, row.head = last.Seq, last.Hash()
	return w.put(keyRoom(id), &row)
}
