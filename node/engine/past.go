package engine

import (
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// takePast puts older messages, the newest first, below the oldest of their
// conversation. Those that are there already change nothing. Nobody is told of
// any: they were seen, and acknowledged, elsewhere.
func (w *work) takePast(p *wire.Past) error {
	if len(p.GetWith()) == 0 {
		return w.notice(NoticePast, w.e.id.Account, "your earlier messages have come from another device of yours")
	}
	with, err := protocol.FromBytes[protocol.AccountID](p.GetWith())
	if err != nil || with == w.e.id.Account || len(p.GetMessages()) > MaxPast {
		return w.trouble(CauseMalformed, w.e.id.Account, "history that cannot be read")
	}
	place, err := w.pastOf(with, p.GetRoom())
	if errors.Is(err, ErrManyRooms) {
		return w.trouble(CauseMalformed, w.e.id.Account, tooManyRooms)
	}
	if err != nil {
		return err
	}
	below, err := w.oldest(with, place)
	if err != nil {
		return err
	}
	for _, m := range p.GetMessages() {
		h, ok := readPast(m)
		if !ok || below <= 1 {
			continue
		}
		have, err := w.havePast(&h)
		if err != nil {
			return err
		}
		if have {
			continue
		}
		if err := w.attach(&h.extras, m.GetFile(), w.e.id.Account); err != nil {
			return err
		}
		below--
		if err := w.takeMarks(with, below, &h, m.GetActions()); err != nil {
			return err
		}
		if err := w.placePast(with, below, &h); err != nil {
			return err
		}
	}
	return nil
}

// conversationEnd is how far a conversation goes: fields of a peerRow or a roomRow.
type conversationEnd struct{ position, readTo, readWant *uint64 }

// pastOf returns the end of a conversation, which is begun if it is not known here.
func (w *work) pastOf(with protocol.AccountID, isRoom bool) (conversationEnd, error) {
	if !isRoom {
		p, err := w.conversation(with)
		if err != nil {
			return conversationEnd{}, err
		}
		return conversationEnd{&p.position, &p.readTo, &p.readWant}, nil
	}
	r, err := w.roomOrNew(protocol.RoomID(with))
	if err != nil {
		return conversationEnd{}, err
	}
	return conversationEnd{&r.row.position, &r.row.readTo, new(uint64)}, nil
}

// oldest is the position that older messages of a conversation go below. One
// without messages begins high enough for them.
func (w *work) oldest(with protocol.AccountID, end conversationEnd) (position uint64, err error) {
	err = all(w.tx, store.Key(tableHistory, with[:]), func(pair store.Pair) (bool, error) {
		position = keyNumber(pair.Key)
		return false, nil
	})
	if err != nil || position > 0 {
		return position, err
	}
	if *end.position < basePosition {
		*end.position, *end.readTo, *end.readWant = basePosition, basePosition, basePosition
	}
	return *end.position + 1, nil
}

// readPast reads an older message; not ok if it is none.
func readPast(m *wire.PastMessage) (h historyRow, ok bool) {
	id, err := protocol.FromBytes[protocol.MsgID](m.GetMsgId())
	device, err2 := protocol.FromBytes[protocol.DeviceID](m.GetDevice())
	if err != nil || err2 != nil || len(m.GetText()) > protocol.MaxText || !utf8.ValidString(m.GetText()) || m.GetState() >= uint32(len(states)) {
		return h, false
	}
	h = historyRow{
		id: id, device: device, mine: m.GetMine(), state: states[m.GetState()], text: m.GetText(), seen: !m.GetMine(),
		sent: fromMillis(int64(m.GetSentMs())), recorded: fromMillis(int64(m.GetRecordedMs())), extras: readPastExtras(m),
	}
	if h.mine {
		return h, order[h.state] > 0 || h.state == StateFailed
	}
	return h, h.state == StateReceived
}

// past is a message as another device of the account, or a backup, gets it.
func (w *work) past(h *historyRow, a protocol.AccountID, position uint64) (*wire.PastMessage, error) {
	device := h.device
	if h.mine && device == (protocol.DeviceID{}) {
		device = w.e.id.Device
	}
	m := &wire.PastMessage{
		MsgId: slices.Clone(h.id[:]), Device: slices.Clone(device[:]), Mine: h.mine, Text: h.text,
		SentMs: uint64(millis(h.sent)), RecordedMs: uint64(millis(h.recorded)), State: uint32(indexOf(states, h.state)),
		ReplyTo: h.reply.wire(), Mentions: accountBytes(h.mentions), EditedMs: uint64(millis(h.edited)), Deleted: h.deleted,
		LastsMs: uint64(h.lasts / time.Millisecond), ExpiresMs: uint64(millis(h.expires)), File: h.wireFile(),
	}
	if !h.marked {
		return m, nil
	}
	for _, kind := range []mark{markPin, markReaction} {
		err := all(w.tx, store.Key(tableMark, a[:], []byte{byte(kind)}, position), func(pair store.Pair) (bool, error) {
			r, err := decodeRow[markRow](pair.Value)
			m.Actions = append(m.Actions, r.past(kind))
			return len(m.Actions) < maxPastMarks && proto.Size(m) < maxPastBytes, err
		})
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (r *markRow) past(kind mark) *wire.PastAction {
	act := &action{kind: actReact, at: r.at, text: r.text}
	if kind == markPin {
		act = &action{kind: actPin, at: r.at, on: r.text != ""}
	}
	return &wire.PastAction{By: slices.Clone(r.by[:]), Action: act.wire()}
}

// readPastExtras reads what an older message has besides its text.
func readPastExtras(m *wire.PastMessage) extras {
	x := extras{
		mentions: mentionsOf(m.GetMentions()), edited: fromMillis(int64(min(m.GetEditedMs(), maxMillis))), deleted: m.GetDeleted(), gone: m.GetDeleted(),
		lasts: lastsOf(m.GetLastsMs()), expires: fromMillis(int64(min(m.GetExpiresMs(), maxMillis))),
	}
	x.reply, _ = refOf(m.GetReplyTo())
	return x
}

// Bounds of the marks that go with an older message, so that they fit into one content
// with the longest text and a file.
const (
	maxPastMarks = 128
	maxPastBytes = 84 << 10 // of the message
)

// takeMarks takes the reactions to an older message, and its pin. The caller writes the
// row.
func (w *work) takeMarks(a protocol.AccountID, position uint64, h *historyRow, list []*wire.PastAction) error {
	for _, p := range list[:min(len(list), maxPastMarks)] {
		by, err := protocol.FromBytes[protocol.AccountID](p.GetBy())
		r := markRow{at: fromMillis(int64(min(p.GetAction().GetAtMs(), maxMillis))), by: by}
		kind := markReaction
		switch what := p.GetAction().GetWhat().(type) {
		case *wire.Action_React:
			r.text = what.React
		case *wire.Action_Pin:
			kind, r.text = markPin, pinText(what.Pin)
			h.pinned = what.Pin
		default:
			continue
		}
		if err != nil || kind == markReaction && r.text != "" && !oneEmoji(r.text) {
			continue
		}
		if _, err := w.setMark(a, kind, position, r); err != nil {
			return err
		}
		h.marked = true
	}
	return nil
}

// havePast tells whether a message is there, from whichever device of its
// author.
func (w *work) havePast(h *historyRow) (bool, error) {
	if h.mine {
		return w.haveOwn(h.id)
	}
	b, err := get(w.tx, keyIndex(h.id, h.device))
	return b != nil, err
}

func (w *work) placePast(with protocol.AccountID, position uint64, h *historyRow) error {
	if h.mine {
		if err := w.applyEarly(h); err != nil {
			return err
		}
	}
	if !h.expires.IsZero() {
		if err := w.vanishAt(with, position, h); err != nil {
			return err
		}
	}
	if err := w.record(with, position, h); err != nil {
		return err
	}
	if err := w.putIndex(with, position, h); err != nil {
		return err
	}
	if err := w.addFile(with, position, h, false); err != nil {
		return err
	}
	return w.applyActions(with, position, h)
}
