package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// A contact acknowledges a message to the device that wrote it. That one tells
// its siblings, and every device tells its siblings what was read on it.

// passDelay is how long states are collected before they are passed on.
const passDelay = time.Second

// pass tells the siblings that a message was delivered or read.
func (w *work) pass(id protocol.MsgID, read bool) error {
	list, err := w.siblings()
	if err != nil {
		return err
	}
	for _, device := range list {
		if err := w.collect(receiptKey{tablePassed, device}, id, read, passDelay); err != nil {
			return err
		}
	}
	return nil
}

// passState tells the siblings how far a message has come that was written
// here.
func (w *work) passState(h *historyRow) error {
	if h.number == 0 || order[h.state] < order[StateDelivered] {
		return nil
	}
	return w.pass(h.id, h.state == StateRead)
}

// passedStates takes over what a sibling says of messages: that an own one has
// come or was read, or that one of somebody else was read there.
func (w *work) passedStates(r *wire.Receipt) error {
	if len(r.GetDelivered())+len(r.GetRead()) > protocol.MaxReceipts {
		return nil
	}
	for _, list := range []struct {
		ids   [][]byte
		state State
	}{{r.GetDelivered(), StateDelivered}, {r.GetRead(), StateRead}} {
		for _, b := range list.ids {
			id, err := protocol.FromBytes[protocol.MsgID](b)
			if err != nil {
				continue
			}
			if err := w.passedState(id, list.state); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *work) passedState(id protocol.MsgID, state State) error {
	found := false
	err := w.eachNamed(id, func(index indexRow, h *historyRow) (bool, error) {
		switch {
		case h == nil:
			return true, nil
		case h.mine:
			found = true
			if h.number > 0 { // written here: we know better
				return true, nil
			}
			return true, w.advance(index.account, index.position, h, state, PathUnknown)
		}
		found = true
		if state != StateRead {
			return true, nil
		}
		return true, w.setSeenElsewhere(index, h)
	})
	if err != nil || found {
		return err
	}
	return w.keepEarly(id, state)
}

// setSeenElsewhere marks a message of somebody else that was read on a sibling.
func (w *work) setSeenElsewhere(index indexRow, h *historyRow) error {
	if h.seen || h.state != StateReceived {
		return nil
	}
	if err := w.readUnseen(index.account, index.position); err != nil {
		return err
	}
	h.seen = true
	if err := w.beginTime(index.account, index.position, h); err != nil {
		return err
	}
	return w.put(keyHistory(index.account, index.position), h)
}

// earlyRow is a state that a sibling told before the message came.
type earlyRow struct{ state State }

func (r *earlyRow) encode() []byte {
	e := newRow(1)
	e.u8(indexOf(states, r.state))
	return e.b
}

func (r *earlyRow) decode(b []byte) error {
	d := readRow(b)
	r.state = at(d, states)
	return d.end("early state")
}

func keyEarly(id protocol.MsgID) []byte { return store.Key(tableEarly, id[:]) }

// keepEarly remembers a state for as long as the message may still come.
func (w *work) keepEarly(id protocol.MsgID, state State) error {
	old, ok, err := load[earlyRow](w.tx, keyEarly(id))
	if err != nil || ok && order[old.state] >= order[state] {
		return err
	}
	if err := w.put(keyEarly(id), &earlyRow{state}); err != nil {
		return err
	}
	return w.at(w.now.Add(goneFor), timerEarly, id[:])
}

// applyEarly gives a message that comes the state that was told before.
func (w *work) applyEarly(h *historyRow) error {
	list, err := w.siblings()
	if err != nil || len(list) == 0 {
		return err
	}
	r, ok, err := load[earlyRow](w.tx, keyEarly(h.id))
	if err != nil || !ok {
		return err
	}
	switch {
	case !h.mine:
		h.seen = r.state == StateRead
	case order[h.state] > 0 && order[r.state] > order[h.state]:
		h.state = r.state
		h.step(w.now, r.state.String(), "")
	}
	return w.delete(keyEarly(h.id))
}
