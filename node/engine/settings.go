package engine

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Settings is what is set for a conversation.
type Settings struct {
	Timer time.Duration // how long new messages last; 0: for ever
	Quiet time.Time     // no notifications before this; zero: they are on
}

// settingsRow is Settings, and since when they are.
type settingsRow struct {
	timer   time.Duration
	timerBy protocol.AccountID
	timerAt time.Time // at_ms of the action
	quiet   time.Time
	quietAt time.Time
}

func (r *settingsRow) encode() []byte {
	e := newRow(80)
	e.u64(uint64(r.timer / time.Millisecond))
	e.raw(r.timerBy[:])
	e.time(r.timerAt)
	e.time(r.quiet)
	e.time(r.quietAt)
	return e.b
}

func (r *settingsRow) decode(b []byte) error {
	d := readRow(b)
	r.timer = lastsOf(d.u64())
	d.fixed(r.timerBy[:])
	r.timerAt, r.quiet, r.quietAt = d.time(), d.time(), d.time()
	return d.end("settings")
}

func keySettings(a protocol.AccountID) []byte { return store.Key(tableSetting, a[:]) }

func settings(tx store.Tx, a protocol.AccountID) (settingsRow, error) {
	r, _, err := load[settingsRow](tx, keySettings(a))
	return r, err
}

// Settings returns what is set for the conversation with a contact, or of a room.
func (e *Engine) Settings(tx store.Tx, with protocol.AccountID) (Settings, error) {
	r, err := settings(tx, with)
	return Settings{Timer: r.timer, Quiet: r.quiet}, err
}

// SetTimer sets how long new messages of a conversation last, for all who are in it;
// 0: for ever. The refusals are those of React; ErrBadTimer.
func (e *Engine) SetTimer(tx store.Tx, now time.Time, with protocol.AccountID, lasts time.Duration) (Hint, error) {
	if lasts < 0 || lasts > MaxLasts || lasts > 0 && lasts < time.Second {
		return Hint{}, ErrBadTimer
	}
	return e.do(tx, now, func(w *work) error {
		r, err := settings(tx, with)
		if err != nil || r.timer == lasts && !r.timerAt.IsZero() {
			return err
		}
		return w.act(with, &action{kind: actTimer, at: w.later(r.timerAt), lasts: lasts})
	})
}

// Quiet puts off notifications of a conversation until a time, on all devices of the
// account; the zero time brings them back.
func (e *Engine) Quiet(tx store.Tx, now time.Time, with protocol.AccountID, until time.Time) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		if err := w.knownConversation(with); err != nil {
			return err
		}
		r, err := settings(tx, with)
		if err != nil {
			return err
		}
		act := &action{kind: actQuiet, at: w.later(r.quietAt), until: fromMillis(millis(until))}
		if err := w.applyQuiet(with, act); err != nil {
			return err
		}
		return w.tellSiblings(with, act)
	})
}

// knownConversation is ErrNotContact if there is neither a contact nor a room.
func (w *work) knownConversation(a protocol.AccountID) error {
	_, err := w.peer(a)
	if err == ErrNotFound {
		_, err = w.room(protocol.RoomID(a))
	}
	if err == ErrNoRoom {
		return ErrNotContact
	}
	return err
}

// applyTimer takes a timer, unless a newer one is known.
func (w *work) applyTimer(a, by protocol.AccountID, act *action) error {
	r, err := settings(w.tx, a)
	if err != nil {
		return err
	}
	if !timerMark(act.at, by, act.lasts).newer(timerMark(r.timerAt, r.timerBy, r.timer)) {
		return nil
	}
	r.timer, r.timerBy, r.timerAt = act.lasts, by, act.at
	if err := w.put(keySettings(a), &r); err != nil {
		return err
	}
	return w.event(eventRow{kind: KindChanged, account: a, cause: CauseTimer, by: by, text: act.lasts.String()})
}

// adoptTimer takes a timer from a text of somebody who may set one, where none was ever
// set as far as is known here: who came into a room later, or lost his settings, was
// not told.
func (w *work) adoptTimer(a, by protocol.AccountID, lasts time.Duration) error {
	if lasts == 0 {
		return nil
	}
	r, err := settings(w.tx, a)
	if err != nil || !r.timerAt.IsZero() || r.timer != 0 {
		return err
	}
	r.timer = lasts
	if err := w.put(keySettings(a), &r); err != nil {
		return err
	}
	return w.event(eventRow{kind: KindChanged, account: a, cause: CauseTimer, by: by, text: lasts.String()})
}

// timerMark is a timer as it is compared with others.
func timerMark(at time.Time, by protocol.AccountID, lasts time.Duration) markRow {
	return markRow{at, by, string(binary.BigEndian.AppendUint64(nil, uint64(lasts/time.Millisecond)))}
}

func (w *work) applyQuiet(a protocol.AccountID, act *action) error {
	r, err := settings(w.tx, a)
	if err != nil || !act.at.After(r.quietAt) {
		return err
	}
	r.quiet, r.quietAt = act.until, act.at
	if err := w.put(keySettings(a), &r); err != nil {
		return err
	}
	return w.event(eventRow{kind: KindChanged, account: a, cause: CauseQuiet, by: w.e.id.Account})
}

// tellSettings queues what is set for a conversation for another device of the account.
func (w *work) tellSettings(device protocol.DeviceID, a protocol.AccountID) error {
	r, err := settings(w.tx, a)
	if err != nil {
		return err
	}
	if !r.timerAt.IsZero() {
		if err := w.tellAction(device, a, &action{kind: actTimer, at: r.timerAt, lasts: r.timer}); err != nil {
			return err
		}
	}
	if !r.quietAt.IsZero() {
		return w.tellAction(device, a, &action{kind: actQuiet, at: r.quietAt, until: r.quiet})
	}
	return nil
}

// tellSiblings queues what was done in a conversation for the other devices of the
// account.
func (w *work) tellSiblings(a protocol.AccountID, act *action) error {
	list, err := w.siblings()
	if err != nil {
		return err
	}
	for _, device := range list {
		if err := w.tellAction(device, a, act); err != nil {
			return err
		}
	}
	return nil
}

// tellAction queues an action for another device of the account. One that was not heard
// of for long misses it, as it misses texts.
func (w *work) tellAction(device protocol.DeviceID, a protocol.AccountID, act *action) error {
	d, err := w.device(device)
	if err != nil || d.waiting >= maxQueued {
		return err
	}
	content := &wire.Content{Body: &wire.Content_OwnAction{OwnAction: &wire.OwnAction{With: slices.Clone(a[:]), Action: act.wire()}}}
	_, err = w.postOther(device, d, wire.MailKind_MESSAGE, content)
	return err
}

// wantsQuiet tells whether the user wants no notification of a message that came at
// a time: not in this conversation, and it does not mention the account.
func (e *Engine) wantsQuiet(tx store.Tx, a protocol.AccountID, at time.Time, m *Message) (bool, error) {
	r, err := settings(tx, a)
	return at.Before(r.quiet) && !slices.Contains(m.Mentions, e.id.Account), err
}
