package engine

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Refusals of what the user wants to do to a message or a conversation.
var (
	ErrBadEmoji  = errors.New("that is not one emoji")
	ErrNotAuthor = errors.New("only who wrote a message may do that")
	ErrTooLate   = errors.New("a message may be changed for 24 hours after it was written")
	ErrDeleted   = errors.New("the message is deleted")
	ErrMayNot    = errors.New("you have not the right to do that in this room")
	ErrBadTimer  = errors.New("messages last at least a second and at most 365 days")
)

// React sets the user's reaction to a message, in place of another; the empty emoji
// takes it back. Doing it again changes nothing.
//
// Refusals of this and the methods below: ErrNotFound, ErrDeleted, those of
// Compose or ComposeRoom, ErrMayNot in a room, ErrBadEmoji.
func (e *Engine) React(tx store.Tx, now time.Time, id protocol.MsgID, emoji string) (Hint, error) {
	if emoji != "" && !oneEmoji(emoji) {
		return Hint{}, ErrBadEmoji
	}
	return e.actingOn(tx, now, id, func(w *work, t *shownMessage) error {
		old, ok, err := load[markRow](tx, keyMark(t.with, markReaction, t.position, e.id.Account))
		if err != nil || ok && old.text == emoji || !ok && emoji == "" {
			return err
		}
		return w.act(t.with, &action{kind: actReact, to: t.ref, at: w.later(old.at), text: emoji})
	})
}

// Edit gives an own message another text: ErrNotAuthor, ErrTooLate, ErrTooLong,
// ErrBadText.
func (e *Engine) Edit(tx store.Tx, now time.Time, id protocol.MsgID, text string, mentions []protocol.AccountID) (Hint, error) {
	if err := checkText(text); err != nil {
		return Hint{}, err
	}
	return e.actingOn(tx, now, id, func(w *work, t *shownMessage) error {
		act := &action{kind: actEdit, to: t.ref, at: w.later(t.row.edited), text: text, mentions: mentions}
		if err := t.changeable(act.at); err != nil || t.row.text == text {
			return err
		}
		return w.act(t.with, act)
	})
}

// Delete deletes a message for everyone: an own one, or in a room any, if the user may
// kick. ErrNotAuthor, ErrTooLate.
func (e *Engine) Delete(tx store.Tx, now time.Time, id protocol.MsgID) (Hint, error) {
	return e.actingOn(tx, now, id, func(w *work, t *shownMessage) error {
		act := &action{kind: actDelete, to: t.ref, at: w.now}
		may, err := w.ownPowers(t.with)
		if err != nil {
			return err
		}
		if err := t.changeable(act.at); err != nil && !may.moderate {
			return err
		}
		return w.act(t.with, act)
	})
}

// Hide deletes a message on the devices of this account only.
func (e *Engine) Hide(tx store.Tx, now time.Time, id protocol.MsgID) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		t, err := w.toActOn(id)
		if err != nil {
			return err
		}
		act := &action{kind: actHide, to: t.ref, at: w.now}
		if err := w.apply(t.with, e.id.Account, act, powers{}); err != nil {
			return err
		}
		return w.tellSiblings(t.with, act)
	})
}

// Pin pins a message for everyone, or does so no more.
func (e *Engine) Pin(tx store.Tx, now time.Time, id protocol.MsgID, on bool) (Hint, error) {
	return e.actingOn(tx, now, id, func(w *work, t *shownMessage) error {
		old, _, err := load[markRow](tx, keyMark(t.with, markPin, t.position, protocol.AccountID{}))
		if err != nil || t.row.pinned == on {
			return err
		}
		return w.act(t.with, &action{kind: actPin, to: t.ref, at: w.later(old.at), on: on})
	})
}

// Referred returns a message of a conversation by its name; ErrNotFound if it is not there.
func (e *Engine) Referred(tx store.Tx, now time.Time, with protocol.AccountID, to Ref) (m Message, err error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return m, err
	}
	position, h, err := w.target(with, to)
	if err != nil {
		return m, err
	}
	if h == nil || h.hidden {
		return m, ErrNotFound
	}
	if err := h.readText(tx, with, position); err != nil {
		return m, err
	}
	return h.message(tx, with, position)
}

// do is one call: what fn does, and what follows from it.
func (e *Engine) do(tx store.Tx, now time.Time, fn func(*work) error) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	if err := fn(w); err != nil {
		return Hint{}, err
	}
	return w.end()
}

