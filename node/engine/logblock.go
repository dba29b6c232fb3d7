package engine

import (
	"errors"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// While an alarm of the log stands, the directory may have shown false keys of
// anybody. So nothing new is sealed for an account that the user has not verified,
// but acknowledgements and what the user compares keys by; it waits. What others
// send is taken.

// BlockedByAlarm is why messages wait for an account that is not verified.
const BlockedByAlarm = "the rendezvous's log of names and keys does not hold: verify the contact, or accept the log"

// blocked tells that nothing new is sealed for an account for now.
func (w *work) blocked(a protocol.AccountID) (bool, error) {
	p, err := w.peer(a)
	if err != nil || p.verified || p.relation == Self {
		return false, err
	}
	return w.alarmStands()
}

func (w *work) alarmStands() (bool, error) {
	if w.alarmed == nil {
		_, stands, err := w.e.LogAlarm(w.tx)
		if err != nil {
			return false, err
		}
		w.alarmed = &stands
	}
	return *w.alarmed, nil
}

// unblockRows is how many devices one firing of timerUnblock looks at.
const unblockRows = 32

// unblock seals what waits, for all devices from the given one on.
func (w *work) unblock(from []byte) error {
	var first protocol.DeviceID
	copy(first[:], from)
	devices, err := devicesIn(w.tx, tableWaiting, first, unblockRows)
	if err != nil {
		return err
	}
	for _, device := range devices {
		if err := w.at(w.now, timerDrain, device[:]); err != nil {
			return err
		}
	}
	if len(devices) < unblockRows {
		return nil
	}
	next := store.PrefixEnd(devices[len(devices)-1][:])
	if next == nil {
		return nil
	}
	return w.at(w.now, timerUnblock, next)
}

// unblockPeer seals what waits for an account.
func (w *work) unblockPeer(p *peerRow) error {
	var errs []error
	for _, d := range p.devices {
		errs = append(errs, w.at(w.now, timerDrain, d.id[:]))
	}
	return errors.Join(errs...)
}
