package engine

import (
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol/directory"
)

// verdict says whether a head that somebody was shown is of the log that is
// mirrored here.
type verdict uint8

const (
	headSame    verdict = iota // it is
	headAhead                  // not known yet: the log is to be read first, which the hint asks for; then judge it again
	headUnknown                // never known: from before the log was accepted, from the future, or beyond what is mirrored
	headAlarm                  // it is not: the alarm is kept
)

// judgeHead judges a head that the directory's log has signed (Log.Open was
// asked) and that somebody else was shown. Reads is logReads as it was when the
// head came: one that is still larger than the log after that was read anew, to
// its end, is of a log that is kept from us.
//
// For headAlarm, LogAlarm has the evidence; there is none if all that can be
// told is that the log is kept short.
func (w *work) judgeHead(h directory.Head, reads uint64) (verdict, error) {
	v, err := w.e.logView(w.tx)
	if err != nil {
		return 0, err
	}
	m, err := w.e.mirrored(w.tx, v.Log)
	if err != nil {
		return 0, err
	}
	held := m.full
	if h.Size == v.Head.Size {
		held = v.Head // needs no mirror
	}
	switch {
	case h.Time.Before(m.accepted), h.Time.After(w.now.Add(directory.MaxAge)): // nobody believes one from the future
		return headUnknown, nil
	case h.Size <= held.Size:
		return w.compareHeads(v.Log, held, h, m)
	case h.Size <= v.Head.Size && m.size >= maxMirror:
		return headUnknown, nil
	case h.Size > v.Head.Size && m.reads > reads+1: // a read that was under way may have begun before
		cause := fmt.Errorf("%w: others were shown %d entries, and this device %d later", directory.ErrShrunk, h.Size, v.Head.Size)
		return headAlarm, w.tellLogAlarm(&logChanged{cause: cause, held: h.Bytes(), shown: v.Head.Bytes()})
	}
	w.hint.Log = true
	return headAhead, nil
}

// logReads tells how often the log was read to its end.
func (w *work) logReads() (uint64, error) {
	r, _, err := load[mirrorRow](w.tx, keyMirror())
	return r.reads, err
}

// compareHeads judges a head that is not larger than the one held.
func (w *work) compareHeads(log directory.Log, held, h directory.Head, m *mirror) (verdict, error) {
	err := directory.Compare(log, held, h, m)
	if _, convicted := errors.AsType[*directory.Convicted](err); !convicted {
		return headSame, err
	}
	return headAlarm, w.tellLogAlarm(&logChanged{cause: err, held: held.Bytes(), shown: h.Bytes()})
}
