package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// historyRow is one row of a conversation. The device is the author's.
type historyRow struct {
	id             protocol.MsgID
	mine, late     bool
	apart          bool // the text and what describes the file are in a row of their own
	seen           bool // read on another device of ours
	state          State
	via            Path
	device         protocol.DeviceID
	number         uint64 // of the contents in the queues, only of what was written here; while held in a room, that of the room message
	copies         uint8  // contents still in a queue
	sent, recorded time.Time
	problem        string
	steps          []Step
	text           string
	extras
}

var (
	states = []State{"", StateQueued, StateStored, StateDelivered, StateRead, StateFailed, StateReceived, StateHole}
	words  = []string{"", "queued", "waiting", "lookup", "direct", "hole-punched", "relayed", "mailbox", "delivered", "read", "failed", "repaired"}
)

// maxSteps bounds the steps kept of one message; the first and the newest stay.
const maxSteps = 24

func (h *historyRow) encode() []byte {
	text := h.text
	if h.apart {
		text = ""
	}
	e := newRow(128 + len(text) + 24*len(h.steps))
	e.raw(h.id[:])
	e.bool(h.mine, h.late, h.apart, h.seen, !h.extras.isZero())
	e.u8(indexOf(states, h.state))
	e.u8(uint8(h.via))
	e.raw(h.device[:])
	e.u64(h.number)
	e.u8(h.copies)
	e.time(h.sent)
	e.time(h.recorded)
	e.string(h.problem)
	e.u8(uint8(len(h.steps)))
	for _, s := range h.steps {
		e.time(s.Time)
		e.u8(indexOf(words, s.What))
		e.string(s.Detail)
	}
	e.string(text)
	if !h.extras.isZero() {
		h.extras.encode(e)
	}
	if h.carries && !h.apart {
		e.describe(h.file)
	}
	return e.b
}

func (h *historyRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(h.id[:])
	more := false
	d.bool(&h.mine, &h.late, &h.apart, &h.seen, &more)
	h.state = at(d, states)
	h.via = Path(d.u8())
	d.fixed(h.device[:])
	h.number = d.u64()
	h.copies = d.u8()
	h.sent, h.recorded = d.time(), d.time()
	h.problem = d.string()
	if n := d.count(10); n > 0 {
		h.steps = make([]Step, n)
	}
	for i := range h.steps {
		h.steps[i] = Step{Time: d.time(), What: at(d, words), Detail: d.string()}
	}
	h.text = d.string()
	if more {
		h.extras.decode(d)
	}
	if h.carries && !h.apart {
		h.file = d.described()
	}
	return d.end("history")
}

// itemRow is one content for one device, in one of three queues: waiting (for
// a session), out (sealed, to be sent) or kept (in the mailbox, until it is
// acknowledged). Content is what was sealed; of messages it is empty: they
// are read from the history.
type itemRow struct {
	account  protocol.AccountID // of the conversation, else of the device
	id       protocol.MsgID
	number   uint64 // order among all contents; the key in waiting and kept
	seq      uint64 // Content.seq
	position uint64 // in the history; 0: not part of it
	kind     wire.MailKind
	receipt  bool // only receipts: nobody waits for an acknowledgement
	copy     bool // for another device of ours: does not count for the state of the message

	accountKey bool // content names an account key, which is put in when it is sealed
	roomKeys   bool // content names keys of a room, which are put in when it is sealed
	urgent     bool // a step of comparing emoji, or evidence: it goes out also while all else is held

	since    time.Time
	stored   time.Time           // when the mailbox took it
	envelope protocol.EnvelopeID // in out and kept
	content  []byte
	sealed   []byte // the envelope; in out only
}

func (r *itemRow) encode() []byte {
	e := newRow(160 + len(r.content) + len(r.sealed))
	e.raw(r.account[:])
	e.raw(r.id[:])
	e.u64(r.number)
	e.u64(r.seq)
	e.u64(r.position)
	e.u8(uint8(r.kind))
	e.bool(r.receipt, r.copy, r.accountKey, r.urgent, r.roomKeys)
	e.time(r.since)
	e.time(r.stored)
	e.raw(r.envelope[:])
	e.bytes(r.content)
	e.bytes(r.sealed)
	return e.b
}

func (r *itemRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.account[:])
	d.fixed(r.id[:])
	r.number, r.seq, r.position = d.u64(), d.u64(), d.u64()
	r.kind = wire.MailKind(d.u8())
	d.bool(&r.receipt, &r.copy, &r.accountKey, &r.urgent, &r.roomKeys)
	r.since, r.stored = d.time(), d.time()
	d.fixed(r.envelope[:])
	r.content, r.sealed = d.bytes(), d.bytes()
	return d.end("queue")
}

