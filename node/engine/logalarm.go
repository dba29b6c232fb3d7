package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/store"
)

// logChanged is the error for a log that does not continue the one seen before,
// or contradicts itself.
type logChanged struct {
	cause       error
	held, shown []byte // heads, as they were signed
	entry       directory.Inclusion
}

func (l *logChanged) Error() string { return fmt.Sprintf("%v: %v", ErrLogChanged, l.cause) }

func (l *logChanged) Unwrap() []error { return []error{ErrLogChanged, l.cause} }

// LogAlarm is what there is to show against the directory.
type LogAlarm struct {
	At      time.Time
	Ended   time.Time // when the user accepted the log, or a graver alarm came; zero: it stands
	Problem string

	// Heads as they were signed: the one known here, and the one that does not
	// fit it.
	Held, Shown []byte

	// Entry is an entry of the log Shown that says what is false, as is known
	// here; of no proof and the zero Leaf: it is not about one.
	Entry directory.Inclusion

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

// LogAlarms returns all alarms there ever were, the newest first.
func (e *Engine) LogAlarms(tx store.Tx) (list []LogAlarm, err error) {
	now, stands, err := e.LogAlarm(tx)
	if err != nil {
		return nil, err
	}
	if stands {
		list = append(list, now)
	}
	for pair, err := range tx.ScanDown([]byte{tableLogPast}, store.PrefixEnd([]byte{tableLogPast})) {
		if err != nil {
			return nil, err
		}
		r, err := decodeRow[logAlarmRow](pair.Value)
		if err != nil {
			return nil, err
		}
		list = append(list, LogAlarm(r))
	}
	return list, nil
}

// logAlarmRow is a LogAlarm in the store.
type logAlarmRow LogAlarm

func (r *logAlarmRow) encode() []byte {
	e := newRow(200 + 32*len(r.Entry.Proof) + len(r.Problem) + len(r.Held) + len(r.Shown) + len(r.Evidence))
	e.time(r.At)
	e.time(r.Ended)
	e.string(r.Problem)
	e.bytes(r.Held)
	e.bytes(r.Shown)
	e.bytes(r.Evidence)
	e.u64(r.Entry.Index)
	e.raw(r.Entry.Leaf.Marshal())
	e.bytes(r.Entry.Proof.Bytes())
	return e.b
}

func (r *logAlarmRow) decode(b []byte) error {
	d := readRow(b)
	r.At, r.Ended, r.Problem = d.time(), d.time(), d.string()
	r.Held, r.Shown, r.Evidence = d.bytes(), d.bytes(), d.bytes()
	r.Entry.Index = d.u64()
	leaf, err := directory.ParseLeaf(d.raw(directory.LeafSize))
	d.bad = d.bad || err != nil
	r.Entry.Leaf = leaf
	proof, err := directory.ParseProof(d.bytes())
	d.bad = d.bad || err != nil
	r.Entry.Proof = proof
	return d.end("alarm of the log")
}

// alarm is what is kept of it.
func (l *logChanged) alarm(now time.Time) logAlarmRow {
	r := logAlarmRow{At: now, Problem: l.cause.Error(), Held: l.held, Shown: l.shown, Entry: l.entry}
	if convicted, ok := errors.AsType[*directory.Convicted](l.cause); ok {
		r.Evidence = convicted.Evidence.Marshal()
	}
	return r
}

// raise stores an alarm, unless one stands that says as much, or the user has
// accepted what it is about. The first counts, unless only a later one convicts. It
// tells whether that is news.
func (w *work) raise(r logAlarmRow) (news bool, err error) {
	stands, ok, err := load[logAlarmRow](w.tx, w.e.keyLogAlarm())
	if err != nil || ok && (len(r.Evidence) == 0 || len(stands.Evidence) > 0) {
		return false, err
	}
	accepted, err := w.accepted(r)
	if err != nil || accepted {
		return false, err
	}
	if ok {
		if err := w.archive(stands); err != nil {
			return false, err
		}
	}
	w.alarmed = nil
	if len(r.Evidence) > 0 {
		if err := w.at(w.now, timerEvidence, nil); err != nil {
			return false, err
		}
	}
	return true, w.put(w.e.keyLogAlarm(), &r)
}

// accepted tells whether an alarm is about what the user has seen: it was found
// before, and comes to be told now; or it is about entries, which stay in a log.
func (w *work) accepted(r logAlarmRow) (bool, error) {
	m, _, err := load[mirrorRow](w.tx, keyMirror())
	if err != nil || len(r.Held) > 0 && bytes.Contains(m.dropped, r.Held) {
		return err == nil, err
	}
	list, err := w.e.LogAlarms(w.tx)
	about := r.entries()
	if err != nil || len(about) == 0 || len(list) > 0 && list[0].Ended.IsZero() { // one that stands was not accepted
		return false, err
	}
	for _, past := range list {
		about = slices.DeleteFunc(about, func(a directory.Inclusion) bool {
			return slices.ContainsFunc(logAlarmRow(past).entries(), func(b directory.Inclusion) bool {
				return a.Index == b.Index && a.Leaf == b.Leaf
			})
		})
		if len(about) == 0 {
			return true, nil
		}
	}
	return false, nil
}

// signedAt are the times of an alarm's heads, by the clock of who signed them.
func (w *work) signedAt(r logAlarmRow) (times []time.Time) {
	log, err := directory.NewLog(w.e.id.Home.Peer)
	if err != nil {
		return nil
	}
	for _, b := range [][]byte{r.Held, r.Shown} {
		if h, err := log.Open(b); err == nil {
			times = append(times, h.Time)
		}
	}
	return times
}

// entries are the entries that an alarm is about.
func (r logAlarmRow) entries() []directory.Inclusion {
	if len(r.Entry.Proof) > 0 || r.Entry.Leaf != (directory.Leaf{}) {
		return []directory.Inclusion{r.Entry}
	}
	e, err := directory.CheckEvidence(r.Evidence)
	if err != nil {
		return nil
	}
	return e.Leaves
}

// excused tells of which labels the user accepted that their entries contradict
// each other. What they say of names that are known here is judged all the same.
func (w *work) excused() (func(label [32]byte) bool, error) {
	list, err := w.e.LogAlarms(w.tx)
	if err != nil {
		return nil, err
	}
	labels := map[[32]byte]bool{}
	for _, past := range list {
		if past.Ended.IsZero() {
			continue
		}
		if e, err := directory.CheckEvidence(past.Evidence); err == nil && len(e.Leaves) > 0 {
			labels[e.Leaves[0].Leaf.Label] = true
		}
	}
	return func(label [32]byte) bool { return labels[label] }, nil
}

// archive keeps an alarm that does not stand any more.
func (w *work) archive(r logAlarmRow) error {
	number := uint64(0)
	for pair, err := range w.tx.ScanDown([]byte{tableLogPast}, store.PrefixEnd([]byte{tableLogPast})) {
		if err != nil {
			return err
		}
		number = keyNumber(pair.Key)
		break
	}
	r.Ended = w.now
	return w.put(store.Key(tableLogPast, number+1), &r)
}

// AcceptLog ends the alarm: the user goes on with the log that the directory
// shows from now on. The alarm is kept, what was mirrored is dropped, and heads from
// before are not compared any more. What was held back goes out. ErrNoAlarm if
// there is none.
func (e *Engine) AcceptLog(tx store.Tx, now time.Time) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	r, ok, err := load[logAlarmRow](tx, e.keyLogAlarm())
	if err != nil {
		return Hint{}, err
	}
	if !ok {
		return Hint{}, ErrNoAlarm
	}
	m, _, err := load[mirrorRow](tx, keyMirror())
	if err != nil {
		return Hint{}, err
	}
	held, err := get(tx, e.keyLog())
	if err != nil {
		return Hint{}, err
	}
	accepted := slices.MaxFunc(append(w.signedAt(r), w.now.Truncate(time.Second)), time.Time.Compare) // heads have whole seconds, and their clock may be ahead,
	if latest := w.now.Add(directory.MaxAge); accepted.After(latest) {                                // though not so far that a head would be believed
		accepted = latest
	}
	err = errors.Join(w.archive(r), w.delete(e.keyLogAlarm()), w.delete(e.keyLog()),
		w.put(keyMirror(), &mirrorRow{gen: m.gen + 1, accepted: accepted, dropped: slices.Concat(held, m.head)}),
		w.at(w.now, timerMirror, nil), w.at(w.now, timerUnblock, nil))
	if err != nil {
		return Hint{}, err
	}
	w.hint.Log = true
	return w.end()
}

// tellLogAlarm raises the alarm, with a notice if that is news.
func (w *work) tellLogAlarm(cause *logChanged) error {
	news, err := w.raise(cause.alarm(w.now))
	if err != nil || !news {
		return err
	}
	return w.notice(NoticeLogChanged, w.e.id.Account, cause.Error())
}
