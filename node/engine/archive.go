package engine

import (
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// ArchivePast returns messages of a conversation, with a contact or in a room, before a position (0: the
// end), newest first, as many as go into one content; nil if there are no more.
// Next is where to go on.
func (e *Engine) ArchivePast(tx store.Tx, with protocol.AccountID, before uint64) (past *wire.Past, next uint64, err error) {
	w, err := e.begin(tx, time.Time{})
	if err != nil {
		return nil, 0, err
	}
	r := &shareRow{with: with, below: before}
	list, err := w.messagesBelow(r)
	if err != nil || len(list) == 0 {
		return nil, 0, err
	}
	isRoom, err := get(tx, keyRoom(protocol.RoomID(with)))
	return &wire.Past{With: slices.Clone(with[:]), Messages: list, Room: isRoom != nil}, r.below, err
}

// TakePast takes messages that ArchivePast returned into the history. Taking
// them again changes nothing.
func (e *Engine) TakePast(tx store.Tx, now time.Time, past *wire.Past) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	if err := w.takePast(past); err != nil {
		return Hint{}, err
	}
	return w.end()
}
