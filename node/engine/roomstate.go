package engine

import (
	"fmt"
	"sync"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/store"
)

// roomStates keeps folded logs in memory. What it holds is checked against the
// rows whenever it is used, so that a transaction that was dropped leaves nothing
// wrong behind.
type roomStates struct {
	mu    sync.Mutex
	rooms map[protocol.RoomID]foldedRoom
}

type foldedRoom struct {
	state  *room.State
	epochs message.Epochs
}

// roomState folds the log of a room as far as its row says; nil if none of it is
// here.
func (e *Engine) roomState(tx store.Tx, now time.Time, id protocol.RoomID, r *roomRow) (*room.State, error) {
	if !r.known {
		return nil, nil
	}
	e.folded.mu.Lock()
	have, ok := e.folded.rooms[id]
	e.folded.mu.Unlock()
	if ok && have.state.Seq() == r.seq && have.state.Head() == r.head {
		return have.state, nil
	}
	var state *room.State
	if ok && have.state.Seq() < r.seq {
		state = have.state
	}
	state, err := foldRows(tx, id, state)
	if err != nil || state.Seq() != r.seq || state.Head() != r.head {
		if state, err = foldRows(tx, id, nil); err != nil {
			return nil, fmt.Errorf("log of a room: %w: %v", store.ErrDamaged, err)
		}
	}
	if state.Seq() != r.seq || state.Head() != r.head {
		return nil, fmt.Errorf("log of a room: %w", store.ErrDamaged)
	}
	e.keepFolded(now, id, state)
	return state, nil
}

func foldRows(tx store.Tx, id protocol.RoomID, state *room.State) (*room.State, error) {
	next := uint64(0)
	if state != nil {
		next = state.Seq() + 1
	}
	entries, err := entriesFrom(tx, tableRoomLog, id, next)
	if err != nil {
		return nil, err
	}
	return extend(state, entries)
}

// keepFolded keeps a folded log in memory, and notes which epochs ended just now.
func (e *Engine) keepFolded(now time.Time, id protocol.RoomID, state *room.State) {
	e.folded.mu.Lock()
	defer e.folded.mu.Unlock()
	if e.folded.rooms == nil {
		e.folded.rooms = map[protocol.RoomID]foldedRoom{}
	}
	have, ok := e.folded.rooms[id]
	next := foldedRoom{state, message.EpochsAt(state.Epoch())}
	if hash, is := state.At(have.at()); ok && is && hash == have.state.Head() {
		next.epochs = have.epochs.Advance(now, state.Epoch())
	}
	for other := range e.folded.rooms { // any: it is folded again when it is needed
		if ok || len(e.folded.rooms) < maxRoomStates {
			break
		}
		delete(e.folded.rooms, other)
	}
	e.folded.rooms[id] = next
}

func (f foldedRoom) at() uint64 {
	if f.state == nil {
		return 0
	}
	return f.state.Seq()
}

// checker judges messages by the log of a room.
func (w *work) checker(r *openRoom) message.Checker {
	w.e.folded.mu.Lock()
	defer w.e.folded.mu.Unlock()
	c := message.Checker{Room: r.id, Epochs: message.EpochsAt(r.state.Epoch()), Sender: r.state.Sender, Demoted: r.state.Demoted}
	if f := w.e.folded.rooms[r.id]; f.state == r.state {
		c.Epochs = f.epochs
	}
	return c
}

// RoomChecker judges messages on a room's topic; ErrNoRoom, or ErrNotInRoom while
// nothing of its log is here.
func (e *Engine) RoomChecker(tx store.Tx, now time.Time, id protocol.RoomID) (message.Checker, error) {
	w, r, err := e.beginRoom(tx, now, id)
	if err != nil {
		return message.Checker{}, err
	}
	if r.state == nil {
		return message.Checker{}, ErrNotInRoom
	}
	return w.checker(r), nil
}
