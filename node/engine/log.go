package engine

import (
	"errors"
	"fmt"

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
// ErrLogStale, ErrLogChanged ErrWithheld or ErrLogMoved.
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
	return next.Head, w.newest(next, f, in)
}

// newest holds the entry of an answer against the mirror.
func (w *work) newest(v directory.View, f *wire.Found, in directory.Inclusion) error {
	m, err := w.e.mirrored(w.tx, v.Log)
	if err != nil {
		return err
	}
	leaf, index, ok, err := m.Newest(in.Leaf.Label)
	switch {
	case err != nil || !ok || index == in.Index:
		return err
	case index < in.Index && leaf.Contradicts(in.Leaf): // what convicts it is found when the log is read
		cause := fmt.Errorf("%w: entries %d and %d", directory.ErrContradiction, index, in.Index)
		return &logChanged{cause: cause, held: m.head, shown: v.Head.Bytes()}
	case index < in.Index:
		return nil
	case index >= f.GetLog().GetFrom(): // the log was read on since the question
		return fmt.Errorf("%w: entry %d of %q came meanwhile", ErrLogMoved, index, f.GetName())
	}
	return fmt.Errorf("%w: entry %d of %q, it answers with %d", ErrWithheld, index, f.GetName(), in.Index)
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
