package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// A message of a room is opened once, in any order, as soon as its chain is here, and
// shown in the order of its author's device: what comes early is held for gapTime.

// takeItems takes messages from the room's mailbox, as many as one transaction may
// carry. One of an epoch that the log here does not have stops it: the log is read
// first. NewLog tells that some of the log came with them.
func (w *work) takeItems(r *openRoom, items []RoomItem, newLog bool) error {
	if r.row.stage != RoomJoined { // what is said there is nobody's business here
		return nil
	}
	for i, item := range items {
		if w.full(i) {
			w.hintRoom(r.id)
			return nil
		}
		v, err := w.checker(r).Stored(item.Message)
		if errors.Is(err, message.ErrFuture) && item.Cursor > 0 {
			return w.behindMailbox(r, item.Message, i > 0 || newLog)
		}
		if err == nil {
			if err := w.takeMessage(r, v, Mailbox); err != nil {
				return err
			}
		}
		r.row.cursor = max(r.row.cursor, item.Cursor)
	}
	return nil
}

// behindMailbox sees to it that the log is read as far as a message in the mailbox
// names it: again, if that led on, else its author is asked.
func (w *work) behindMailbox(r *openRoom, b []byte, again bool) error {
	if again {
		w.hintRoom(r.id)
		return nil
	}
	m, err := message.Parse(b)
	if err != nil {
		return nil
	}
	return w.askIfItDoesNotCome(r, m.Device, m.Epoch)
}

// HearRoom takes a message that came live, by the topic or from a member. It is an
// *message.Error if it is not to be passed on: the log is to be read first for
// message.ErrFuture, which Hint.Rooms tells too.
func (e *Engine) HearRoom(tx store.Tx, now time.Time, id protocol.RoomID, b []byte) (Hint, error) {
	h, err := e.withRoom(tx, now, id, func(w *work, r *openRoom) error {
		if r.row.stage != RoomJoined { // the log may tell that it is
			return message.ErrFuture
		}
		v, err := w.checker(r).Live(w.now, b)
		if err != nil {
			return err
		}
		return w.takeMessage(r, v, PathUnknown)
	})
	if errors.Is(err, message.ErrFuture) {
		h.Rooms = []protocol.RoomID{id}
	}
	return h, err
}

// takeMessage opens a message, or keeps it for its chain.
func (w *work) takeMessage(r *openRoom, v message.Verified, via Path) error {
	m := v.Message()
	if m.Device == w.e.id.Device { // it came back: the answer to it may have been lost
		if via != Mailbox {
			return nil
		}
		return w.eachOut(r, []protocol.EnvelopeID{m.ID()}, func(w *work, r *openRoom, key []byte, row *roomOutRow) error {
			return w.roomMessageDone(r, key, row, StateStored, "")
		})
	}
	if err := w.judgeView(r, m); err != nil {
		return err
	}
	if !r.state.May(w.e.id.Device, m.Epoch, room.Read) { // not for us
		return nil
	}
	if err := w.lend(r, m); err != nil {
		return err
	}
	from, err := w.receiverOf(r, m.Device)
	if err != nil {
		return err
	}
	waits, err := w.openRoomMessage(r, from, v, via)
	if err != nil || !waits {
		return err
	}
	return w.waitForChain(r, from, m)
}

