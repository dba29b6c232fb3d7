package engine

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// An own message waits as a row, and is sealed when it is handed out: in the epoch
// that is in force then. If that ends before the mailbox has the message, it is
// sealed again under another number, and names those it had before.

// ComposeRoom writes a text to a room. Repeating it with the same id and text
// changes nothing; with another text or room it is ErrConflict.
//
// Refusals: ErrNoRoom, ErrNotInRoom, ErrRoomMute, ErrRoomFork, ErrTooLong, ErrBadText,
// ErrQueueFull, ErrRevoked.
func (e *Engine) ComposeRoom(tx store.Tx, now time.Time, id protocol.RoomID, msg protocol.MsgID, text string) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		return w.composeDraft(Conversation(id), msg, Draft{Text: text})
	})
}

func (w *work) composeInRoom(r *openRoom, msg protocol.MsgID, text string, x extras) error {
	if err := w.mayPost(r, rightsFor(text, x.carries)); err != nil {
		return err
	}
	r.row.position++
	h := historyRow{
		id: msg, mine: true, state: StateQueued, device: w.e.id.Device,
		sent: w.now, recorded: w.now, text: text, steps: []Step{{w.now, "queued", ""}}, extras: x,
	}
	if err := w.queueForRoom(r, roomOutRow{position: r.row.position}); err != nil {
		return err
	}
	return w.place(Conversation(r.id), r.row.position, h)
}

// rightsFor are the rights that it takes to write a message.
func rightsFor(text string, carries bool) room.Rights {
	switch {
	case carries && text == "":
		return room.Files
	case carries:
		return room.Send | room.Files
	}
	return room.Send
}

// mayPost tells whether the user may write to a room now, something that takes a right.
func (w *work) mayPost(r *openRoom, want room.Rights) error {
	switch {
	case r.row.stage != RoomJoined || r.state == nil: // who was removed is not shown the log that says so
		return ErrNotInRoom
	case !r.state.Rights(w.e.id.Account).Has(want &^ room.Files):
		return ErrRoomMute
	case !r.state.Rights(w.e.id.Account).Has(want):
		return ErrRoomFiles
	case r.row.fork == forkStands:
		return ErrRoomFork
	case r.row.queued >= maxRoomQueued:
		return ErrQueueFull
	}
	return nil
}

// queueForRoom queues a message, or something done to one.
func (w *work) queueForRoom(r *openRoom, row roomOutRow) error {
	r.row.queued++
	r.row.sent++
	w.hintRoom(r.id)
	return w.put(keyRoomItem(tableRoomOut, r.id, r.row.sent), &row)
}

// RoomMessage is an own message to a room, sealed. The bytes are the same in every
// retry while the epoch is.
type RoomMessage struct {
	ID      protocol.EnvelopeID
	Message []byte
}

// RoomOutbox returns own messages that are not in the room's mailbox, in order, at
// most limit of them and about maxBytes, but at least one if there is one. It seals
// them, so the transaction must be committed before any of them leaves. There is none
// while the user has to look at a fork of the log.
func (e *Engine) RoomOutbox(tx store.Tx, now time.Time, id protocol.RoomID, maxBytes, limit int) ([]RoomMessage, Hint, error) {
	w, r, err := e.beginRoom(tx, now, id)
	if err != nil {
		return nil, Hint{}, err
	}
	if !w.maySend(r) {
		return nil, Hint{}, nil
	}
	var list []RoomMessage
	err = all(tx, store.Key(tableRoomOut, id[:]), func(pair store.Pair) (bool, error) {
		row, err := decodeRow[roomOutRow](pair.Value)
		if err != nil || len(list) == limit || w.full(0) {
			return false, err
		}
		if len(row.sealed) == 0 || row.epoch != r.state.Epoch() {
			if err := w.sealForRoom(r, pair.Key, &row); err != nil {
				return false, err
			}
		}
		if maxBytes -= len(row.sealed); maxBytes < 0 && len(list) > 0 {
			return false, nil
		}
		list = append(list, RoomMessage{protocol.IDOf(row.sealed), row.sealed})
		return true, nil
	})
	if err != nil {
		return nil, Hint{}, err
	}
	h, err := w.end()
	return list, h, err
}

// maySend tells whether messages of this device count in the room now.
func (w *work) maySend(r *openRoom) bool {
	if r.state == nil || r.row.made || r.row.fork == forkStands || w.e.stopped.Load() {
		return false
	}
	_, ok := r.state.Sender(w.e.id.Device, r.state.Epoch())
	return ok
}

// sealForRoom seals a message in the epoch in force.
func (w *work) sealForRoom(r *openRoom, key []byte, row *roomOutRow) error {
	content, err := w.roomContent(r, row)
	if err != nil {
		return err
	}
	s, err := w.senderOf(r)
	if err != nil {
		return err
	}
	if s.Ended(w.now, r.view()) {
		if err := w.startChain(r, s); err != nil {
			return err
		}
	}
	if len(row.sealed) > 0 {
		row.void = append(row.void, row.number)
		row.void = row.void[max(0, len(row.void)-maxRoomVoid):]
	}
	content.Void = row.void
	plain, err := proto.Marshal(content)
	if err != nil {
		return fmt.Errorf("encode message to a room: %w", err)
	}
	row.number, row.epoch = s.Next(), r.state.Epoch()
	var next chain.Sender
	if next, row.sealed, err = s.Seal(w.now, w.e.id.DSK, r.view(), plain); err != nil {
		return fmt.Errorf("seal message to a room: %w", err)
	}
	*s = next
	m, err := message.Parse(row.sealed)
	if err != nil {
		return fmt.Errorf("message to a room: %w", err)
	}
	return errors.Join(w.put(key, row), w.lend(r, m))
}

