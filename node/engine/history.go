package engine

import (
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// message is what the user sees of a row that was read with its text.
func (h *historyRow) message(tx store.Tx, with protocol.AccountID, position uint64) (m Message, err error) {
	m = Message{
		ID: h.id, With: with, Device: h.device, Position: position, Mine: h.mine, Text: h.text, Sent: h.sent, Recorded: h.recorded,
		State: h.state, Via: h.via, Problem: h.problem, Late: h.late,
		ReplyTo: h.reply, Mentions: h.mentions, Edited: h.edited, Deleted: h.deleted, Pinned: h.pinned, Lasts: h.lasts, Expires: h.expires,
	}
	if m.File, err = h.fileOf(tx, FileRef{with, position}); err != nil {
		return m, err
	}
	if h.marked {
		m.Reactions, err = reactions(tx, with, position)
	}
	return m, err
}

// inlineText is the longest text, in bytes, that is kept in the row of its
// message. A longer one has a row of its own, which is written once: the state
// of many messages may change in one transaction. What describes a file is always there.
const inlineText = 1 << 10

// record writes a new row of a conversation, with its text.
func (w *work) record(a protocol.AccountID, position uint64, h *historyRow) error {
	if h.apart = h.carries || len(h.text) > inlineText; h.apart {
		e := newRow(len(h.text) + 4)
		e.string(h.text)
		if h.carries {
			e.describe(h.file)
		}
		if err := w.set(keyText(a, position), e.b); err != nil {
			return err
		}
	}
	return w.put(keyHistory(a, position), h)
}

// readText completes a row that was read without its text.
func (h *historyRow) readText(tx store.Tx, a protocol.AccountID, position uint64) error {
	if !h.apart {
		return nil
	}
	b, err := tx.Get(keyText(a, position))
	if err != nil {
		return fmt.Errorf("text of a message: %w", err)
	}
	d := readRow(b)
	h.text = d.string()
	if h.carries {
		h.file = d.described()
	}
	return d.end("text")
}

// loadHistory reads a row of a conversation with its text.
func loadHistory(tx store.Tx, a protocol.AccountID, position uint64) (h historyRow, ok bool, err error) {
	if h, ok, err = load[historyRow](tx, keyHistory(a, position)); err == nil && ok {
		err = h.readText(tx, a, position)
	}
	return h, ok, err
}

// History returns the newest messages before a position (0: the end), oldest
// first, at most limit (0: 100, and never more than 1000).
func (e *Engine) History(tx store.Tx, with protocol.AccountID, before uint64, limit int) ([]Message, error) {
	limit = pageSize(limit)
	end := store.PrefixEnd(store.Key(tableHistory, with[:]))
	if before > 0 {
		end = keyHistory(with, before)
	}
	var list []Message
	for pair, err := range tx.ScanDown(keyHistory(with, 0), end) {
		if err != nil {
			return nil, err
		}
		m, shown, err := messageIn(tx, with, pair)
		if err != nil {
			return nil, err
		}
		if !shown {
			continue
		}
		if list = append(list, m); len(list) == limit {
			break
		}
	}
	slices.Reverse(list)
	return list, nil
}

// historyIn reads a row of the history, with its text.
func historyIn(tx store.Tx, with protocol.AccountID, pair store.Pair) (historyRow, error) {
	h, err := decodeRow[historyRow](pair.Value)
	if err == nil {
		err = h.readText(tx, with, keyNumber(pair.Key))
	}
	return h, err
}

// messageIn reads a message of the history; not shown if it is hidden.
func messageIn(tx store.Tx, with protocol.AccountID, pair store.Pair) (m Message, shown bool, err error) {
	h, err := historyIn(tx, with, pair)
	if err != nil || h.hidden {
		return m, false, err
	}
	m, err = h.message(tx, with, keyNumber(pair.Key))
	return m, err == nil, err
}

// HistoryAfter returns the oldest messages after a position (0: from the
// start), oldest first, at most limit as in History.
func (e *Engine) HistoryAfter(tx store.Tx, with protocol.AccountID, after uint64, limit int) ([]Message, error) {
	limit = pageSize(limit)
	var list []Message
	for pair, err := range tx.Scan(keyHistory(with, after+1), store.PrefixEnd(store.Key(tableHistory, with[:]))) {
		if err != nil {
			return nil, err
		}
		m, shown, err := messageIn(tx, with, pair)
		if err != nil {
			return nil, err
		}
		if !shown {
			continue
		}
		if list = append(list, m); len(list) == limit {
			break
		}
	}
	return list, nil
}

// Message returns a message by its id, an own one before one of somebody else;
// ErrNotFound if there is none.
func (e *Engine) Message(tx store.Tx, id protocol.MsgID) (Message, error) {
	h, index, err := e.find(tx, id)
	if err != nil {
		return Message{}, err
	}
	return h.message(tx, index.account, index.position)
}

func (e *Engine) find(tx store.Tx, id protocol.MsgID) (historyRow, indexRow, error) {
	own := keyMine(id)
	index, ok, err := load[indexRow](tx, own)
	if err != nil {
		return historyRow{}, index, err
	}
	if !ok || index.position == 0 {
		err := all(tx, store.Key(tableIndex, id[:]), func(pair store.Pair) (bool, error) {
			r, err := decodeRow[indexRow](pair.Value)
			if err == nil && r.position > 0 {
				index, ok = r, true
			}
			return index.position == 0, err
		})
		if err != nil {
			return historyRow{}, index, err
		}
	}
	if index.position == 0 {
		return historyRow{}, index, ErrNotFound
	}
	h, ok, err := loadHistory(tx, index.account, index.position)
	if err == nil && (!ok || h.hidden) {
		err = ErrNotFound
	}
	return h, index, err
}

// idBits is the alphabet of ids, to search by the beginning of one.
var idBits = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// FindMessage returns the id that begins with prefix, at least 6 characters of
// its text: ErrNotFound for none, ErrConflict for several.
func (e *Engine) FindMessage(tx store.Tx, prefix string) (found protocol.MsgID, err error) {
	prefix = strings.ToLower(prefix)
	whole := prefix[:len(prefix)&^7] // 8 characters are 5 bytes
	start, err := idBits.DecodeString(whole)
	if err != nil || len(prefix) < 6 {
		return found, ErrNotFound
	}
	if len(start) == 0 { // 6 characters are 30 bits
		if start, err = idBits.DecodeString(prefix[:6] + "aa"); err != nil {
			return found, ErrNotFound
		}
		start = start[:3]
	}
	count := 0
	err = all(tx, store.Key(tableIndex, start), func(pair store.Pair) (bool, error) {
		var id protocol.MsgID
		copy(id[:], store.ReadKey(pair.Key).Bytes(len(id)))
		r, err := decodeRow[indexRow](pair.Value)
		if err == nil && r.position > 0 && strings.HasPrefix(id.String(), prefix) && (count == 0 || id != found) {
			found = id
			count++
		}
		return count < 2, err
	})
	switch {
	case err != nil:
		return protocol.MsgID{}, err
	case count == 0:
		return protocol.MsgID{}, ErrNotFound
	case count > 1:
		return protocol.MsgID{}, ErrConflict
	}
	return found, nil
}

// Trace returns a message and what happened to it so far, oldest first.
func (e *Engine) Trace(tx store.Tx, now time.Time, id protocol.MsgID) (Message, []Step, error) {
	h, index, err := e.find(tx, id)
	if err != nil {
		return Message{}, nil, err
	}
	steps := h.steps
	if h.mine && h.state == StateQueued {
		why, err := e.whyWaiting(tx, now, index.account)
		if err != nil {
			return Message{}, nil, err
		}
		steps = append(steps, why...)
	}
	m, err := h.message(tx, index.account, index.position)
	return m, steps, err
}

// whyWaiting is what is known about why nothing gets to an account.
func (e *Engine) whyWaiting(tx store.Tx, now time.Time, a protocol.AccountID) ([]Step, error) {
	p, ok, err := load[peerRow](tx, keyPeer(a))
	if err != nil || !ok {
		return nil, err
	}
	var steps []Step
	held, err := e.Held(tx, now)
	if err != nil {
		return nil, err
	}
	if held != "" {
		steps = append(steps, Step{now, "waiting", held})
	}
	if why, ok := p.paused(); ok {
		steps = append(steps, Step{p.hintedAt, "waiting", why})
	}
	alarm, stands, err := e.LogAlarm(tx)
	if err != nil {
		return nil, err
	}
	if stands && !p.verified {
		steps = append(steps, Step{alarm.At, "waiting", BlockedByAlarm})
	}
	if p.problem != "" {
		steps = append(steps, Step{p.problemAt, "lookup", p.problem})
	}
	for _, d := range p.devices {
		r, ok, err := load[reasonRow](tx, keyReason(d.id))
		if err != nil {
			return nil, err
		}
		if ok {
			steps = append(steps, Step{r.since, "waiting", "device " + short(d.id) + ": " + r.reason})
		}
	}
	return steps, nil
}

// readBatch is how many rows one call of MarkRead or Tick looks at for read
// receipts.
const readBatch = 1000

// MarkRead notes that the conversation was seen up to a position, and queues
// read receipts. Of many rows the rest follows with Tick.
func (e *Engine) MarkRead(tx store.Tx, now time.Time, with protocol.AccountID, upTo uint64) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	p, err := w.peer(with)
	if err != nil {
		return Hint{}, err
	}
	p.readWant = max(p.readWant, min(upTo, p.position))
	if err := w.read(with, p); err != nil {
		return Hint{}, err
	}
	return w.end()
}

// read queues receipts for the next rows that are wanted to be read.
func (w *work) read(with protocol.AccountID, p *peerRow) error {
	end := min(p.readWant, p.readTo+readBatch)
	for pair, err := range w.tx.Scan(keyHistory(with, p.readTo+1), keyHistory(with, end+1)) {
		if err != nil {
			return err
		}
		h, err := decodeRow[historyRow](pair.Value)
		if err != nil {
			return err
		}
		p.readTo = keyNumber(pair.Key)
		if h.state != StateReceived || h.seen || h.hidden {
			continue
		}
		p.unread = max(p.unread, 1) - 1
		if err := w.beginReadTime(with, p.readTo, &h); err != nil {
			return err
		}
		if err := w.receipt(h.device, h.id, true, receiptSoon); err != nil {
			return err
		}
		if err := w.pass(h.id, true); err != nil {
			return err
		}
		if w.full(0) {
			return w.at(w.now, timerRead, with[:])
		}
	}
	p.readTo = max(p.readTo, end)
	if p.readTo < p.readWant {
		return w.at(w.now, timerRead, with[:])
	}
	return nil
}
