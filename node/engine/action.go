package engine

import (
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
)

// actKind is what an action does.
type actKind uint8

const (
	actReact actKind = iota + 1
	actEdit
	actDelete
	actPin
	actTimer
	actHide
	actQuiet
	actFile
)

// action is a wire.Action that is well-formed.
type action struct {
	kind     actKind
	to       Ref // zero for a timer and quiet
	at       time.Time
	text     string               // the emoji, or the new text
	mentions []protocol.AccountID // of the new text
	on       bool                 // pinned
	lasts    time.Duration        // timer
	until    time.Time            // quiet
	answer   FileAnswer           // to a file
}

// readAction reads an action; not ok if it is not well-formed. Own tells that a
// device of the account sends it for the account's devices.
func readAction(a *wire.Action, own bool) (act *action, ok bool) {
	act = &action{at: fromMillis(int64(min(a.GetAtMs(), maxMillis)))}
	switch what := a.GetWhat().(type) {
	case *wire.Action_React:
		act.kind, act.text = actReact, what.React
		ok = act.text == "" || oneEmoji(act.text)
	case *wire.Action_Edit:
		act.kind, act.text, act.mentions = actEdit, what.Edit.GetText(), mentionsOf(what.Edit.GetMentions())
		ok = len(act.text) <= protocol.MaxText && utf8.ValidString(act.text)
	case *wire.Action_Delete:
		act.kind, ok = actDelete, true
	case *wire.Action_Pin:
		act.kind, act.on, ok = actPin, what.Pin, true
	case *wire.Action_TimerMs:
		act.kind, act.lasts = actTimer, lastsOf(what.TimerMs)
		return act, !act.at.IsZero()
	case *wire.Action_QuietMs:
		act.kind, act.until = actQuiet, fromMillis(int64(min(what.QuietMs, maxMillis)))
		return act, own && !act.at.IsZero()
	case *wire.Action_Hide:
		act.kind, ok = actHide, own
	case *wire.Action_File:
		act.kind = actFile
		act.answer, ok = fileDid[what.File.GetDid()]
	}
	if !ok || act.at.IsZero() {
		return nil, false
	}
	act.to, ok = refOf(a.GetTo())
	return act, ok
}

func (act *action) wire() *wire.Action {
	a := &wire.Action{To: act.to.wire(), AtMs: uint64(millis(act.at))}
	switch act.kind {
	case actReact:
		a.What = &wire.Action_React{React: act.text}
	case actEdit:
		a.What = &wire.Action_Edit{Edit: &wire.Edited{Text: act.text, Mentions: accountBytes(act.mentions)}}
	case actDelete:
		a.What = &wire.Action_Delete{Delete: &wire.Deleted{}}
	case actPin:
		a.What = &wire.Action_Pin{Pin: act.on}
	case actTimer:
		a.What = &wire.Action_TimerMs{TimerMs: uint64(act.lasts / time.Millisecond)}
	case actHide:
		a.What = &wire.Action_Hide{Hide: true}
	case actQuiet:
		a.What = &wire.Action_QuietMs{QuietMs: uint64(millis(act.until))}
	case actFile:
		did := wire.FileDid_DONE
		if act.answer == FileRefused {
			did = wire.FileDid_DECLINED
		}
		a.What = &wire.Action_File{File: &wire.FileDid{Did: did}}
	}
	return a
}

// fileDid is what accounts tell that they did with a file.
var fileDid = map[wire.FileDid_Did]FileAnswer{wire.FileDid_DONE: FileTaken, wire.FileDid_DECLINED: FileRefused}

// powers is what who acts may do, where it is not the same for everybody.
type powers struct {
	react, edit bool
	moderate    bool // delete what others wrote
	manage      bool // pin, and set the timer
	answer      bool // tell what one did with a file
}

// contactPowers are those of each of two contacts.
var contactPowers = powers{react: true, edit: true, manage: true, answer: true}

// roomPowers is what an account might do in a room with a device in an epoch, while the
// entry with the number seq was the newest of the log.
func roomPowers(s *room.State, a protocol.AccountID, device protocol.DeviceID, epoch, seq uint64) powers {
	rights := s.RightsAt(a, seq)
	return powers{
		react: s.May(device, epoch, room.React), edit: s.May(device, epoch, room.Send),
		moderate: rights.Has(room.Kick), manage: rights.Has(room.Rename),
	}
}

// Times of actions.
const (
	changeFor = 24 * time.Hour      // how long after it was written a message may be changed by its author
	tooLate   = 32 * 24 * time.Hour // who has had a message for so long takes no change of it
	tooFar    = 24 * time.Hour      // ahead of our clock
)

// apply does what somebody did in a conversation: to a message that is here, or, when
// it comes, to one that is not.
func (w *work) apply(a, by protocol.AccountID, act *action, may powers) error {
	if !w.allowed(by, act, may) {
		return nil
	}
	switch act.kind {
	case actTimer:
		return w.applyTimer(a, by, act)
	case actQuiet:
		return w.applyQuiet(a, act)
	}
	position, h, err := w.target(a, act.to)
	if err != nil {
		return err
	}
	if h == nil {
		return w.keepAction(a, by, act, may)
	}
	return w.changeMessage(a, position, h, by, act, may)
}

