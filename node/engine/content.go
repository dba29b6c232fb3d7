package engine

import (
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// incoming is a content that opened, and who sent it.
type incoming struct {
	from    protocol.DeviceID
	d       *deviceRow
	p       *peerRow
	via     Path
	content *wire.Content
	first   bool // of a new session
	owed    bool // its sender has to see how far the log is that is shown here
}

func (in *incoming) id() protocol.MsgID { return protocol.MsgID(in.content.GetMsgId()) }

// turnAfter is how many contents are taken from a device before it gets a
// receipt although nothing else is sent: the answer turns the ratchet.
const turnAfter = 64

func (w *work) receiveContent(in *incoming) error {
	if in.p.relation == Blocked && in.content.GetRoomKeys() == nil && !fromMates(in.content) {
		return nil
	}
	in.d.heard = w.now.Truncate(time.Minute)
	if err := w.hear(in); err != nil {
		return err
	}
	if in.p.relation == Self && !ofRoom(in.content) {
		return w.receiveSibling(in)
	}
	switch body := in.content.GetBody().(type) {
	case *wire.Content_Text:
		if err := w.impliedAccept(in); err != nil {
			return err
		}
		if err := w.receiveText(in, body.Text); err != nil {
			return err
		}
	case *wire.Content_Action:
		if err := w.impliedAccept(in); err != nil {
			return err
		}
		if err := w.receiveAction(in, body.Action); err != nil {
			return err
		}
	case *wire.Content_ContactRequest:
		if err := w.receiveRequest(in, body.ContactRequest); err != nil {
			return err
		}
	case *wire.Content_ContactAccept:
		w.redisplay(in, body.ContactAccept.GetDisplay())
		if err := w.impliedAccept(in); err != nil {
			return err
		}
	case *wire.Content_Compare:
		if err := w.impliedAccept(in); err != nil {
			return err
		}
		if err := w.receiveCompare(in, body.Compare); err != nil {
			return err
		}
	case *wire.Content_RoomKeys:
		if err := w.receiveRoomKeys(in, body.RoomKeys); err != nil {
			return err
		}
	case *wire.Content_RoomInvite:
		if err := w.impliedAccept(in); err != nil {
			return err
		}
		if err := w.receiveInvite(in, body.RoomInvite); err != nil {
			return err
		}
	case *wire.Content_RoomHeads:
		if err := w.receiveRoomHeads(in, body.RoomHeads); err != nil {
			return err
		}
	case *wire.Content_RoomLog:
		if err := w.receiveRoomLog(in, body.RoomLog); err != nil {
			return err
		}
	case *wire.Content_Receipt:
		return w.receivedReceipt(in.from, in.d, body.Receipt)
	case *wire.Content_Repair: // the session it came on was opened with reset: see receiveFirst
	}
	return w.acknowledge(in)
}

// acknowledge queues a receipt of a content of a contact. It also tells the
// device that a new session was accepted, so that its opening stops riding
// along.
func (w *work) acknowledge(in *incoming) error {
	if !in.p.close() && !ofRoom(in.content) {
		return nil
	}
	delay := receiptLater
	if in.first || in.owed || in.via == Mailbox || in.via == PathUnknown {
		delay = receiptSoon
	}
	if in.d.run++; in.d.run >= turnAfter {
		in.d.run, delay = 0, receiptSoon
	}
	return w.receipt(in.from, in.id(), false, delay)
}

// impliedAccept makes a contact of somebody we asked: nobody answers or writes
// to an account that they have not accepted.
func (w *work) impliedAccept(in *incoming) error {
	p := in.p
	if p.relation != Requested {
		return nil
	}
	if err := w.settleRequest(p); err != nil {
		return err
	}
	return w.relate(in.d.account, p, Accepted, KindAccepted)
}

// settleRequest ends the wait for an acknowledgement of our request: this was
// it.
func (w *work) settleRequest(p *peerRow) error {
	id := p.request
	p.request = protocol.MsgID{}
	if id == (protocol.MsgID{}) {
		return nil
	}
	index, ok, err := load[indexRow](w.tx, keyMine(id))
	if err != nil || !ok {
		return err
	}
	for _, device := range p.devices {
		if _, err := w.dropAcknowledged(device.id, index.number); err != nil {
			return err
		}
	}
	return nil
}

// receiveRequest takes a contact request. Its name was checked; the rest is
// only shown.
func (w *work) receiveRequest(in *incoming, r *wire.ContactRequest) error {
	p, account := in.p, in.d.account
	if p.relation == Incoming { // what the user is looking at does not change
		return nil
	}
	if in.answeredElsewhere() {
		return nil
	}
	w.redisplay(in, r.GetDisplay())
	p.note = r.GetNote()
	if len(p.note) > protocol.MaxNote || !utf8.ValidString(p.note) {
		p.note = ""
	}
	switch p.relation {
	case Stranger:
		return w.relate(account, p, Incoming, KindRequest)
	case Requested: // both asked: that is an answer
		return w.impliedAccept(in)
	case Accepted: // they do not know, or no longer
		return w.tellAccepted(p)
	}
	return nil
}

// redisplay takes over what somebody wants to be called.
func (w *work) redisplay(in *incoming, display string) {
	if clean := cleanFrom(display); clean != in.p.display {
		in.p.display = clean
		w.change(in.d.account, in.p)
	}
}

// answeredElsewhere tells that a request is one that was declined on another
// device of ours before it came here.
func (in *incoming) answeredElsewhere() bool {
	return in.p.elsewhere && in.p.relation == Stranger && !fromMillis(int64(in.content.GetSentMs())).After(in.p.changedAt)
}

// receiveText puts a text into its place: next in the order, or held until
// what is missing before it has come, or, when that was given up, into its
// hole. A text that was received before is not shown again; it only keeps its
// place in the order of its device, which may be another than then.
func (w *work) receiveText(in *incoming, text *wire.Text) error {
	have, err := w.haveText(in.d.account, in.id())
	if err != nil {
		return err
	}
	d, seq := in.d, in.content.GetSeq()
	h := historyRow{
		id: in.id(), state: StateReceived, via: in.via, device: in.from, text: text.GetText(),
		sent: fromMillis(int64(in.content.GetSentMs())), recorded: w.now, extras: extrasOf(text),
	}
	h.mentions = nil // only in rooms
	if !have {
		if err := w.attach(&h.extras, text.GetFile(), in.d.account); err != nil {
			return err
		}
	}
	if err := w.adoptTimer(in.d.account, in.d.account, h.lasts); err != nil {
		return err
	}
	if d.next == 0 {
		d.next = seq
	}
	switch {
	case seq == d.next:
		d.next++
		if !have {
			err = w.show(in.d.account, in.p, h)
		}
		if err != nil {
			return err
		}
		return w.release(in.from, d)
	case seq > d.next:
		return w.hold(in, seq, h)
	case have:
		return nil
	}
	return w.showLate(in, seq, h)
}

// tooEarly tells that no more can be held for what is missing.
func (in *incoming) tooEarly() bool {
	ordered := in.content.GetText() != nil || in.p.relation == Self
	early := ordered && in.d.next != 0 && in.content.GetSeq() > in.d.next
	return early && in.d.held >= protocol.MaxSkip
}

// gapTime is how long what came is held back for what is missing before it.
const gapTime = 2 * time.Minute
