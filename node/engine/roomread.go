package engine

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// MarkRoomRead notes that the conversation of a room was seen up to a position, and
// tells the account's other devices. Nobody else is told. Of many rows the rest follows
// with Tick.
func (e *Engine) MarkRoomRead(tx store.Tx, now time.Time, id protocol.RoomID, upTo uint64) (Hint, error) {
	return e.withRoom(tx, now, id, func(w *work, r *openRoom) error { return w.readRoom(r, upTo) })
}

func (w *work) readRoom(r *openRoom, upTo uint64) error {
	a, upTo := Conversation(r.id), min(upTo, r.row.position)
	rows := 0
	for pair, err := range w.tx.Scan(keyHistory(a, r.row.readTo+1), keyHistory(a, upTo+1)) {
		if err != nil {
			return err
		}
		if rows++; rows > readBatch || w.full(0) {
			return w.at(w.now, timerRoomRead, binary.BigEndian.AppendUint64(slices.Clone(r.id[:]), upTo))
		}
		h, err := decodeRow[historyRow](pair.Value)
		if err != nil {
			return err
		}
		r.row.readTo = keyNumber(pair.Key)
		if h.state != StateReceived || h.seen || h.hidden {
			continue
		}
		r.row.unread = max(r.row.unread, 1) - 1
		if err := w.beginReadTime(a, r.row.readTo, &h); err != nil {
			return err
		}
		if err := w.pass(h.id, true); err != nil {
			return err
		}
	}
	r.row.readTo = max(r.row.readTo, upTo)
	return nil
}

// readRoomOn is readRoom after a pause.
func (w *work) readRoomOn(id []byte) error {
	r, err := w.roomOfTimer(id, 40)
	if r == nil || err != nil {
		return err
	}
	return w.readRoom(r, binary.BigEndian.Uint64(id[32:]))
}
