package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// A copy of an envelope may come long after the first, from the mailbox when
// an acknowledgement was lost. By then its session may have forgotten the keys
// and cannot tell the copy from a forgery. So what was taken in is remembered,
// by the day it came, for as long as mail lives.

// seenDays is how many days back a copy may have come.
const seenDays = uint64(protocol.MailboxTTL/(24*time.Hour)) + 1

func today(now time.Time) uint64 { return uint64(max(0, now.Unix())) / (24 * 60 * 60) }

func keySeen(day uint64, id protocol.EnvelopeID) []byte {
	return store.Key(tableSeen, day, id[:16])
}

func (w *work) setSeen(id protocol.EnvelopeID) error {
	return w.set(keySeen(today(w.now), id), []byte{rowVersion})
}

// wasSeen costs a read for each day, so it is asked only of what does not open.
// A clock that was set back by a day is allowed for.
func (w *work) wasSeen(id protocol.EnvelopeID) (bool, error) {
	last := today(w.now) + 1
	for day := last - min(last, seenDays+1); day <= last; day++ {
		if b, err := get(w.tx, keySeen(day, id)); err != nil || b != nil {
			return b != nil, err
		}
	}
	return false, nil
}

// sweepSeen forgets what came so long ago that no copy can come.
func (w *work) sweepSeen() error {
	oldest := today(w.now) - min(today(w.now), seenDays)
	rows := 0
	for pair, err := range w.tx.Scan([]byte{tableSeen}, store.Key(tableSeen, oldest)) {
		if err != nil {
			return err
		}
		if w.full(rows) {
			return w.at(w.now, timerSeen, nil)
		}
		rows++
		if err := w.delete(pair.Key); err != nil {
			return err
		}
	}
	return w.at(w.now.Add(sweepEvery), timerSeen, nil)
}
