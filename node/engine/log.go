package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// What the directory says is believed if it is proven to be in its log, and if
// that log continues the one that was seen before (SPEC "Directory log").

func (e *Engine) keyLog() []byte      { return store.Key(tableLog, e.id.Home.Peer) }
func (e *Engine) keyLogAlarm() []byte { return store.Key(tableLogAlarm, e.id.Home.Peer) }

// LogSize returns how many entries of the directory's log are known here. A
// look-up names it.
func (e *Engine) LogSize(tx store.Tx) (uint64, error) {
	v, err := e.logView(tx)
	return v.Head.Size, err
}

// logView reads the last head of the log that was accepted.
func (e *Engine) logView(tx store.Tx) (directory.View, error) {
	log, err := directory.NewLog(e.id.Home.Peer)
	if err != nil {
		return directory.View{}, fmt.Errorf("log of the rendezvous: %w", err)
	}
	v := directory.View{Log: log}
	b, err := get(tx, e.keyLog())
	if err != nil || b == nil {
		return v, err
	}
	if v.Head, err = log.Open(b); err != nil {
		return v, fmt.Errorf("row of the log: %w", store.ErrDamaged)
	}
	return v, nil
}

// proven checks that the log of the directory holds what it answered, and
// returns the head of the log. It changes nothing. Errors wrap ErrUnproven,
// ErrLogStale, ErrLogChanged or ErrLogMoved.
func (w *work) proven(f *wire.Found, chain *account.Chain) (directory.Head, error) {
	v, err := w.e.logView(w.tx)
	if err != nil {
		return directory.Head{}, err
	}
	next, err := w.advanced(v, f.GetLog())
	if err != nil {
		return directory.Head{}, err
	}
	proof, err := directory.ParseProof(f.GetInclusion())
	if err != nil {
		return directory.Head{}, fmt.Errorf("%w: %v", ErrUnproven, err)
	}
	leaf := directory.Leaf{
		Label: directory.Label(v.Log.Origin(), f.GetName()), Account: chain.Account(), Seq: chain.Seq(), Head: chain.Head(),
	}
	in := directory.Inclusion{Index: f.GetLogIndex(), Leaf: leaf, Proof: proof}
	if err := in.Check(next.Head.Size, next.Head.Root); err != nil {
		return directory.Head{}, fmt.Errorf("%w: %q: %v", ErrUnproven, f.GetName(), err)
	}
	return next.Head, nil
}

// advanced returns the view that holds the head of an answer.
func (w *work) advanced(v directory.View, l *wire.LogHead) (directory.View, error) {
	proof, err := directory.ParseProof(l.GetConsistency())
	if err != nil {
		return v, fmt.Errorf("%w: %v", ErrUnproven, err)
	}
	next, err := v.Advance(l.GetHead(), directory.Consistency{From: l.GetFrom(), Proof: proof}, w.now)
	continues := !errors.Is(err, directory.ErrShrunk) && !errors.Is(err, directory.ErrUnproven)
	switch {
	case err == nil:
		return next, nil
	case errors.Is(err, directory.ErrStale):
		return v, fmt.Errorf("%w: %v", ErrLogStale, err)
	case errors.Is(err, directory.ErrFork), !continues && l.GetFrom() == v.Head.Size:
		return v, &logChanged{cause: err, held: v.Head.Bytes(), shown: l.GetHead()}
	case !continues && l.GetFrom() < v.Head.Size:
		return v, fmt.Errorf("%w: %v", ErrLogMoved, err)
	}
	return v, fmt.Errorf("%w: %v", ErrUnproven, err)
}

// keepHead stores the head of an answer that was taken in.
func (w *work) keepHead(h directory.Head) error {
	read, err := get(w.tx, w.e.keyLog())
	if err != nil {
		return err
	}
	return w.save(w.e.keyLog(), h.Bytes(), read)
}

// logChanged is the error for a log that does not continue the one seen before.
type logChanged struct {
	cause       error
	held, shown []byte // heads, as they were signed
}

func (l *logChanged) Error() string { return fmt.Sprintf("%v: %v", ErrLogChanged, l.cause) }

func (l *logChanged) Unwrap() []error { return []error{ErrLogChanged, l.cause} }

// LogAlarm returns when and how the directory's log was seen not to continue, and
// whether it ever was.
func (e *Engine) LogAlarm(tx store.Tx) (at time.Time, problem string, alarmed bool, err error) {
	r, alarmed, err := load[logAlarmRow](tx, e.keyLogAlarm())
	return r.at, r.problem, alarmed, err
}

// logAlarmRow keeps what the directory signed when its log was first seen not
// to continue.
type logAlarmRow struct {
	at          time.Time
	problem     string
	held, shown []byte
	evidence    []byte // a file for directory.CheckEvidence; empty: the two heads prove nothing to others
}

func (r *logAlarmRow) encode() []byte {
	e := newRow(64 + len(r.problem) + len(r.held) + len(r.shown) + len(r.evidence))
	e.time(r.at)
	e.string(r.problem)
	e.bytes(r.held)
	e.bytes(r.shown)
	e.bytes(r.evidence)
	return e.b
}

func (r *logAlarmRow) decode(b []byte) error {
	d := readRow(b)
	r.at, r.problem = d.time(), d.string()
	r.held, r.shown, r.evidence = d.bytes(), d.bytes(), d.bytes()
	return d.end("alarm of the log")
}

// keepLogAlarm stores what there is to show against the directory, if cause is
// that its log does not continue. The first time counts, unless only a later one
// convicts it.
func (w *work) keepLogAlarm(cause error) error {
	changed, ok := errors.AsType[*logChanged](cause)
	if !ok {
		return nil
	}
	before, known, err := load[logAlarmRow](w.tx, w.e.keyLogAlarm())
	if err != nil {
		return err
	}
	r := logAlarmRow{at: w.now, problem: changed.cause.Error(), held: changed.held, shown: changed.shown}
	convicted, proof := errors.AsType[*directory.Convicted](changed.cause)
	if proof {
		r.evidence = convicted.Evidence.Marshal()
	}
	if known && (!proof || len(before.evidence) > 0) {
		return nil
	}
	return w.put(w.e.keyLogAlarm(), &r)
}
