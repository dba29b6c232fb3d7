package engine

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// The other devices of our account, the siblings, are the devices of a peer like
// any other, whose relation is Self. What they are told is numbered 1, 2, 3 ...
// per device, and taken in that order: a contact before what was written to it,
// a text before its states. Bare acknowledgements and history have no number.

// siblings are the other devices of the account.
func (w *work) siblings() ([]protocol.DeviceID, error) {
	p, err := w.peer(w.e.id.Account)
	if err == ErrNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return p.valid(w.now), nil
}

// postCopies queues a text for the siblings. One that has not been heard of for
// so long that as many wait for it as may for a contact misses the text.
func (w *work) postCopies(item itemRow, h *historyRow) error {
	list, err := w.siblings()
	if err != nil {
		return err
	}
	item.id, item.number, item.copy = h.id, h.number, true
	for _, device := range list {
		d, err := w.device(device)
		if err != nil {
			return err
		}
		if d.waiting >= maxQueued {
			continue
		}
		d.sentSeq++
		item.seq = d.sentSeq
		if _, err := w.post(device, d, item, item.textContent(h)); err != nil {
			return err
		}
	}
	return nil
}

// tell queues a numbered content for a sibling.
func (w *work) tell(device protocol.DeviceID, content *wire.Content) (protocol.MsgID, error) {
	d, err := w.device(device)
	if err != nil {
		return protocol.MsgID{}, err
	}
	d.sentSeq++
	content.Seq = d.sentSeq
	return w.postOther(device, d, wire.MailKind_MESSAGE, content)
}

// fromSibling tells whether siblings send each other such contents.
func fromSibling(c *wire.Content) bool {
	switch c.GetBody().(type) {
	case *wire.Content_Sent, *wire.Content_ContactState:
		return c.GetSeq() > 0
	case *wire.Content_Past, *wire.Content_AccountKey, *wire.Content_Receipt, *wire.Content_Repair,
		*wire.Content_RoomKeys, *wire.Content_OwnAction, *wire.Content_RoomState, *wire.Content_RoomHeads, *wire.Content_RoomLog, nil:
		return true
	}
	return false
}

// onlySiblings tells whether nobody else may send such contents.
func onlySiblings(c *wire.Content) bool {
	switch c.GetBody().(type) {
	case *wire.Content_Sent, *wire.Content_ContactState, *wire.Content_Past, *wire.Content_AccountKey, *wire.Content_OwnAction,
		*wire.Content_RoomState:
		return true
	}
	return false
}

// receiveSibling takes a content of a sibling: what is numbered in its order.
func (w *work) receiveSibling(in *incoming) error {
	seq := in.content.GetSeq()
	if r := in.content.GetReceipt(); r != nil && seq == 0 {
		return w.receivedReceipt(in.from, in.d, r)
	}
	var err error
	switch {
	case seq > in.d.next:
		err = w.holdContent(in)
	case seq > 0 && seq == in.d.next:
		in.d.next++
		if err = w.take(in.from, in.content, false); err == nil {
			err = w.release(in.from, in.d)
		}
	default: // without a number, late, or once more
		err = w.take(in.from, in.content, seq > 0)
	}
	if err != nil {
		return err
	}
	return w.acknowledge(in)
}

// take does what a content of a sibling says. All of it may be done twice. What
// comes late was passed over in the order.
func (w *work) take(from protocol.DeviceID, c *wire.Content, late bool) error {
	var err error
	switch body := c.GetBody().(type) {
	case *wire.Content_Sent:
		err = w.receiveSent(from, c, body.Sent, late)
	case *wire.Content_ContactState:
		err = w.takeContact(body.ContactState)
	case *wire.Content_Receipt:
		err = w.passedStates(body.Receipt)
	case *wire.Content_OwnAction:
		err = w.takeOwnAction(from, body.OwnAction)
	case *wire.Content_Past:
		err = w.takePast(body.Past)
	case *wire.Content_RoomState:
		err = w.takeRoomState(body.RoomState)
	case *wire.Content_AccountKey:
		if forget := body.AccountKey.GetForget(); len(forget) > 0 {
			err = w.forgetRecoveryKey(forget)
		} else {
			err = w.takeAccountKey(body.AccountKey.GetSeed())
		}
	}
	if code := alarmCode(err); code != "" {
		return w.notice(code, w.e.id.Account, fmt.Sprintf("what your device %s told was refused: %v", short(from), err))
	}
	return err
}

// receiveLast takes from a revoked device of the account nothing but the account
// key in force: the device may have replaced it, mailed it and left, all before
// this device looked. Plain is nil if the message does not open.
func (w *work) receiveLast(o Opened, d *deviceRow, plain []byte) (protocol.Code, error) {
	content, _ := parseContent(plain)
	seed := content.GetAccountKey().GetSeed()
	k, err := key.ParseAccount(seed)
	if err != nil || d.account != w.e.id.Account {
		return protocol.NotContact, nil
	}
	c, err := w.e.OwnChain(w.tx)
	if err != nil {
		return protocol.Internal, err
	}
	if k.Public() != c.Signer() {
		return protocol.NotContact, nil
	}
	return protocol.OK, errors.Join(w.setSeen(o.id), w.takeAccountKey(seed))
}

