package engine

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Compose writes a text to a contact: a row of the conversation and one sealed
// envelope per valid device of the contact and per other device of ours, or, for
// devices without a session, a content that waits for a look-up. Repeating it with the
// same id and text changes nothing; with another text or recipient it is ErrConflict. The
// empty text is a text.
//
// Refusals: ErrNotContact, ErrNotAccepted, ErrBlocked, ErrNoDevice, ErrTooLong,
// ErrBadText, ErrQueueFull, ErrStaleDirectory, ErrRecovered, ErrRevoked.
func (e *Engine) Compose(tx store.Tx, now time.Time, to protocol.AccountID, id protocol.MsgID, text string) (Hint, error) {
	return e.ComposeDraft(tx, now, to, id, Draft{Text: text})
}

// Draft is a message that is to be written.
type Draft struct {
	Text     string
	ReplyTo  protocol.MsgID       // of the same conversation; zero: it answers none
	Mentions []protocol.AccountID // in a room; at most MaxMentions count
	File     *FileDraft           // nil: none; else Text may be empty
}

// ComposeDraft writes a message to a contact as Compose does, or to the Conversation of a
// room as ComposeRoom does. It lasts as long as is set for the conversation.
// ErrNotFound if what it answers is not there. With a file ErrBadFile and, in a room,
// ErrRoomFiles; a message with the same id and text and a file of the same name and size
// is the same.
func (e *Engine) ComposeDraft(tx store.Tx, now time.Time, with protocol.AccountID, id protocol.MsgID, draft Draft) (Hint, error) {
	return e.do(tx, now, func(w *work) error { return w.composeDraft(with, id, draft) })
}

// MayWrite tells whether a text, or a file with one, could be written to a contact or to
// the Conversation of a room now: the refusals are those of ComposeDraft.
func (e *Engine) MayWrite(tx store.Tx, now time.Time, with protocol.AccountID, text string, carries bool) error {
	w, err := e.begin(tx, now)
	if err != nil {
		return err
	}
	r, err := w.room(protocol.RoomID(with))
	if err == nil {
		return w.mayPost(r, rightsFor(text, carries))
	}
	if err != ErrNoRoom {
		return err
	}
	_, _, err = w.writable(with)
	return err
}

func (w *work) composeDraft(with protocol.AccountID, id protocol.MsgID, draft Draft) error {
	if err := checkText(draft.Text); err != nil {
		return err
	}
	if err := draft.File.check(); err != nil {
		return err
	}
	if done, err := w.composed(with, id, draft); done || err != nil {
		return err
	}
	x, err := w.extrasFor(with, draft)
	if err != nil {
		return err
	}
	r, err := w.room(protocol.RoomID(with))
	if err == ErrNoRoom {
		err = w.composeTo(with, id, draft.Text, x)
	} else if err == nil {
		x.mentions = mentionsOf(accountBytes(draft.Mentions))
		err = w.composeInRoom(r, id, draft.Text, x)
	}
	if err != nil {
		return err
	}
	return w.sendFile(id, draft.File)
}

func (w *work) extrasFor(a protocol.AccountID, draft Draft) (x extras, err error) {
	r, err := settings(w.tx, a)
	if err != nil {
		return x, err
	}
	x.lasts = r.timer
	if draft.File != nil {
		x.carries, x.file = true, &draft.File.Descriptor
	}
	if draft.ReplyTo == (protocol.MsgID{}) {
		return x, nil
	}
	err = w.eachNamed(draft.ReplyTo, func(index indexRow, h *historyRow) (bool, error) {
		if h == nil || index.account != a || h.hidden {
			return true, nil
		}
		author, err := w.authorOf(a, h)
		x.reply = Ref{author, draft.ReplyTo}
		return false, err
	})
	if err == nil && x.reply.IsZero() {
		err = ErrNotFound
	}
	return x, err
}

func (w *work) composeTo(to protocol.AccountID, id protocol.MsgID, text string, x extras) error {
	p, devices, err := w.writable(to)
	if err != nil {
		return err
	}
	return w.compose(to, p, devices, id, text, x)
}

// writable returns a contact that may be written to, and its devices; ErrNotContact and
// the other refusals of Compose.
func (w *work) writable(a protocol.AccountID) (*peerRow, []protocol.DeviceID, error) {
	p, err := w.peer(a)
	if err == ErrNotFound {
		return nil, nil, ErrNotContact
	}
	if err != nil {
		return nil, nil, err
	}
	devices := p.valid(w.now)
	return p, devices, p.mayWrite(w.now, devices)
}

