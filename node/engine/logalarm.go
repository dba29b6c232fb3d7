package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/store"
)

// logChanged is the error for a log that does not continue the one seen before,
// or contradicts itself.
type logChanged struct {
	cause       error
	held, shown []byte // heads, as they were signed
}

func (l *logChanged) Error() string { return fmt.Sprintf("%v: %v", ErrLogChanged, l.cause) }

func (l *logChanged) Unwrap() []error { return []error{ErrLogChanged, l.cause} }

// LogAlarm is what there is to show against the directory.
type LogAlarm struct {
	At      time.Time
	Problem string

	// Heads as they were signed: the one known here, and the one that does not
	// fit it.
	Held, Shown []byte

	// Evidence is a file for directory.CheckEvidence; empty: what was signed
	// proves nothing to others.
	Evidence []byte
}

// LogAlarm returns the alarm that stands, if one does: it was seen that the
// directory shows different logs.
func (e *Engine) LogAlarm(tx store.Tx) (a LogAlarm, stands bool, err error) {
	r, stands, err := load[logAlarmRow](tx, e.keyLogAlarm())
	return LogAlarm(r), stands, err
}

// logAlarmRow is a LogAlarm in the store.
type logAlarmRow LogAlarm

func (r *logAlarmRow) encode() []byte {
	e := newRow(64 + len(r.Problem) + len(r.Held) + len(r.Shown) + len(r.Evidence))
	e.time(r.At)
	e.string(r.Problem)
	e.bytes(r.Held)
	e.bytes(r.Shown)
	e.bytes(r.Evidence)
	return e.b
}

func (r *logAlarmRow) decode(b []byte) error {
	d := readRow(b)
	r.At, r.Problem = d.time(), d.string()
	r.Held, r.Shown, r.Evidence = d.bytes(), d.bytes(), d.bytes()
	return d.end("alarm of the log")
}

// keepLogAlarm stores what there is to show against the directory, if cause is
// that its log does not continue. The first time counts, unless only a later one
// convicts it. It tells whether that is news.
func (w *work) keepLogAlarm(cause error) (news bool, err error) {
	changed, ok := errors.AsType[*logChanged](cause)
	if !ok {
		return false, nil
	}
	r := logAlarmRow{At: w.now, Problem: changed.cause.Error(), Held: changed.held, Shown: changed.shown}
	if convicted, ok := errors.AsType[*directory.Convicted](changed.cause); ok {
		r.Evidence = convicted.Evidence.Marshal()
	}
	return w.raise(r)
}

// raise stores an alarm, and tells whether that is news.
func (w *work) raise(r logAlarmRow) (news bool, err error) {
	before, stands, err := load[logAlarmRow](w.tx, w.e.keyLogAlarm())
	if err != nil || stands && (len(r.Evidence) == 0 || len(before.Evidence) > 0) {
		return false, err
	}
	if len(r.Evidence) > 0 {
		err = w.at(w.now, timerEvidence, nil)
	}
	return true, errors.Join(err, w.put(w.e.keyLogAlarm(), &r))
}

// tellLogAlarm is keepLogAlarm, with a notice if that is news.
func (w *work) tellLogAlarm(cause *logChanged) error {
	news, err := w.keepLogAlarm(cause)
	if err != nil || !news {
		return err
	}
	return w.notice(NoticeLogChanged, w.e.id.Account, cause.Error())
}