// eventRow is one event; the message it is about is read when it is.
type eventRow struct {
	time     time.Time
	kind     Kind
	account  protocol.AccountID // or the Conversation of a room
	position uint64
	cause    string
	text     string
	by       protocol.AccountID // who did it; only of KindChanged
}

var kinds = []Kind{"", KindMessage, KindState, KindRequest, KindAccepted, KindContact, KindUndecryptable, KindNotice, KindRoom, KindChanged}

func (r *eventRow) encode() []byte {
	e := newRow(64 + len(r.cause) + len(r.text))
	e.time(r.time)
	e.u8(indexOf(kinds, r.kind))
	e.raw(r.account[:])
	e.u64(r.position)
	e.string(r.cause)
	e.string(r.text)
	if r.kind == KindChanged {
		e.raw(r.by[:])
	}
	return e.b
}

func (r *eventRow) decode(b []byte) error {
	d := readRow(b)
	r.time = d.time()
	r.kind = at(d, kinds)
	d.fixed(r.account[:])
	r.position = d.u64()
	r.cause, r.text = d.string(), d.string()
	if r.kind == KindChanged {
		d.fixed(r.by[:])
	}
	return d.end("event")
}

// indexRow finds a message by its id, or an own content that is no message
// (position 0).
type indexRow struct {
	account  protocol.AccountID
	position uint64
	number   uint64 // of the contents in the queues; 0: not written here
}

func (r *indexRow) encode() []byte {
	e := newRow(48)
	e.raw(r.account[:])
	e.u64(r.position)
	e.u64(r.number)
	return e.b
}

func (r *indexRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.account[:])
	r.position, r.number = d.u64(), d.u64()
	return d.end("index")
}

// receiptRow collects what is to be acknowledged to one device.
type receiptRow struct {
	due             time.Time
	delivered, read []protocol.MsgID
}

func (r *receiptRow) encode() []byte {
	e := newRow(10 + 16*(len(r.delivered)+len(r.read)))
	e.time(r.due)
	for _, list := range [][]protocol.MsgID{r.delivered, r.read} {
		e.u8(uint8(len(list)))
		for _, id := range list {
			e.raw(id[:])
		}
	}
	return e.b
}

func (r *receiptRow) decode(b []byte) error {
	d := readRow(b)
	r.due = d.time()
	for _, list := range []*[]protocol.MsgID{&r.delivered, &r.read} {
		*list = make([]protocol.MsgID, d.count(16))
		for i := range *list {
			d.fixed((*list)[i][:])
		}
	}
	return d.end("receipt")
}

// reasonRow says why what is queued for a device waits.
type reasonRow struct {
	since  time.Time
	reason string
}

func (r *reasonRow) encode() []byte {
	e := newRow(9 + len(r.reason))
	e.time(r.since)
	e.string(r.reason)
	return e.b
}

func (r *reasonRow) decode(b []byte) error {
	d := readRow(b)
	r.since, r.reason = d.time(), d.string()
	return d.end("reason")
}

// countsRow is shared by everything: there is one writer.
type countsRow struct {
	events   uint64 // number of the newest event
	items    uint64 // number of the newest content or envelope
	queued   uint64 // rows in out
	waiting  uint64 // rows in waiting
	listed   uint32 // accounts on the allow list
	incoming uint32 // unanswered requests
	visitors uint32 // accounts that are neither contacts nor asked to be

	troubles   uint32 // undecryptable events since
	troubledAt time.Time

	renewBefore time.Time // sessions made before are replaced at the next send
}

func (r *countsRow) encode() []byte {
	e := newRow(68)
	e.u64(r.events)
	e.u64(r.items)
	e.u64(r.queued)
	e.u64(r.waiting)
	e.u32(r.listed)
	e.u32(r.incoming)
	e.u32(r.visitors)
	e.u32(r.troubles)
	e.time(r.troubledAt)
	e.time(r.renewBefore)
	return e.b
}

func (r *countsRow) decode(b []byte) error {
	d := readRow(b)
	r.events, r.items, r.queued, r.waiting = d.u64(), d.u64(), d.u64(), d.u64()
	r.listed, r.incoming, r.visitors, r.troubles = d.u32(), d.u32(), d.u32(), d.u32()
	r.troubledAt = d.time()
	r.renewBefore = d.time()
	return d.end("counter")
}
