package engine

import (
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// timer is what is to be done at a time. A timer may fire for nothing, when
// what it was set for has happened meanwhile, so none is ever taken back.
type timer uint8

const (
	timerReceipts timer = 1  // send collected receipts; id: device
	timerGap      timer = 2  // show what comes after messages that do not come; id: device
	timerDrain    timer = 3  // go on sealing what waits; id: device
	timerRead     timer = 4  // go on queueing read receipts; id: account
	timerLookup   timer = 5  // ask again for a look-up; id: account
	timerRepair   timer = 6  // replace a session that broke; id: device
	timerPurge    timer = 7  // give up what is queued for somebody we no longer write to; id: device
	timerForget   timer = 8  // forget an account that did not become a contact; id: account
	timerPrekeys  timer = 9  // rotate the signed prekey
	timerGone     timer = 11 // forget whose a dropped session was; id: session
	timerReopen   timer = 10 // replace a session of ours that was not answered; id: device
	timerRSA      timer = 15 // replace the RSA key, or ask for one again

	timerShare timer = 12 // tell a sibling more of what it does not know; id: device
	timerEarly timer = 13 // forget the state of a message that did not come; id: message

	timerCompare timer = 14 // end a comparison, or forget how it ended; id: account

	timerRoomGive timer = 33 // go on giving a chain to a room's readers; id: room, chain
	timerRoomOpen timer = 34 // go on opening what waited for a chain; id: room, device
	timerRoomShow timer = 35 // show what comes after messages that do not come; id: room, device

	timerRoomAsk  timer = 44 // ask for the log that a member has, if it did not come; id: room, device
	timerRoomRead timer = 52 // go on noting that messages of a room were read; id: room, position

	timerRoomsOver timer = 53 // forget the oldest of too many rooms that are over

	timerVanish timer = 50 // destroy a message whose time is over; id: conversation, position
	timerSent   timer = 54 // end storing a sent file, and giving one of which there is a copy; id: conversation, position
	timerShared timer = 55 // go on taking back what a contact was given that is none any more; id: account
	timerAction timer = 51 // forget what was done to a message that did not come; id: key of its row

	timerExpire   timer = 20 // give up contents that are too old; id: device to go on with
	timerSkipped  timer = 21 // destroy old keys of missing messages; id: session to go on with
	timerPrivates timer = 22 // destroy old prekeys; id: table to go on with
	timerSeen     timer = 23 // forget envelopes of which no copy can come any more
	timerEvidence timer = 25 // send all contacts what convicts the rendezvous; id: account to go on behind
	timerUnblock  timer = 31 // seal what waited while an alarm stood; id: device to go on with
	timerMirror   timer = 32 // delete mirrors of the log that were dropped
	timerRooms    timer = 36 // destroy old keys of rooms, and what waited for them in vain; id: receiver to go on with
	timerGuests   timer = 45 // see to it that guests of rooms stay, or go; id: room to go on with
	timerAccount  timer = 30 // destroy replaced account keys, see that certificates are renewed
)

// How often the sweeps begin.
const (
	expireEvery = time.Hour
	sweepEvery  = 6 * time.Hour

	accountEvery = 24 * time.Hour
)

// sweeps are the timers that set themselves again for ever. What they do cannot
// be taken back.
var sweeps = map[timer]time.Duration{
	timerExpire: expireEvery, timerSkipped: sweepEvery, timerPrivates: sweepEvery, timerSeen: sweepEvery,
	timerAccount: accountEvery, timerRooms: sweepEvery, timerGuests: guestsEvery,
}

// at sets a timer. The same again changes nothing.
func (w *work) at(t time.Time, kind timer, id []byte) error {
	w.hint.Tick = true
	return w.set(keyTimer(t, kind, id), []byte{rowVersion})
}

// startSweeps sets the timers of the sweeps.
func (w *work) startSweeps() error {
	for kind, every := range sweeps {
		if err := w.at(w.now.Add(every), kind, nil); err != nil {
			return err
		}
	}
	return nil
}

// Tick does what is due at now and returns when to call it next, at the
// latest; that may be in the past when there is more than one transaction may
// carry. It costs two reads when nothing is due.
func (e *Engine) Tick(tx store.Tx, now time.Time) (next time.Time, h Hint, err error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return next, h, err
	}
	destroyAfter, err := w.watchClock()
	if err != nil {
		return next, h, err
	}
	for rows := 0; ; rows++ {
		key, at, err := firstTimer(tx)
		if err != nil {
			return next, h, err
		}
		if next = at; key == nil || at.After(now) || w.full(rows) {
			break
		}
		if err := w.delete(key); err != nil {
			return next, h, err
		}
		if sweeps[timer(key[9])] != 0 && w.now.Before(destroyAfter) {
			err = w.at(destroyAfter, timer(key[9]), key[10:])
		} else {
			err = w.fire(key)
		}
		if err != nil {
			return next, h, err
		}
	}
	w.hint.Tick = false
	h, err = w.end()
	return next, h, err
}