// openRoomMessage opens a message and shows what it says; waits tells that its chain
// did not come yet. One that does not open is nothing.
func (w *work) openRoomMessage(r *openRoom, from *roomReceiver, v message.Verified, via Path) (waits bool, err error) {
	next, plain, err := from.chains.Open(w.now, v)
	m := v.Message()
	switch {
	case errors.Is(err, chain.ErrNoChain):
		return true, nil
	case errors.Is(err, chain.ErrReplay):
		return false, nil
	case err != nil:
		account, _, _ := r.state.AccountOf(m.Device)
		return false, w.trouble(CauseBadTag, account, "a message in a room: "+err.Error())
	}
	content := &wire.RoomContent{}
	readErr := proto.Unmarshal(plain, content)
	if content.GetAction() != nil && m.Seq > r.state.Seq() && via != Mailbox {
		from.seen = max(from.seen, m.Number) // what its author may do is not known: it is fetched again
		return false, nil
	}
	from.chains = next
	w.spent += len(next.Marshal())
	if readErr != nil || len(content.GetMsgId()) != len(protocol.MsgID{}) || len(content.GetVoid()) > maxRoomVoid {
		return false, nil
	}
	first := m.Number // under which it was sealed at first: its place
	for _, number := range content.GetVoid() {
		if number < m.Number {
			first = min(first, number)
			from.chains = from.chains.GiveUp(w.now, chain.Gap{First: number, Last: number})
		}
	}
	if a := content.GetAction(); a != nil {
		if err := w.receiveRoomAction(r, m, a); err != nil {
			return false, err
		}
		return false, w.showRoomHeld(r, m.Device, from)
	}
	text := content.GetText()
	if text == nil || len(text.GetText()) > protocol.MaxText || !utf8.ValidString(text.GetText()) ||
		!r.state.May(m.Device, m.Epoch, rightsFor(text.GetText(), text.GetFile() != nil)) {
		return false, w.showRoomHeld(r, m.Device, from)
	}
	h := historyRow{
		id: protocol.MsgID(content.GetMsgId()), state: StateReceived, via: via, device: m.Device, text: text.GetText(),
		sent: fromMillis(int64(content.GetSentMs())), recorded: w.now, extras: extrasOf(text),
	}
	account, _, _ := r.state.AccountOf(m.Device)
	if account == w.e.id.Account {
		h.mine, h.state = true, StateStored
	}
	h.number = m.Number
	if err := w.attach(&h.extras, text.GetFile(), account); err != nil {
		return false, err
	}
	if roomPowers(r.state, account, m.Device, m.Epoch, m.Seq).manage {
		if err := w.adoptTimer(Conversation(r.id), account, h.lasts); err != nil {
			return false, err
		}
	}
	return false, w.order(r, from, first, h)
}

// receiveRoomAction takes what a member did, if he might when he did it.
func (w *work) receiveRoomAction(r *openRoom, m message.Message, a *wire.Action) error {
	by, _, _ := r.state.AccountOf(m.Device)
	act, ok := readAction(a, false)
	if !ok {
		return w.trouble(CauseMalformed, by, "a reaction or change in a room that cannot be read")
	}
	return w.apply(Conversation(r.id), by, act, roomPowers(r.state, by, m.Device, m.Epoch, m.Seq))
}

// waitForChain keeps a message until its chain comes. Of too many it is only
// remembered that they are.
func (w *work) waitForChain(r *openRoom, from *roomReceiver, m message.Message) error {
	from.seen = max(from.seen, m.Number)
	key := keyRoomFrom(tableRoomWait, r.id, m.Device, m.Number)
	have, err := get(w.tx, key)
	if err != nil || have != nil || from.waiting >= maxRoomWaiting {
		return err
	}
	from.waiting++
	return w.put(key, &heldRow{recorded: w.now, content: m.Bytes()})
}

// openWaiting opens what waited for a chain of a device.
func (w *work) openWaiting(r *openRoom, device protocol.DeviceID, from *roomReceiver) error {
	if from.waiting == 0 {
		return nil
	}
	rows := 0
	return all(w.tx, store.Key(tableRoomWait, r.id[:], device[:]), func(pair store.Pair) (bool, error) {
		if w.full(rows) {
			return false, w.at(w.now, timerRoomOpen, slices.Concat(r.id[:], device[:]))
		}
		row, err := decodeRow[heldRow](pair.Value)
		if err != nil {
			return false, err
		}
		waits := false
		if w.now.Sub(row.recorded) < protocol.MailboxTTL {
			if v, err := w.checker(r).Stored(row.content); err == nil {
				if waits, err = w.openRoomMessage(r, from, v, PathUnknown); err != nil {
					return false, err
				}
			}
		}
		if waits {
			return true, nil
		}
		rows++
		from.waiting--
		return true, w.delete(pair.Key)
	})
}