// actingOn is do on a message that is not deleted.
func (e *Engine) actingOn(tx store.Tx, now time.Time, id protocol.MsgID, fn func(*work, *shownMessage) error) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		t, err := w.toActOn(id)
		if err != nil {
			return err
		}
		if t.row.deleted {
			return ErrDeleted
		}
		return fn(w, t)
	})
}

// shownMessage is a message that the user does something to.
type shownMessage struct {
	with     protocol.AccountID
	position uint64
	row      historyRow
	ref      Ref
}

func (w *work) toActOn(id protocol.MsgID) (*shownMessage, error) {
	h, index, err := w.e.find(w.tx, id)
	if err != nil {
		return nil, err
	}
	author, err := w.authorOf(index.account, &h)
	if err != nil {
		return nil, err
	}
	return &shownMessage{index.account, index.position, h, Ref{author, id}}, nil
}

// changeable tells whether the user wrote a message, and so lately that he may change it.
func (t *shownMessage) changeable(at time.Time) error {
	switch {
	case !t.row.mine:
		return ErrNotAuthor
	case at.Sub(t.row.sent) > changeFor:
		return ErrTooLate
	}
	return nil
}

// later is now, but behind what is replaced, whatever the clock says.
func (w *work) later(than time.Time) time.Time {
	if next := than.Add(time.Millisecond); !than.IsZero() && next.After(w.now) {
		return next
	}
	return w.now
}

// act does something in a conversation, and queues it for all who are in it.
func (w *work) act(a protocol.AccountID, act *action) error {
	r, err := w.room(protocol.RoomID(a))
	if err == ErrNoRoom {
		return w.actWith(a, act)
	}
	if err != nil {
		return err
	}
	return w.actInRoom(r, act)
}

func (w *work) actWith(a protocol.AccountID, act *action) error {
	_, devices, err := w.writable(a)
	if err != nil {
		return err
	}
	for _, device := range devices {
		d, err := w.device(device)
		if err != nil {
			return err
		}
		if d.waiting >= maxQueued {
			return ErrQueueFull
		}
		content := &wire.Content{Body: &wire.Content_Action{Action: act.wire()}}
		if _, err := w.postOther(device, d, wire.MailKind_MESSAGE, content); err != nil {
			return err
		}
	}
	if err := w.apply(a, w.e.id.Account, act, contactPowers); err != nil {
		return err
	}
	return w.tellSiblings(a, act)
}

func (w *work) actInRoom(r *openRoom, act *action) error {
	if err := w.mayPost(r, room.Rights(0)); err != nil {
		return err
	}
	may, err := w.ownPowers(Conversation(r.id))
	if err != nil {
		return err
	}
	if !w.allowed(w.e.id.Account, act, may) {
		return ErrMayNot
	}
	id := protocol.NewMsgID()
	content, err := proto.Marshal(&wire.RoomContent{
		MsgId: id[:], SentMs: uint64(millis(w.now)), Body: &wire.RoomContent_Action{Action: act.wire()},
	})
	if err != nil {
		return fmt.Errorf("encode action: %w", err)
	}
	if err := w.queueForRoom(r, roomOutRow{content: content}); err != nil {
		return err
	}
	return w.apply(Conversation(r.id), w.e.id.Account, act, may)
}

// ownPowers is what the user may do in a conversation.
func (w *work) ownPowers(a protocol.AccountID) (powers, error) {
	r, err := w.room(protocol.RoomID(a))
	if err == ErrNoRoom {
		return contactPowers, nil
	}
	if err != nil || r.state == nil {
		return powers{}, err
	}
	return roomPowers(r.state, w.e.id.Account, w.e.id.Device, r.state.Epoch(), r.state.Seq()), nil
}

// takeOwnAction takes what another device of the account did.
func (w *work) takeOwnAction(from protocol.DeviceID, o *wire.OwnAction) error {
	a, err := protocol.FromBytes[protocol.AccountID](o.GetWith())
	act, ok := readAction(o.GetAction(), true)
	if err != nil || !ok || a == w.e.id.Account {
		return w.trouble(CauseMalformed, w.e.id.Account, "what your device "+short(from)+" did cannot be read")
	}
	return w.apply(a, w.e.id.Account, act, contactPowers)
}

// receiveAction takes what a contact did.
func (w *work) receiveAction(in *incoming, a *wire.Action) error {
	act, ok := readAction(a, false)
	if !ok {
		return w.trouble(CauseMalformed, in.d.account, "a reaction or change that cannot be read")
	}
	return w.apply(in.d.account, in.d.account, act, contactPowers)
}