// firstTimer returns the earliest timer; a nil key if there is none.
func firstTimer(tx store.Tx) (key []byte, at time.Time, err error) {
	for pair, err := range tx.Scan([]byte{tableTimer}, store.PrefixEnd([]byte{tableTimer})) {
		if err != nil {
			return nil, at, err
		}
		return pair.Key, timerTime(pair.Key), nil
	}
	return nil, at, nil
}

// timerTime reads when a timer is due.
func timerTime(key []byte) time.Time { return fromMillis(int64(store.ReadKey(key[:9]).Uint64())) }

// fire does what a timer was set for.
func (w *work) fire(key []byte) error {
	kind, id := timer(key[9]), key[10:]
	switch kind {
	case timerRead, timerLookup, timerForget, timerCompare, timerShared:
		return w.firePeer(kind, id)
	case timerReceipts, timerGap, timerDrain, timerRepair, timerPurge, timerReopen, timerShare:
		return w.fireDevice(kind, id)
	case timerRoomAsk:
		return w.askForLog(id)
	case timerRoomGive, timerRoomOpen, timerRoomShow, timerRoomRead:
		return w.fireRoom(kind, id)
	case timerRooms:
		return w.sweepRooms(id)
	case timerGuests:
		return w.sweepGuests(id)
	case timerRoomsOver:
		return w.forgetOver()
	case timerGone:
		return w.delete(store.Key(tableGone, id))
	case timerEarly:
		return w.delete(store.Key(tableEarly, id))
	case timerVanish:
		return w.vanish(id)
	case timerSent:
		return w.sentOver(id)
	case timerAction:
		return w.delete(store.Key(tableAction, id))
	case timerPrekeys:
		w.hint.Prekeys = true
		return nil
	case timerRSA:
		return w.rsaDue()
	case timerExpire:
		return w.expire(id)
	case timerSkipped:
		return w.sweepSkipped(id)
	case timerPrivates:
		return w.sweepPrivates(id)
	case timerSeen:
		return w.sweepSeen()
	case timerEvidence:
		return w.spreadEvidence(id)
	case timerUnblock:
		return w.unblock(id)
	case timerMirror:
		return w.sweepMirror()
	case timerAccount:
		return w.sweepAccount()
	}
	return fmt.Errorf("timer row: %w", store.ErrDamaged)
}

func (w *work) firePeer(kind timer, id []byte) error {
	a, err := protocol.FromBytes[protocol.AccountID](id)
	if err != nil {
		return fmt.Errorf("timer row: %w", store.ErrDamaged)
	}
	p, err := w.peer(a)
	if err == ErrNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	switch kind {
	case timerRead:
		return w.read(a, p)
	case timerLookup:
		return w.lookupAgain(a, p)
	case timerCompare:
		return w.compareOver(a, p)
	case timerShared:
		return w.unshare(a, p)
	}
	return w.forget(a, p)
}

func (w *work) fireDevice(kind timer, id []byte) error {
	device, err := protocol.FromBytes[protocol.DeviceID](id)
	if err != nil {
		return fmt.Errorf("timer row: %w", store.ErrDamaged)
	}
	d, err := w.device(device)
	if err == ErrNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	switch kind {
	case timerReceipts:
		return w.flushReceipts(device)
	case timerGap:
		return w.closeGap(device, d)
	case timerDrain:
		if d.reseal != 0 {
			return w.unseal(device, d)
		}
		return w.drain(device, d)
	case timerRepair:
		return w.repairIfDue(d)
	case timerReopen:
		return w.reopen(device, d)
	case timerShare:
		return w.share(device, d)
	}
	return w.purge(device, d)
}