// allowed tells whether somebody might do this at all. Whether the author of a message
// did it in time is only known when the message is here.
func (w *work) allowed(by protocol.AccountID, act *action, may powers) bool {
	switch act.kind {
	case actReact:
		return may.react
	case actEdit:
		return may.edit && by == act.to.Author
	case actDelete:
		return may.moderate || by == act.to.Author
	case actFile:
		return may.answer && by != act.to.Author
	case actPin, actTimer:
		return may.manage && !act.at.After(w.now.Add(tooFar))
	}
	return true
}

// target finds a message of a conversation; nil if it is not there. The text is not
// read.
func (w *work) target(a protocol.AccountID, to Ref) (position uint64, found *historyRow, err error) {
	err = w.eachNamed(to.ID, func(index indexRow, h *historyRow) (bool, error) {
		if h == nil || index.account != a {
			return true, nil
		}
		author, err := w.authorOf(a, h)
		if err == nil && author == to.Author {
			position, found = index.position, h
		}
		return found == nil, err
	})
	return position, found, err
}

// authorOf is the account that wrote a message.
func (w *work) authorOf(a protocol.AccountID, h *historyRow) (protocol.AccountID, error) {
	if h.mine {
		return w.e.id.Account, nil
	}
	r, err := w.room(protocol.RoomID(a))
	if err == ErrNoRoom {
		return a, nil
	}
	if err != nil || r.state == nil {
		return protocol.AccountID{}, err
	}
	author, _, _ := r.state.AccountOf(h.device)
	return author, nil
}

// changeMessage does to a message what somebody did to it, who might.
func (w *work) changeMessage(a protocol.AccountID, position uint64, h *historyRow, by protocol.AccountID, act *action, may powers) error {
	if h.hidden || h.deleted && act.kind != actHide {
		return nil
	}
	inTime := act.at.Sub(h.sent) <= changeFor && w.now.Sub(h.recorded) <= tooLate
	switch act.kind {
	case actReact:
		return w.applyMark(a, position, h, markReaction, markRow{act.at, by, act.text})
	case actPin:
		return w.applyMark(a, position, h, markPin, markRow{act.at, by, pinText(act.on)})
	case actEdit:
		if !inTime {
			return nil
		}
		return w.applyEdit(a, position, h, by, act)
	case actDelete:
		if !may.moderate && !inTime {
			return nil
		}
		h.deleted = true
		if err := w.destroyText(a, position, h); err != nil {
			return err
		}
		return w.putChanged(a, position, h, by, CauseDeleted)
	case actFile:
		return w.applyAnswer(a, position, h, by, act)
	}
	return w.hide(a, position, h)
}

// putChanged writes a row that somebody changed, and says so.
func (w *work) putChanged(a protocol.AccountID, position uint64, h *historyRow, by protocol.AccountID, cause string) error {
	if err := w.put(keyHistory(a, position), h); err != nil {
		return err
	}
	return w.event(eventRow{kind: KindChanged, account: a, position: position, cause: cause, by: by})
}

func (w *work) applyMark(a protocol.AccountID, position uint64, h *historyRow, kind mark, r markRow) error {
	set, err := w.setMark(a, kind, position, r)
	if err != nil || !set {
		return err
	}
	h.marked = true
	if kind == markReaction {
		return w.putChanged(a, position, h, r.by, CauseReaction)
	}
	cause := CauseUnpinned
	if h.pinned = r.text != ""; h.pinned {
		cause = CausePinned
	}
	return w.putChanged(a, position, h, r.by, cause)
}

func (w *work) applyEdit(a protocol.AccountID, position uint64, h *historyRow, by protocol.AccountID, act *action) error {
	if err := h.readText(w.tx, a, position); err != nil {
		return err
	}
	if !h.edited.IsZero() && !(markRow{at: act.at, text: act.text}).newer(markRow{at: h.edited, text: h.text}) {
		return nil
	}
	if err := w.dropLongText(a, position, h); err != nil {
		return err
	}
	h.text, h.mentions, h.edited = act.text, act.mentions, act.at
	if err := w.record(a, position, h); err != nil {
		return err
	}
	return w.putChanged(a, position, h, by, CauseEdited)
}

func (w *work) dropLongText(a protocol.AccountID, position uint64, h *historyRow) error {
	if !h.apart {
		return nil
	}
	h.apart = false
	return w.delete(keyText(a, position))
}

// destroyText destroys what a message said, and all that was done to it. The caller
// writes the row.
func (w *work) destroyText(a protocol.AccountID, position uint64, h *historyRow) error {
	if err := w.dropLongText(a, position, h); err != nil {
		return err
	}
	if h.marked {
		if err := w.dropMarks(a, position); err != nil {
			return err
		}
	}
	if h.carries {
		if err := w.dropFile(a, position); err != nil {
			return err
		}
	}
	h.text, h.gone = "", true
	h.extras = extras{lasts: h.lasts, expires: h.expires, deleted: h.deleted, hidden: h.hidden, gone: true}
	return nil
}
