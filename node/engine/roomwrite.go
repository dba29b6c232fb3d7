package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// What this account does in a room is an entry that waits until whoever orders
// the log has taken it. Entries that wait are written one on top of the other, the
// first on top of the log; when others were first they are written again.

// CreateRoom makes a room with this account as its owner, at the account's
// rendezvous. It is there at once, for others when its first entry was appended.
// ErrManyRooms, ErrGuest; errors of room for a bad name or topic.
func (e *Engine) CreateRoom(tx store.Tx, now time.Time, about room.About) (protocol.RoomID, Hint, error) {
	if e.isGuest() {
		return protocol.RoomID{}, Hint{}, ErrGuest
	}
	w, err := e.begin(tx, now)
	if err != nil {
		return protocol.RoomID{}, Hint{}, err
	}
	own, err := e.OwnChain(tx)
	if err != nil {
		return protocol.RoomID{}, Hint{}, err
	}
	state, first, err := room.NewRoom(w.now, w.author(), own)
	if err != nil {
		return protocol.RoomID{}, Hint{}, err
	}
	id := state.Room()
	home, err := ownHome(tx)
	if err != nil {
		return id, Hint{}, err
	}
	row := roomRow{stage: RoomJoined, home: home, name: about.Name, since: w.now, made: true, known: true, head: state.Head()}
	r, err := w.addRoom(id, row)
	if err != nil {
		return id, Hint{}, err
	}
	if err := w.set(keyRoomItem(tableRoomLog, id, 0), first.Bytes()); err != nil {
		return id, Hint{}, err
	}
	r.state = state
	e.keepFolded(w.now, id, state)
	if err := errors.Join(w.describe(r, about), w.tellSiblingsOfRoom(r), w.roomEvent(r, room.KindCreate.String(), "0")); err != nil {
		return id, Hint{}, err
	}
	h, err := w.end()
	return id, h, err
}

// WriteRoom does something in a room. Errors are those of room.State.Write: who may
// not do it is told at once; and ErrNoRoom, ErrNotInRoom, ErrQueueFull. For name and
// topic see DescribeRoom, to come in JoinRoom.
func (e *Engine) WriteRoom(tx store.Tx, now time.Time, id protocol.RoomID, op room.Op) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error { return w.write(r, op) })
}

// InviteToRoom lets a contact join, and tells it when the log says so: again if the log
// does already, for who turned the invitation down. ErrNotContact for anybody else.
func (e *Engine) InviteToRoom(tx store.Tx, now time.Time, id protocol.RoomID, a protocol.AccountID) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		p, err := w.peer(a)
		if err == ErrNotFound || err == nil && p.relation != Accepted {
			return ErrNotContact
		}
		if err != nil {
			return err
		}
		if r.state.Invited(a) {
			return w.sendInvite(r, a)
		}
		return w.write(r, room.Invite{Account: a})
	})
}

// DescribeRoom changes name and topic.
func (e *Engine) DescribeRoom(tx store.Tx, now time.Time, id protocol.RoomID, about room.About) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error { return w.describe(r, about) })
}

// LeaveRoom takes this account out of a room, or turns an invitation down.
func (e *Engine) LeaveRoom(tx store.Tx, now time.Time, id protocol.RoomID) (Hint, error) {
	return e.withRoom(tx, now, id, func(w *work, r *openRoom) error {
		if r.row.stage == RoomJoined {
			return w.write(r, room.Leave{})
		}
		return w.goOut(r, RoomWasDeclined, "")
	})
}

// JoinRoom joins a room that this account was invited to: as soon as its log is
// here, and again if others are first. One that is over is asked for once more: who
// turned an invitation down may still take it. What becomes of it an event says.
func (e *Engine) JoinRoom(tx store.Tx, now time.Time, id protocol.RoomID) (Hint, error) {
	return e.withRoom(tx, now, id, func(w *work, r *openRoom) error {
		if r.row.stage == RoomJoined {
			return nil
		}
		if r.row.stage == RoomOut {
			r.row.stage = RoomTold
		}
		r.row.joining = true
		w.hintRoom(id)
		return w.pursue(r)
	})
}