// order puts a message into its place: shown, or held until what is missing before it
// has come.
func (w *work) order(r *openRoom, from *roomReceiver, first uint64, h historyRow) error {
	gap, waits := w.firstGap(from)
	if from.held == 0 && (!waits || h.number < gap.First) || from.held >= maxRoomHeld {
		if err := w.showInRoom(r, from, first, h); err != nil {
			return err
		}
		return w.showRoomHeld(r, h.device, from)
	}
	key := keyRoomFrom(tableRoomHeld, r.id, h.device, first)
	held, err := get(w.tx, key)
	if err != nil {
		return err
	}
	if held == nil { // else it is the same, sealed twice
		from.held++
		if err := w.put(key, &h); err != nil {
			return err
		}
	}
	return w.showRoomHeld(r, h.device, from)
}

// firstGap is the first gap that is still waited for.
func (w *work) firstGap(from *roomReceiver) (gap chain.Gap, waits bool) {
	for _, g := range from.chains.Gaps() {
		if waited := w.now.Sub(g.Since); waited < gapTime {
			return g, true
		}
	}
	return gap, false
}

// showRoomHeld shows what is held and comes before the first gap that is waited for.
func (w *work) showRoomHeld(r *openRoom, device protocol.DeviceID, from *roomReceiver) error {
	if from.held == 0 {
		return nil
	}
	rows := 0
	gap, waits := w.firstGap(from)
	id := slices.Concat(r.id[:], device[:])
	return all(w.tx, store.Key(tableRoomHeld, id), func(pair store.Pair) (bool, error) {
		h, err := decodeRow[historyRow](pair.Value)
		if err != nil {
			return false, err
		}
		if waits && h.number > gap.First {
			return false, w.at(gap.Since.Add(gapTime), timerRoomShow, id)
		}
		if w.full(rows) {
			return false, w.at(w.now, timerRoomShow, id)
		}
		rows++
		from.held--
		if err := w.delete(pair.Key); err != nil {
			return false, err
		}
		return true, w.showInRoom(r, from, keyNumber(pair.Key), h)
	})
}

// showInRoom appends a message to the conversation, unless it is there: its author
// may have sealed it twice.
func (w *work) showInRoom(r *openRoom, from *roomReceiver, first uint64, h historyRow) error {
	key := keyIndex(h.id, h.device)
	if h.mine {
		key = keyMine(h.id)
	}
	index, have, err := load[indexRow](w.tx, key)
	if err != nil || have && (h.mine || index.account == Conversation(r.id)) {
		return err
	}
	if err := w.applyEarly(&h); err != nil { // it may have been read on another device of ours
		return err
	}
	h.late, h.number = first < from.shown, 0
	from.shown = max(from.shown, first)
	r.row.position++
	if !h.mine && !h.seen {
		r.row.unread++
	}
	return w.place(Conversation(r.id), r.row.position, h)
}

// fireRoom does what a timer of a room was set for.
func (w *work) fireRoom(kind timer, id []byte) error {
	switch kind {
	case timerRoomGive:
		return w.goOnGiving(id)
	case timerRoomRead:
		return w.readRoomOn(id)
	}
	r, err := w.roomOfTimer(id, 64)
	if r == nil || err != nil || r.state == nil {
		return err
	}
	device := protocol.DeviceID(id[32:])
	from, err := w.receiverOf(r, device)
	if err != nil {
		return err
	}
	if kind == timerRoomOpen {
		return w.openWaiting(r, device, from)
	}
	return w.showRoomHeld(r, device, from)
}

// roomOfTimer returns the room whose timer has this row: the room's id, and more, in all
// size bytes. nil if the room is gone.
func (w *work) roomOfTimer(id []byte, size int) (*openRoom, error) {
	if len(id) != size {
		return nil, fmt.Errorf("timer row: %w", store.ErrDamaged)
	}
	r, err := w.room(protocol.RoomID(id[:32]))
	if err == ErrNoRoom {
		return nil, nil
	}
	return r, err
}

// ofRoom tells whether a content is about a room: such go between siblings as they
// go between members.
func ofRoom(c *wire.Content) bool {
	return c.GetRoomKeys() != nil || c.GetRoomHeads() != nil || c.GetRoomLog() != nil
}

// fromMates tells whether a member of a room of ours may send a content who is no
// contact; for keys see mayGiveKeys.
func fromMates(c *wire.Content) bool {
	return c.GetReceipt() != nil || c.GetRepair() != nil || c.GetRoomHeads() != nil || c.GetRoomLog() != nil
}
