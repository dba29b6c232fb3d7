package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// What people see of rooms: what they are called, who is in them, who did what.

// RoomTitle is what a room is called, without its log.
type RoomTitle struct {
	ID    protocol.RoomID
	Stage RoomStage
	Name  string
}

// RoomTitles returns all rooms that this account is or was in, or is invited to.
func (e *Engine) RoomTitles(tx store.Tx) (list []RoomTitle, err error) {
	err = all(tx, []byte{tableRoom}, func(pair store.Pair) (bool, error) {
		r, err := decodeRow[roomRow](pair.Value)
		if err == nil && (r.stage != RoomTold || r.joining) {
			list = append(list, RoomTitle{protocol.RoomID(pair.Key[1:]), r.stage, r.name})
		}
		return true, err
	})
	return list, err
}

// RoomTitle returns what a room is called; ErrNoRoom if there is none.
func (e *Engine) RoomTitle(tx store.Tx, id protocol.RoomID) (RoomTitle, error) {
	r, ok, err := load[roomRow](tx, keyRoom(id))
	if err == nil && !ok {
		err = ErrNoRoom
	}
	return RoomTitle{id, r.stage, r.name}, err
}

// RoomAuthor returns the account of a device that may, or once might, write in a room;
// ErrNotFound if there was none.
func (e *Engine) RoomAuthor(tx store.Tx, now time.Time, id protocol.RoomID, device protocol.DeviceID) (a protocol.AccountID, err error) {
	s, err := e.stateOf(tx, now, id)
	if err != nil {
		return a, err
	}
	a, _, ok := s.AccountOf(device)
	if !ok {
		return a, ErrNotFound
	}
	return a, nil
}

// stateOf is what the log of a room says; ErrNotFound while nothing of it is here.
func (e *Engine) stateOf(tx store.Tx, now time.Time, id protocol.RoomID) (*room.State, error) {
	row, ok, err := load[roomRow](tx, keyRoom(id))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNoRoom
	}
	s, err := e.roomState(tx, now, id, &row)
	if err == nil && s == nil {
		err = ErrNotFound
	}
	return s, err
}

// RoomEntry is an entry of a room's log, with the texts that are sealed in it as far as
// their keys are here.
type RoomEntry struct {
	room.Entry
	About room.About // of a describe
	Name  string     // of a join or guest join
}

// RoomEntries returns the newest entries of a room's log before a number (0: the end),
// oldest first, at most limit.
func (e *Engine) RoomEntries(tx store.Tx, id protocol.RoomID, before uint64, limit int) ([]RoomEntry, error) {
	end := store.PrefixEnd(store.Key(tableRoomLog, id[:]))
	if before > 0 {
		end = keyRoomItem(tableRoomLog, id, before)
	}
	w := &work{e: e, tx: tx}
	var list []RoomEntry
	for pair, err := range tx.ScanDown(keyRoomItem(tableRoomLog, id, 0), end) {
		if err != nil {
			return nil, err
		}
		entry, err := w.readEntry(id, pair.Value)
		if err != nil {
			return nil, err
		}
		if list = append(list, entry); len(list) >= limit {
			break
		}
	}
	slices.Reverse(list)
	return list, nil
}

// RoomEntry returns the entry with a number; ErrNotFound if it is not here.
func (e *Engine) RoomEntry(tx store.Tx, id protocol.RoomID, seq uint64) (RoomEntry, error) {
	b, err := get(tx, keyRoomItem(tableRoomLog, id, seq))
	if err != nil {
		return RoomEntry{}, err
	}
	if b == nil {
		return RoomEntry{}, ErrNotFound
	}
	w := &work{e: e, tx: tx}
	return w.readEntry(id, b)
}

func (w *work) readEntry(id protocol.RoomID, b []byte) (out RoomEntry, err error) {
	if out.Entry, err = room.ParseEntry(b); err != nil {
		return out, fmt.Errorf("log of a room: %w: %v", store.ErrDamaged, err)
	}
	switch op := out.Op.(type) {
	case room.Describe:
		out.About, _, err = w.openAbout(id, op.About)
	case room.Join:
		out.Name, err = w.openName(id, op.Name)
	case room.GuestJoin:
		out.Name, err = w.openName(id, op.Name)
	}
	return out, err
}

// openAbout opens a name and topic; not ok if the key is not here, or whoever sealed it
// did it wrong.
func (w *work) openAbout(id protocol.RoomID, sealed room.Sealed) (about room.About, ok bool, err error) {
	k, ok, err := w.stateKey(id, sealed.Key)
	if err != nil || !ok {
		return about, false, err
	}
	about, wrong := k.OpenAbout(id, sealed)
	return about, wrong == nil, nil
}

// openName opens a member's name likewise; empty if there is none.
func (w *work) openName(id protocol.RoomID, sealed room.Sealed) (string, error) {
	if sealed.IsZero() {
		return "", nil
	}
	k, ok, err := w.stateKey(id, sealed.Key)
	if err != nil || !ok {
		return "", err
	}
	name, wrong := k.OpenName(id, sealed)
	if wrong != nil {
		return "", nil
	}
	return name, nil
}
