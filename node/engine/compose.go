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
// devices without a session, a content that waits for a look-up. Repeating it with the same id and text changes nothing;
// with another text or recipient it is ErrConflict. The empty text is a text.
//
// Refusals: ErrNotContact, ErrNotAccepted, ErrBlocked, ErrNoDevice, ErrTooLong,
// ErrBadText, ErrQueueFull, ErrStaleDirectory, ErrRecovered, ErrRevoked.
func (e *Engine) Compose(tx store.Tx, now time.Time, to protocol.AccountID, id protocol.MsgID, text string) (Hint, error) {
	if err := checkText(text); err != nil {
		return Hint{}, err
	}
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	if done, err := w.composed(to, id, text); done || err != nil {
		return Hint{}, err
	}
	p, err := w.peer(to)
	if err == ErrNotFound {
		return Hint{}, ErrNotContact
	}
	if err != nil {
		return Hint{}, err
	}
	devices := p.valid(now)
	if err := p.mayWrite(now, devices); err != nil {
		return Hint{}, err
	}
	if err := w.compose(to, p, devices, id, text); err != nil {
		return Hint{}, err
	}
	return w.end()
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
func (w *work) composed(to protocol.AccountID, id protocol.MsgID, text string) (bool, error) {
	index, ok, err := load[indexRow](w.tx, keyMine(id))
	if !ok || err != nil {
		return false, err
	}
	h, ok, err := loadHistory(w.tx, index.account, index.position)
	if err != nil {
		return false, err
	}
	if !ok || index.account != to || h.text != text {
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

func (w *work) compose(to protocol.AccountID, p *peerRow, devices []protocol.DeviceID, id protocol.MsgID, text string) error {
	w.count().items++
	p.position++
	p.queued++
	h := historyRow{
		id: id, mine: true, state: StateQueued, device: w.e.id.Device, number: w.count().items, copies: uint8(len(devices)),
		sent: w.now, recorded: w.now, text: text, steps: []Step{{w.now, "queued", ""}},
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
	if r.copy {
		c.Body = &wire.Content_Sent{Sent: &wire.Sent{To: r.account[:], Text: h.text}}
	} else {
		c.Body = &wire.Content_Text{Text: &wire.Text{Text: h.text}}
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