// inRoom runs fn for a room that this account is in.
func (e *Engine) inRoom(tx store.Tx, now time.Time, id protocol.RoomID, fn func(*work, *openRoom) error) (Hint, error) {
	return e.withRoom(tx, now, id, func(w *work, r *openRoom) error {
		if r.row.stage != RoomJoined || r.state == nil {
			return ErrNotInRoom
		}
		return fn(w, r)
	})
}

func (w *work) describe(r *openRoom, about room.About) error {
	k, err := w.sealingKey(r)
	if err != nil {
		return err
	}
	sealed, err := k.SealAbout(r.id, about)
	if err != nil {
		return err
	}
	return w.write(r, room.Describe{About: sealed})
}

// write makes an entry that waits to be appended. A removal goes before what else
// waits.
func (w *work) write(r *openRoom, op room.Op) error {
	list, top, err := w.top(r)
	if err != nil {
		return err
	}
	if len(list) >= maxRoomEntries {
		return ErrQueueFull
	}
	_, entry, err := top.Write(w.now, w.author(), op)
	if err != nil {
		return err
	}
	if list, err = w.rebase(r, r.state, append(list, entry)); err != nil {
		return err
	}
	return w.setEntries(r, list)
}

// entriesToAppend are the entries that wait to be appended, in order.
func (w *work) entriesToAppend(r *openRoom) ([]room.Entry, error) {
	return w.entriesIn(tableRoomEntry, r.id)
}

// top returns the entries that wait to be appended, and the log as it will be with them.
func (w *work) top(r *openRoom) (list []room.Entry, top *room.State, err error) {
	list, err = w.entriesToAppend(r)
	if err != nil || r.state == nil || len(list) == 0 {
		return list, r.state, err
	}
	if top, err = r.state.Extend(list...); err != nil {
		return nil, nil, fmt.Errorf("entries that wait: %w: %v", store.ErrDamaged, err)
	}
	return list, top, nil
}

func (w *work) setEntries(r *openRoom, list []room.Entry) error {
	old, err := w.entriesToAppend(r)
	if err != nil {
		return err
	}
	for i := range max(len(old), len(list)) {
		key := keyRoomItem(tableRoomEntry, r.id, uint64(i))
		switch {
		case i >= len(list):
			err = w.delete(key)
		case i >= len(old) || old[i].Hash() != list[i].Hash():
			err = w.set(key, list[i].Bytes())
		}
		if err != nil {
			return err
		}
	}
	if len(list) > 0 {
		w.hintRoom(r.id)
	}
	return nil
}

// rebase writes entries again that were written on top of before, and now belong on
// top of the log as it is: removals first. What need not be done any more goes, and
// what may not, with an event.
func (w *work) rebase(r *openRoom, before *room.State, list []room.Entry) ([]room.Entry, error) {
	byRank := func(a, b room.Entry) int { return cmp.Compare(room.Precedence(a.Op), room.Precedence(b.Op)) }
	if before == r.state && slices.IsSortedFunc(list, byRank) {
		return list, nil
	}
	bases := map[[32]byte]*room.State{}
	for _, entry := range list {
		bases[entry.Hash()] = before
		next, err := before.Extend(entry)
		if err != nil {
			return nil, fmt.Errorf("entries that wait: %w: %v", store.ErrDamaged, err)
		}
		before = next
	}
	slices.SortStableFunc(list, byRank)
	var again []room.Entry
	top := r.state
	for _, entry := range list {
		next, rewritten, err := w.writeAgain(r, top, entry, bases[entry.Hash()])
		if err == nil {
			top, again = next, append(again, rewritten)
			continue
		}
		if errors.Is(err, room.ErrNoEffect) {
			continue
		}
		if err := w.notWritten(r, entry, err); err != nil {
			return nil, err
		}
	}
	return again, nil
}

// notWritten tells the user that an entry of ours will not be in the log.
func (w *work) notWritten(r *openRoom, entry room.Entry, cause error) error {
	switch op := entry.Op.(type) {
	case room.Devices, room.GuestRenew, room.GuestExpire: // nobody asked for it; somebody else did it
		return nil
	case room.GuestJoin: // the guest hears of it, see GuestAdmitted
		return nil
	case room.Join:
		return w.giveUpJoining(r, cause.Error())
	case room.SetPassword:
		if err := w.delete(keyRoomKey(r.id, op.Secret.Key)); err != nil {
			return err
		}
	}
	return w.roomEvent(r, RoomNotDone, cause.Error())
}