// awaitsKeyOf tells whether the account key in force is not here, and the device
// is a revoked one of the account, which may have sent it.
func (e *Engine) awaitsKeyOf(tx store.Tx, device protocol.DeviceID) (bool, error) {
	d, _, err := load[deviceRow](tx, keyDevice(device))
	if err != nil || !d.revoked || d.account != e.id.Account {
		return false, err
	}
	_, _, err = e.signingKey(tx)
	if errors.Is(err, ErrNoAccountKey) {
		return true, nil
	}
	return false, err
}

// heldRow is a numbered content of a sibling that came early.
type heldRow struct {
	recorded time.Time
	content  []byte
}

func (r *heldRow) encode() []byte {
	e := newRow(16 + len(r.content))
	e.time(r.recorded)
	e.bytes(r.content)
	return e.b
}

func (r *heldRow) decode(b []byte) error {
	d := readRow(b)
	r.recorded, r.content = d.time(), d.bytes()
	return d.end("held")
}

func (w *work) holdContent(in *incoming) error {
	key := keyItem(tableHeld, in.from, in.content.GetSeq())
	held, err := get(w.tx, key)
	if err != nil || held != nil {
		return err
	}
	b, err := proto.Marshal(in.content)
	if err != nil {
		return fmt.Errorf("encode content: %w", err)
	}
	in.d.held++
	if err := w.put(key, &heldRow{w.now, b}); err != nil {
		return err
	}
	return w.at(w.now.Add(gapTime), timerGap, in.from[:])
}

// releaseContents takes what is held and next in the order, as far as one
// transaction may carry it.
func (w *work) releaseContents(device protocol.DeviceID, d *deviceRow) error {
	rows := 0
	return all(w.tx, store.Key(tableHeld, device[:]), func(pair store.Pair) (bool, error) {
		if keyNumber(pair.Key) > d.next {
			return false, nil
		}
		if w.full(rows) {
			return false, w.at(w.now, timerGap, device[:])
		}
		rows++
		r, err := decodeRow[heldRow](pair.Value)
		if err != nil {
			return false, err
		}
		c, ok := parseContent(r.content)
		if !ok {
			return false, fmt.Errorf("held row: %w", store.ErrDamaged)
		}
		d.held--
		d.next = max(d.next, keyNumber(pair.Key)+1)
		if err := w.delete(pair.Key); err != nil {
			return false, err
		}
		return true, w.take(device, c, false)
	})
}

// receiveSent takes a text that a sibling wrote into its conversation.
func (w *work) receiveSent(from protocol.DeviceID, c *wire.Content, s *wire.Sent, late bool) error {
	to, err := protocol.FromBytes[protocol.AccountID](s.GetTo())
	if err != nil || to == w.e.id.Account || len(s.GetText()) > protocol.MaxText || !utf8.ValidString(s.GetText()) {
		return w.trouble(CauseMalformed, w.e.id.Account, "a text of your device "+short(from)+" cannot be read")
	}
	id := protocol.MsgID(c.GetMsgId())
	if known, err := w.haveOwn(id); known || err != nil {
		return err
	}
	p, err := w.conversation(to)
	if err != nil {
		return err
	}
	h := historyRow{
		id: id, mine: true, late: late, state: StateQueued, device: from, text: s.GetText(),
		sent: fromMillis(int64(c.GetSentMs())), recorded: w.now,
		steps:  []Step{{w.now, "queued", "written on your device " + short(from)}},
		extras: extras{lasts: lastsOf(s.GetLastsMs()), deleted: s.GetGone(), gone: s.GetGone()},
	}
	h.reply, _ = refOf(s.GetReplyTo())
	if err := w.attach(&h.extras, s.GetFile(), w.e.id.Account); err != nil {
		return err
	}
	if err := w.applyEarly(&h); err != nil {
		return err
	}
	p.position++
	return w.place(to, p.position, h)
}

// basePosition is where a conversation begins on a device whose siblings may
// have older messages of it: those fit below.
const basePosition = 1 << 32

// conversation returns the row of an account, and makes one if a sibling has a
// conversation with an account that is not known here yet: the contact itself
// is told, or looked up, soon.
func (w *work) conversation(a protocol.AccountID) (*peerRow, error) {
	p, err := w.peer(a)
	if err != ErrNotFound {
		return p, err
	}
	w.hint.Refresh = addOnce(w.hint.Refresh, a)
	return w.newContact(a), nil
}

// haveOwn tells whether a message of ours is in a conversation, whichever of our
// devices wrote it: one that became a new device may send it again.
func (w *work) haveOwn(id protocol.MsgID) (bool, error) {
	b, err := get(w.tx, keyMine(id))
	return b != nil, err
}

// eachNamed calls fn for everything that has an id, as long as it wants more:
// messages, with their row, and contents that are none. Authors choose ids, so
// there may be several.
func (w *work) eachNamed(id protocol.MsgID, fn func(indexRow, *historyRow) (bool, error)) error {
	return all(w.tx, store.Key(tableIndex, id[:]), func(pair store.Pair) (bool, error) {
		index, err := decodeRow[indexRow](pair.Value)
		if err != nil {
			return false, err
		}
		if index.position == 0 {
			return fn(index, nil)
		}
		h, ok, err := load[historyRow](w.tx, keyHistory(index.account, index.position))
		if err != nil || !ok {
			return err == nil, err
		}
		return fn(index, &h)
	})
}
