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
// ErrLogStale, ErrLogChanged, ErrWithheld or ErrLogMoved.
func (w *work) proven(f *wire.Found, chain *account.Chain) (directory.Head, error) {
	v, err := w.e.logView(w.tx)
	if err != nil {
		return directory.Head{}, err
	}
	next, in, err := provenIn(v, w.now, f, chain)
	if err != nil {
		return directory.Head{}, err
	}
	return next.Head, w.newest(next, f, in)
}

// ProvenBy checks that the log of a rendezvous, of which nothing is known but where
// it is, holds what it answers. Errors wrap ErrBadAnswer, ErrUnproven or ErrLogStale.
func ProvenBy(h Home, now time.Time, f *wire.Found) error {
	log, err := directory.NewLog(h.Peer)
	if err != nil {
		return fmt.Errorf("log of the rendezvous: %w", err)
	}
	chain, err := account.ParseChain(f.GetChain())
	if err != nil {
		return fmt.Errorf("%w: %v", ErrBadAnswer, err)
	}
	_, _, err = provenIn(directory.View{Log: log}, now, f, chain)
	return err
}

// provenIn checks that the log of an answer continues a view, and holds what is
// answered.
func provenIn(v directory.View, now time.Time, f *wire.Found, chain *account.Chain) (next directory.View, in directory.Inclusion, err error) {
	if next, err = advanced(v, now, f.GetLog()); err != nil {
		return v, in, err
	}
	in.Index = f.GetLogIndex()
	in.Leaf = directory.Leaf{
		Label: directory.Label(v.Log.Origin(), f.GetName()), Account: chain.Account(), Seq: chain.Seq(), Head: chain.Head(),
	}
	if in.Proof, err = directory.ParseProof(f.GetInclusion()); err != nil {
		return v, in, fmt.Errorf("%w: %v", ErrUnproven, err)
	}
	if err := in.Check(next.Head.Size, next.Head.Root); err != nil {
		return v, in, fmt.Errorf("%w: %q: %v", ErrUnproven, f.GetName(), err)
	}
	return next, in, nil
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
		if excused, err := w.excused(); err != nil || excused(in.Leaf.Label) {
			return err
		}
		return &logChanged{cause: cause, held: m.head, shown: v.Head.Bytes(), entry: in}
	case index < in.Index:
		return nil
	case index >= f.GetLog().GetFrom(): // the log was read on since the question
		return fmt.Errorf("%w: entry %d of %q came meanwhile", ErrLogMoved, index, f.GetName())
	}
	return fmt.Errorf("%w: entry %d of %q, it answers with %d", ErrWithheld, index, f.GetName(), in.Index)
}

// advanced returns the view that holds the head of an answer.
func advanced(v directory.View, now time.Time, l *wire.LogHead) (directory.View, error) {
	proof, err := directory.ParseProof(l.GetConsistency())
	if err != nil {
		return v, fmt.Errorf("%w: %v", ErrUnproven, err)
	}
	next, err := v.Advance(l.GetHead(), directory.Consistency{From: l.GetFrom(), Proof: proof}, now)
	continues := !errors.Is(err, directory.ErrShrunk) && !errors.Is(err, directory.ErrUnproven)
	switch {
	case err == nil:
		return next, nil
	case errors.Is(err, directory.ErrStale):
		return v, stale(v.Log, now, l.GetHead())
	case errors.Is(err, directory.ErrFork), !continues && l.GetFrom() == v.Head.Size:
		if !continues {
			err = fmt.Errorf("it was restored from an old backup, or it lies: %w", err)
		}
		return v, &logChanged{cause: err, held: v.Head.Bytes(), shown: l.GetHead()}
	case !continues && l.GetFrom() < v.Head.Size:
		return v, fmt.Errorf("%w: %v", ErrLogMoved, err)
	}
	return v, fmt.Errorf("%w: %v", ErrUnproven, err)
}

// stale is the error for a head that is too old, or from the future.
func stale(log directory.Log, now time.Time, head []byte) error {
	h, err := log.Open(head)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: the rendezvous signed it when its clock showed %s, and this device's shows %s; if this device's is wrong, set it, else the rendezvous holds back what is new",
		ErrLogStale, h.Time.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

// keepHead stores the head of an answer that was taken in.
func (w *work) keepHead(h directory.Head) error {
	read, err := get(w.tx, w.e.keyLog())
	if err != nil {
		return err
	}
	return w.save(w.e.keyLog(), h.Bytes(), read)
}
