package engine

import (
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/store"
)

// Sweeps go through tables of any length, a batch at each firing of a timer
// that carries where to go on.

// expireRows is how many devices one firing of the hourly sweep looks at.
const expireRows = 64

// expire gives up what waited too long: nobody has it any more, or ever got it.
// Each queue is in the order of time, so only its head is looked at.
func (w *work) expire(from []byte) error {
	table, device := tableWaiting, protocol.DeviceID{}
	if len(from) > 0 {
		table = from[0]
		copy(device[:], from[1:])
	} else if err := w.at(w.now.Add(expireEvery), timerExpire, nil); err != nil {
		return err
	}
	devices, err := devicesIn(w.tx, table, device, expireRows)
	if err != nil {
		return err
	}
	for _, d := range devices {
		if err := w.expireQueue(table, d); err != nil {
			return err
		}
	}
	return w.expireNext(table, devices)
}

func (w *work) expireNext(table byte, devices []protocol.DeviceID) error {
	if len(devices) == expireRows {
		last := devices[len(devices)-1]
		return w.at(w.now, timerExpire, store.PrefixEnd(append([]byte{table}, last[:]...)))
	}
	switch table {
	case tableWaiting:
		return w.at(w.now, timerExpire, []byte{tableOut})
	case tableOut:
		return w.at(w.now, timerExpire, []byte{tableKept})
	}
	return nil
}

func (w *work) expireQueue(table byte, device protocol.DeviceID) error {
	return all(w.tx, store.Key(table, device[:]), func(pair store.Pair) (bool, error) {
		r, err := decodeRow[itemRow](pair.Value)
		if err != nil {
			return false, err
		}
		age, problem := w.now.Sub(r.since), "could not be sent for too long"
		if table == tableKept {
			age, problem = w.now.Sub(r.stored), "not fetched from the mailbox in time"
		}
		if age < protocol.MailboxTTL {
			return false, w.resend(table, device, r)
		}
		if w.full(0) {
			return false, w.at(w.now, timerExpire, append([]byte{table}, device[:]...))
		}
		return true, w.fail(pair.Key, r, problem)
	})
}

// When what a device does not acknowledge is sent again: not before it was
// heard of so long after the mailbox took it, and not more often than this.
const (
	resendAfter = 10 * time.Minute
	resendEvery = 6 * time.Hour
)

// resend sends a device again what the mailbox took for it and it has not
// acknowledged, although it was there since: the mailbox has lost it.
func (w *work) resend(table byte, device protocol.DeviceID, oldest itemRow) error {
	if table != tableKept {
		return nil
	}
	d, err := w.device(device)
	if err != nil {
		return err
	}
	if d.heard.Sub(oldest.stored) < resendAfter || w.now.Sub(d.resent) < resendEvery {
		return nil
	}
	d.resent = w.now
	return w.sealAnew(device, d)
}

// sweepSkipped destroys the keys of messages that did not come in time, in
// sessions that are not used and so do not do it themselves.
func (w *work) sweepSkipped(from []byte) error {
	if len(from) == 0 {
		if err := w.at(w.now.Add(sweepEvery), timerSkipped, nil); err != nil {
			return err
		}
	}
	rows := 0
	for pair, err := range w.tx.Scan(store.Key(tableSession, from), store.PrefixEnd([]byte{tableSession})) {
		if err != nil {
			return err
		}
		if w.full(rows) {
			return w.at(w.now, timerSkipped, pair.Key[1:])
		}
		rows++
		s, err := session.ParseState(pair.Value)
		if err != nil {
			return fmt.Errorf("session row: %w", store.ErrDamaged)
		}
		next, changed := s.Sweep(w.now)
		if _, used := w.sessions[s.ID()]; used || !changed {
			continue
		}
		if err := w.set(pair.Key, next.Marshal()); err != nil {
			return err
		}
	}
	return nil
}

// sweepPrivates destroys prekeys that nobody can have sealed to any more, and
// what was remembered so that openings with them are not accepted twice.
func (w *work) sweepPrivates(from []byte) error {
	if len(from) == 0 {
		from = []byte{tableOneTime}
		if err := w.at(w.now.Add(sweepEvery), timerPrivates, nil); err != nil {
			return err
		}
	}
	rows := 0
	for pair, err := range w.tx.Scan(from, store.PrefixEnd(from[:1])) {
		if err != nil {
			return err
		}
		if w.full(rows) {
			return w.at(w.now, timerPrivates, pair.Key)
		}
		r, err := decodeRow[pairRow](pair.Value)
		if err != nil {
			return err
		}
		if !w.now.After(r.keepUntil) {
			continue
		}
		rows++
		if err := w.destroy(pair.Key); err != nil {
			return err
		}
	}
	if from[0] == tableOneTime {
		return w.at(w.now, timerPrivates, []byte{tableSigned})
	}
	return w.sweepRSA()
}

// destroy removes a prekey. Of a signed one there may be any number of openings
// to forget; they go with as many firings as it takes, the prekey last.
func (w *work) destroy(key []byte) error {
	if key[0] == tableOneTime {
		return w.dropOneTime(protocol.PrekeyID(key[1:]), "expired")
	}
	rows := 0
	more := false
	err := all(w.tx, store.Key(tableReplay, key[1:]), func(pair store.Pair) (bool, error) {
		if more = w.full(rows); more {
			return false, w.at(w.now, timerPrivates, key)
		}
		rows++
		return true, w.delete(pair.Key)
	})
	if err != nil || more {
		return err
	}
	if err := w.ledger(ledger.Signed, key[1:], ledger.Destroyed, "expired"); err != nil {
		return err
	}
	return w.delete(key)
}
