package engine

import (
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/store"
)

// RoomPlan is what is to be asked of a room's rendezvous.
type RoomPlan struct {
	Append []byte // an entry of ours to be appended, and then taken with TakeRoom; nil: none
	From   uint64 // read the log from this number on,
	After  uint64 // and messages after this cursor
	Send   bool   // there are messages to be sent: see RoomOutbox
	Follow bool   // the room is to be read at all
	Doubt  bool   // it is over, but not by its log: to be read when the rendezvous tells of it again
	Guests bool   // ask when its guests were last online (wire.SeenGuests), then SeenGuests
	Link   []byte // to read with: the link by which this account wants to join; nil: none
	Proof  []byte // of Link
}

// RoomPlan returns what is to be asked of a room's rendezvous now.
func (e *Engine) RoomPlan(tx store.Tx, now time.Time, id protocol.RoomID) (RoomPlan, error) {
	w, r, err := e.beginRoom(tx, now, id)
	if err != nil {
		return RoomPlan{}, err
	}
	p := RoomPlan{After: r.row.cursor, Follow: r.row.stage != RoomOut, Guests: r.row.askGuests && r.row.guests}
	if r.row.known {
		p.From = r.row.seq + 1
	}
	p.Doubt = w.doubted(r)
	if r.row.made {
		p.Append, err = tx.Get(keyRoomItem(tableRoomLog, id, 0))
		return p, err
	}
	list, err := w.entriesToAppend(r)
	if err != nil {
		return p, err
	}
	if len(list) > 0 {
		p.Append = list[0].Bytes()
	}
	if p.Link, p.Proof, err = w.entryProof(r); err != nil {
		return p, err
	}
	p.Send = r.row.queued > 0 && r.row.fork != forkStands
	return p, nil
}

// RoomsToFollow are the rooms with something to be read or sent: for the start,
// and after each welcome.
func (e *Engine) RoomsToFollow(tx store.Tx) (list []protocol.RoomID, err error) {
	err = all(tx, []byte{tableRoom}, func(pair store.Pair) (bool, error) {
		r, err := decodeRow[roomRow](pair.Value)
		if err == nil && r.stage != RoomOut {
			list = append(list, protocol.RoomID(pair.Key[1:]))
		}
		return true, err
	})
	return list, err
}

// RoomLog returns entries of a room's log from a number on, about maxBytes of them
// but at least one if there is one: for a rendezvous that was set back, and for
// members without one.
func (e *Engine) RoomLog(tx store.Tx, id protocol.RoomID, from uint64, maxBytes int) (list [][]byte, err error) {
	for pair, err := range tx.Scan(keyRoomItem(tableRoomLog, id, from), store.PrefixEnd(store.Key(tableRoomLog, id[:]))) {
		if err != nil {
			return nil, err
		}
		if maxBytes -= len(pair.Value); maxBytes < 0 && len(list) > 0 {
			break
		}
		list = append(list, pair.Value)
	}
	return list, nil
}

// RoomNotAppended notes that the rendezvous refused an entry of RoomPlan for good:
// it is given up, with what was written on top of it, and an event says why. If
// others were first take what they wrote with TakeRoom instead.
func (e *Engine) RoomNotAppended(tx store.Tx, now time.Time, id protocol.RoomID, entry []byte, refusal *protocol.Error) (Hint, error) {
	return e.withRoom(tx, now, id, func(w *work, r *openRoom) error {
		refused, err := room.ParseEntry(entry)
		if err != nil {
			return err
		}
		list, err := w.entriesToAppend(r)
		if err != nil {
			return err
		}
		switch {
		case r.row.made && refused.Seq == 0: // the room cannot be made
			r.row.made = false
			return w.goOut(r, RoomNotDone, refusal.Error())
		case len(list) > 0 && list[0].Hash() == refused.Hash():
			if err := w.notWritten(r, refused, refusal); err != nil {
				return err
			}
			if list, err = w.without(r, list); err != nil {
				return err
			}
			return w.setEntries(r, list)
		}
		return nil
	})
}

// without writes the entries behind the first again, without it.
func (w *work) without(r *openRoom, list []room.Entry) ([]room.Entry, error) {
	before, err := r.state.Extend(list[0])
	if err != nil {
		return nil, fmt.Errorf("entries that wait: %w: %v", store.ErrDamaged, err)
	}
	return w.rebase(r, before, list[1:])
}

// RoomPage is what a rendezvous, or a member, answers of a room: entries of the log,
// then messages.
type RoomPage struct {
	Entries  [][]byte
	Messages []RoomItem
}

// endsLog tells that who was asked from an entry on has none: messages come in order, and
// behind all entries.
func (p RoomPage) endsLog() bool {
	return len(p.Entries) == 0 && (len(p.Messages) == 0 || p.Messages[0].Cursor > 0)
}

// RoomItem is a message of a room and its place in the mailbox: 0 if it is not from
// there in order, but to fill a gap.
type RoomItem struct {
	Cursor  uint64
	Message []byte
}

// TakeRoom takes what was read of a room. What one transaction cannot carry is left:
// Hint.Rooms tells to read on. ErrRoomLog tells that the log does not verify: then
// nothing changes, and an event should be made with RoomFailed.
func (e *Engine) TakeRoom(tx store.Tx, now time.Time, id protocol.RoomID, page RoomPage) (Hint, error) {
	return e.withRoom(tx, now, id, func(w *work, r *openRoom) error {
		if len(page.Entries) > 0 && r.row.made {
			if first, err := room.ParseEntry(page.Entries[0]); err == nil && first.Hash() == id {
				r.row.made = false
			}
		}
		if page.endsLog() {
			w.e.aheads.readToEnd(w.now, id)
		}
		before := r.state
		if err := w.takeLog(r, page.Entries); err != nil {
			return err
		}
		if err := w.comeBack(r); err != nil {
			return err
		}
		if err := w.takeItems(r, page.Messages, r.state != before); err != nil {
			return err
		}
		r.row.problem = ""
		if page.endsLog() {
			return w.dropForced(r)
		}
		return nil
	})
}

// judgeView holds the log that a message's author has against ours.
func (w *work) judgeView(r *openRoom, m message.Message) error {
	switch r.state.Judge(m.Epoch, m.Seq, m.Head) {
	case room.Ahead:
		if r.row.aheadSeq == 0 || m.Seq < r.row.aheadSeq {
			r.row.aheadSeq, r.row.aheadHead, r.row.aheadBy = m.Seq, m.Head, m.Device
		}
		w.hintRoom(r.id)
	case room.Forked:
		return w.forked(r, m.Device, m.Seq, m.Head)
	}
	return nil
}

// judgeAhead looks again at what a member had of the log and we did not.
func (w *work) judgeAhead(r *openRoom) error {
	if r.row.aheadSeq == 0 || r.row.aheadSeq > r.state.Seq() {
		return nil
	}
	hash, _ := r.state.At(r.row.aheadSeq)
	seq, head, by := r.row.aheadSeq, r.row.aheadHead, r.row.aheadBy
	r.row.aheadSeq, r.row.aheadHead, r.row.aheadBy = 0, [32]byte{}, protocol.DeviceID{}
	if hash == head {
		return nil
	}
	return w.forked(r, by, seq, head)
}