func checkText(text string) error {
	if len(text) > protocol.MaxText {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(text), protocol.MaxText)
	}
	if !utf8.ValidString(text) {
		return ErrBadText
	}
	return nil
}

// composed tells whether exactly this was composed before.
func (w *work) composed(to protocol.AccountID, id protocol.MsgID, draft Draft) (bool, error) {
	index, ok, err := load[indexRow](w.tx, keyMine(id))
	if !ok || err != nil {
		return false, err
	}
	h, ok, err := loadHistory(w.tx, index.account, index.position)
	if err != nil {
		return false, err
	}
	changed := h.gone || !h.edited.IsZero() // the text is not there to compare
	same := h.text == draft.Text && draft.File.sameAs(h.file)
	if !ok || index.account != to || !same && !changed {
		return false, ErrConflict
	}
	return true, nil
}

// valid are the devices to write to.
func (p *peerRow) valid(now time.Time) []protocol.DeviceID {
	ids := make([]protocol.DeviceID, 0, len(p.devices))
	for _, d := range p.devices {
		if !now.After(d.notAfter) {
			ids = append(ids, d.id)
		}
	}
	return ids
}

func (p *peerRow) mayWrite(now time.Time, devices []protocol.DeviceID) error {
	switch p.relation {
	case Accepted:
	case Requested:
		return ErrNotAccepted
	case Blocked:
		return ErrBlocked
	case Self:
		return ErrSelf
	default:
		return ErrNotContact
	}
	if now.Sub(p.checked) > staleAfter {
		return fmt.Errorf("%w: last on %s", ErrStaleDirectory, p.checked.Format(time.DateOnly))
	}
	if p.held() {
		return ErrRecovered
	}
	if len(devices) == 0 {
		return ErrNoDevice
	}
	if p.queued >= maxQueued {
		return ErrQueueFull
	}
	return nil
}

func (w *work) compose(to protocol.AccountID, p *peerRow, devices []protocol.DeviceID, id protocol.MsgID, text string, x extras) error {
	w.count().items++
	p.position++
	p.queued++
	h := historyRow{
		id: id, mine: true, state: StateQueued, device: w.e.id.Device, number: w.count().items, copies: uint8(len(devices)),
		sent: w.now, recorded: w.now, text: text, steps: []Step{{w.now, "queued", ""}}, extras: x,
	}
	if err := w.beginTime(to, p.position, &h); err != nil {
		return err
	}
	if err := w.postText(devices, itemRow{account: to, position: p.position, since: w.now}, &h); err != nil {
		return err
	}
	if err := w.postCopies(itemRow{account: to, position: p.position, since: w.now}, &h); err != nil {
		return err
	}
	if err := w.record(to, p.position, &h); err != nil {
		return err
	}
	if err := w.putIndex(to, p.position, &h); err != nil {
		return err
	}
	if err := w.addFile(to, p.position, &h, true); err != nil {
		return err
	}
	return w.event(eventRow{kind: KindMessage, account: to, position: p.position})
}

// postText queues a text for devices of a contact.
func (w *work) postText(devices []protocol.DeviceID, item itemRow, h *historyRow) error {
	item.id, item.number = h.id, h.number
	for _, device := range devices {
		d, err := w.device(device)
		if err != nil {
			return err
		}
		d.sentSeq++
		item.seq = d.sentSeq
		sealed, err := w.post(device, d, item, item.textContent(h))
		if err != nil {
			return err
		}
		if !sealed {
			h.step(w.now, "waiting", "no session with device "+short(device)+" yet")
		}
	}
	return nil
}

// textContent is the content of a message for the device of r.
func (r *itemRow) textContent(h *historyRow) *wire.Content {
	c := &wire.Content{MsgId: h.id[:], SentMs: uint64(millis(h.sent)), Seq: r.seq}
	text := h.wireText()
	if r.copy {
		c.Body = &wire.Content_Sent{Sent: &wire.Sent{To: r.account[:], Text: text.Text, ReplyTo: text.ReplyTo, LastsMs: text.LastsMs, Gone: text.Gone, File: text.File}}
	} else {
		c.Body = &wire.Content_Text{Text: text}
	}
	return c
}

// step adds a step, and drops the oldest but one when there are too many.
func (h *historyRow) step(now time.Time, what, detail string) {
	if len(h.steps) >= maxSteps {
		h.steps = append(h.steps[:1], h.steps[2:]...)
	}
	h.steps = append(h.steps, Step{now, what, detail})
}

// short is enough of an id for people.
func short(d protocol.DeviceID) string { return d.String()[:8] }
