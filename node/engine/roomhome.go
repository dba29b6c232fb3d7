package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// What the rendezvous says of a room that its log does not.

// RoomFailed notes that a room could not be read because its log does not verify. Of
// the same again no event is made.
func (e *Engine) RoomFailed(tx store.Tx, now time.Time, id protocol.RoomID, cause error) (Hint, error) {
	return e.ifRoomKnown(tx, now, id, func(w *work, r *openRoom) error {
		return w.noteProblem(r, RoomBadLog, cause.Error())
	})
}

// RoomTurnedAway notes that the rendezvous does not serve a room to this account.
// Who was removed is not shown the log any more, so there is nothing that proves it: the
// room is out then, and what waited fails, until the rendezvous serves it again
// (RoomPlan.Doubt). One that was here only by name is forgotten, with its invitation.
// In a room that we are in by its log we stay; an event says what the rendezvous says.
func (e *Engine) RoomTurnedAway(tx store.Tx, now time.Time, id protocol.RoomID, refusal *protocol.Error) (Hint, error) {
	return e.ifRoomKnown(tx, now, id, func(w *work, r *openRoom) error {
		switch {
		case r.row.stage == RoomTold:
			return w.dropTold(r, whyNoEntry(refusal))
		case r.row.stage == RoomInvited:
			err := w.goOut(r, RoomWasUninvited, "")
			if err == nil && !r.row.known && r.row.position == 0 { // whoever sends invitations could fill the store
				err = w.forgetRoom(r)
			}
			return err
		case r.row.stage == RoomJoined && refusal.Code == protocol.Banned:
			return w.goOut(r, RoomWasRemoved, "")
		case r.row.stage == RoomJoined:
			return w.noteProblem(r, RoomWithheld, fmt.Sprintf("the rendezvous does not serve the room: %v", refusal))
		}
		return nil
	})
}

// dropForced ends a room that was only told of, if its log has us as a guest that never
// knocked.
func (w *work) dropForced(r *openRoom) error {
	if r.row.stage != RoomTold || r.state == nil || r.state.Seq() < r.row.toldSeq || !w.forced(r) {
		return nil
	}
	return w.dropTold(r, "somebody made this account a guest of the room")
}

// dropTold ends a room that was only told of: of one that the user does not know nothing
// is left.
func (w *work) dropTold(r *openRoom, why string) error {
	switch {
	case r.row.joining:
		return errors.Join(w.setEntries(r, nil), w.giveUpJoining(r, why))
	case r.row.position > 0, // its history came from another device, or a backup
		r.row.seq >= forgetCount: // see forgetOver
		r.row.stage = RoomOut
		return nil
	}
	return w.forgetRoom(r)
}

// whyNoEntry tells who wanted to join by a link why he does not.
func whyNoEntry(refusal *protocol.Error) string {
	switch refusal.Code {
	case protocol.UnknownRoom:
		return "there is no such room, or the link was used up or taken back"
	case protocol.InviteExpired:
		return "the time of the link is over"
	case protocol.Banned:
		return "you were removed from this room: only somebody in it can invite you again"
	}
	return refusal.Error()
}

// RoomSetBack notes that the newest message of a room's mailbox has this cursor, as
// the rendezvous says. If ours is larger it was set back, and is read again from
// there on.
func (e *Engine) RoomSetBack(tx store.Tx, now time.Time, id protocol.RoomID, cursor uint64) (Hint, error) {
	return e.ifRoomKnown(tx, now, id, func(_ *work, r *openRoom) error {
		r.row.cursor = min(r.row.cursor, cursor)
		return nil
	})
}

// ifRoomKnown is withRoom; of a room that is not known nothing is noted.
func (e *Engine) ifRoomKnown(tx store.Tx, now time.Time, id protocol.RoomID, fn func(*work, *openRoom) error) (Hint, error) {
	h, err := e.withRoom(tx, now, id, fn)
	if err == ErrNoRoom {
		return Hint{}, nil
	}
	return h, err
}

// noteProblem makes an event of what stands in the way of a room, once.
func (w *work) noteProblem(r *openRoom, cause, text string) error {
	if r.row.problem == text {
		return nil
	}
	r.row.problem = text
	return w.roomEvent(r, cause, text)
}

// doubted tells that a room is over although its log has this account in: the rendezvous
// says so, and cannot prove it. A guest knocks instead.
func (w *work) doubted(r *openRoom) bool {
	_, in := w.me(r)
	return in && r.row.stage == RoomOut && !w.e.isGuest()
}

// comeBack goes on in a room that serves again: the rendezvous had called it over, and
// its log has this account in all the same. A guest knocks instead.
func (w *work) comeBack(r *openRoom) error {
	if _, in := w.me(r); !in || w.e.isGuest() {
		return nil
	}
	return w.settleStage(r, true, nil)
}
