package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// event notes that something happened. The newest maxEvents are kept.
func (w *work) event(r eventRow) error {
	c := w.count()
	c.events++
	r.time = w.now
	w.hint.Events = true
	if c.events > maxEvents {
		if err := w.delete(keyEvent(c.events - maxEvents)); err != nil {
			return err
		}
	}
	return w.put(keyEvent(c.events), &r)
}

// notice is an event that the user should know of.
func (w *work) notice(code string, about protocol.AccountID, text string) error {
	return w.event(eventRow{kind: KindNotice, account: about, cause: code, text: text})
}

// Anybody who may send can make undecryptable envelopes, and the rendezvous false
// answers, so they are noted only so often; the events are a sample then.
const (
	maxTroubles  = 60
	troubleEvery = time.Hour
)

// trouble notes an envelope that could not be opened.
func (w *work) trouble(cause string, from protocol.AccountID, text string) error {
	if !w.mayTrouble() {
		return nil
	}
	return w.event(eventRow{kind: KindUndecryptable, account: from, cause: cause, text: text})
}

// mayTrouble counts one more event that others can cause, and tells whether there
// is room for it in this hour.
func (w *work) mayTrouble() bool {
	c := w.count()
	if elapsed := w.now.Sub(c.troubledAt); elapsed < 0 || elapsed >= troubleEvery {
		c.troubles, c.troubledAt = 0, w.now
	}
	if c.troubles >= maxTroubles {
		return false
	}
	c.troubles++
	return true
}

// Events returns events after the number after, oldest first, at most limit
// (0: 100, and never more than 1000).
func (e *Engine) Events(tx store.Tx, after uint64, limit int) ([]Event, error) {
	limit = pageSize(limit)
	var list []Event
	for pair, err := range tx.Scan(keyEvent(after+1), store.PrefixEnd([]byte{tableEvent})) {
		if err != nil {
			return nil, err
		}
		ev, err := e.readEvent(tx, pair)
		if err != nil {
			return nil, err
		}
		if list = append(list, ev); len(list) == limit {
			break
		}
	}
	return list, nil
}

func (e *Engine) readEvent(tx store.Tx, pair store.Pair) (Event, error) {
	r, err := decodeRow[eventRow](pair.Value)
	if err != nil {
		return Event{}, err
	}
	ev := Event{Seq: keyNumber(pair.Key), Time: r.time, Kind: r.kind, With: r.account, Cause: r.cause, Text: r.text, By: r.by}
	if r.position == 0 {
		return ev, nil
	}
	h, ok, err := loadHistory(tx, r.account, r.position)
	if err != nil {
		return Event{}, err
	}
	if !ok || h.hidden {
		return ev, nil
	}
	m, err := h.message(tx, r.account, r.position)
	if err == nil && r.kind == KindMessage {
		ev.Quiet, err = e.wantsQuiet(tx, r.account, r.time, &m)
	}
	ev.Message = &m
	return ev, err
}

// LastEvent returns the number of the newest event, 0 if there is none.
func (e *Engine) LastEvent(tx store.Tx) (uint64, error) {
	c, _, err := load[countsRow](tx, store.Key(tableCounts))
	return c.events, err
}

// pageSize is how much of a list is returned.
func pageSize(limit int) int {
	if limit <= 0 {
		return 100
	}
	return min(limit, 1000)
}
