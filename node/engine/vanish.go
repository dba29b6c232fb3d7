package engine

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// Messages that disappear, and those that the user deleted here, leave a row with
// nothing in it, so that a copy that comes is not shown again.

// beginTime lets the time of a message run, if it has one: it was read, or written here.
// The caller writes the row.
func (w *work) beginTime(a protocol.AccountID, position uint64, h *historyRow) error {
	if h.lasts == 0 || !h.expires.IsZero() || h.gone {
		return nil
	}
	h.expires = w.now.Add(h.lasts)
	return w.vanishAt(a, position, h)
}

// beginReadTime is beginTime for a message that was just read, and writes its row.
func (w *work) beginReadTime(a protocol.AccountID, position uint64, h *historyRow) error {
	if h.lasts == 0 || !h.expires.IsZero() {
		return nil
	}
	if err := w.beginTime(a, position, h); err != nil {
		return err
	}
	return w.put(keyHistory(a, position), h)
}

func (w *work) vanishAt(a protocol.AccountID, position uint64, h *historyRow) error {
	return w.at(h.expires, timerVanish, binary.BigEndian.AppendUint64(slices.Clone(a[:]), position))
}

// vanish ends a message whose time is over.
func (w *work) vanish(id []byte) error {
	if len(id) != 40 {
		return fmt.Errorf("timer row: %w", store.ErrDamaged)
	}
	a, position := protocol.AccountID(id[:32]), binary.BigEndian.Uint64(id[32:])
	h, ok, err := load[historyRow](w.tx, keyHistory(a, position))
	if err != nil || !ok || h.hidden {
		return err
	}
	if h.expires.After(w.now) {
		return w.vanishAt(a, position, &h)
	}
	return w.hide(a, position, &h)
}

// hide takes a message out of the conversation. Its text is destroyed as soon as no
// copy may have to be sealed again.
func (w *work) hide(a protocol.AccountID, position uint64, h *historyRow) error {
	if h.state == StateReceived && !h.seen {
		if err := w.readUnseen(a, position); err != nil {
			return err
		}
	}
	h.hidden = true
	if h.carries {
		if err := w.dropFile(a, position); err != nil {
			return err
		}
	}
	if !w.unsettled(h) {
		if err := w.destroyText(a, position, h); err != nil {
			return err
		}
	}
	return w.putChanged(a, position, h, w.e.id.Account, CauseGone)
}

// readUnseen counts one message less that was not read.
func (w *work) readUnseen(a protocol.AccountID, position uint64) error {
	r, err := w.room(protocol.RoomID(a))
	if err == nil {
		if position > r.row.readTo {
			r.row.unread = max(r.row.unread, 1) - 1
		}
		return nil
	}
	if err != ErrNoRoom {
		return err
	}
	p, err := w.peer(a)
	if err == ErrNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if position > p.readTo {
		p.unread = max(p.unread, 1) - 1
	}
	return nil
}

// unsettled tells that an own message may have to be sealed, or sealed again.
func (w *work) unsettled(h *historyRow) bool {
	inRoom := h.state == StateQueued && h.number == 0 && h.device == w.e.id.Device
	return h.mine && (h.copies > 0 || inRoom)
}

// destroySettled destroys what is left of a hidden message once it is settled. The
// caller writes the row.
func (w *work) destroySettled(a protocol.AccountID, position uint64, h *historyRow) error {
	if !h.hidden || h.gone || w.unsettled(h) {
		return nil
	}
	return w.destroyText(a, position, h)
}