// roomContent is what a row of out says.
func (w *work) roomContent(r *openRoom, row *roomOutRow) (*wire.RoomContent, error) {
	if row.position == 0 {
		content := &wire.RoomContent{}
		if err := proto.Unmarshal(row.content, content); err != nil {
			return nil, fmt.Errorf("message to a room: %w", store.ErrDamaged)
		}
		return content, nil
	}
	h, ok, err := loadHistory(w.tx, Conversation(r.id), row.position)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("message to a room: %w", store.ErrDamaged)
	}
	return &wire.RoomContent{
		MsgId: h.id[:], SentMs: uint64(millis(h.sent)), Body: &wire.RoomContent_Text{Text: h.wireText()},
	}, nil
}

// RoomStored notes that messages are in the room's mailbox. Ids that do not wait
// are ignored.
func (e *Engine) RoomStored(tx store.Tx, now time.Time, id protocol.RoomID, ids []protocol.EnvelopeID) (Hint, error) {
	return e.settleRoom(tx, now, id, ids, func(w *work, r *openRoom, key []byte, row *roomOutRow) error {
		return w.roomMessageDone(r, key, row, StateStored, "")
	})
}

// RoomRefused notes that the rendezvous did not take a message: it is given up,
// sealed again, or kept to be tried later, as the code says.
func (e *Engine) RoomRefused(tx store.Tx, now time.Time, id protocol.RoomID, msg protocol.EnvelopeID, refusal *protocol.Error) (Hint, error) {
	return e.settleRoom(tx, now, id, []protocol.EnvelopeID{msg}, func(w *work, r *openRoom, key []byte, row *roomOutRow) error {
		switch refusal.Code {
		case protocol.TooLarge:
			return w.roomMessageDone(r, key, row, StateFailed, refusal.Error())
		case protocol.StaleEpoch, protocol.BadRequest: // another epoch, or a number that is taken
			w.hintRoom(r.id)
			row.epoch = 0
			return w.put(key, row)
		}
		return nil
	})
}

// settleRoom calls fn for the messages of these ids that wait.
func (e *Engine) settleRoom(tx store.Tx, now time.Time, id protocol.RoomID, ids []protocol.EnvelopeID, fn func(*work, *openRoom, []byte, *roomOutRow) error) (Hint, error) {
	return e.withRoom(tx, now, id, func(w *work, r *openRoom) error {
		if err := w.eachOut(r, ids, fn); err != nil {
			return err
		}
		if r.row.queued > 0 {
			w.hintRoom(id)
		}
		return nil
	})
}

func (w *work) eachOut(r *openRoom, ids []protocol.EnvelopeID, fn func(*work, *openRoom, []byte, *roomOutRow) error) error {
	wanted := make(map[protocol.EnvelopeID]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	return all(w.tx, store.Key(tableRoomOut, r.id[:]), func(pair store.Pair) (bool, error) {
		row, err := decodeRow[roomOutRow](pair.Value)
		if err != nil || len(row.sealed) == 0 { // nothing behind it was handed out
			return false, err
		}
		id := protocol.IDOf(row.sealed)
		if !wanted[id] {
			return true, nil
		}
		delete(wanted, id)
		return len(wanted) > 0, fn(w, r, pair.Key, &row)
	})
}

// roomMessageDone ends the wait of an own message.
func (w *work) roomMessageDone(r *openRoom, key []byte, row *roomOutRow, state State, problem string) error {
	if err := w.delete(key); err != nil {
		return err
	}
	r.row.queued = max(r.row.queued, 1) - 1
	h, ok, err := load[historyRow](w.tx, keyHistory(Conversation(r.id), row.position))
	if err != nil || !ok { // something that was done to a message
		return err
	}
	h.state, h.problem = state, problem
	if state == StateStored {
		h.via = Mailbox
		h.step(w.now, "mailbox", "")
	} else {
		h.step(w.now, state.String(), problem)
	}
	if err := w.destroySettled(Conversation(r.id), row.position, &h); err != nil {
		return err
	}
	if err := w.put(keyHistory(Conversation(r.id), row.position), &h); err != nil {
		return err
	}
	return w.event(eventRow{kind: KindState, account: Conversation(r.id), position: row.position})
}

// failRoomQueue gives up what waits for a room that this account is not in any more.
func (w *work) failRoomQueue(r *openRoom) error {
	return all(w.tx, store.Key(tableRoomOut, r.id[:]), func(pair store.Pair) (bool, error) {
		row, err := decodeRow[roomOutRow](pair.Value)
		if err != nil {
			return false, err
		}
		return true, w.roomMessageDone(r, pair.Key, &row, StateFailed, ErrNotInRoom.Error())
	})
}
