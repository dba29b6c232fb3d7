package directory

import (
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxAge is how far the time of a head may be from that of who reads it.
const MaxAge = time.Hour

// Consistency proves that a head continues the tree of From entries.
type Consistency struct {
	From  uint64
	Proof Proof
}

// ProveConsistency proves that the tree of size entries, whose hashes are
// given, continues its own first from. The errors are of hashes.
func ProveConsistency(from, size uint64, hashes tlog.HashReader) (Consistency, error) {
	if from == 0 || from >= size {
		return Consistency{From: from}, nil // nothing to prove
	}
	p, err := tlog.ProveTree(int64(size), int64(from), hashes)
	if err != nil {
		return Consistency{}, fmt.Errorf("prove that %d entries continue %d: %w", size, from, err)
	}
	return Consistency{From: from, Proof: Proof(p)}, nil
}

// View is what one who asks remembers of a log: the last head. With a zero Head
// the first one is believed. To store it, keep Head.Bytes; Log.Open reads them.
type View struct {
	Log  Log
	Head Head
}

// Advance takes the head of an answer and returns the view that holds it; v
// stays as it was. Errors wrap
//
//   - ErrMalformed or ErrBadSignature: not a head of this log;
//   - ErrFork, in a *Convicted: as large as the head held, with another root;
//   - ErrStale: from more than MaxAge ago, or from as far in the future;
//   - ErrShrunk: smaller than the head held;
//   - ErrUnproven: c does not show that it continues the head held.
//
// An answer to a question from before the view last moved may honestly be
// ErrShrunk or ErrUnproven: who asks again, naming v.Head.Size, gets a better
// one. Who gets none is shown another log.
func (v View) Advance(head []byte, c Consistency, now time.Time) (View, error) {
	h, err := v.Log.Open(head)
	if err != nil {
		return v, err
	}
	if err := v.compare(h); err != nil {
		return v, err
	}
	if age := now.Sub(h.Time); age > MaxAge || age < -MaxAge {
		return v, fmt.Errorf("%w: signed %v, now it is %v", ErrStale, h.Time, now.UTC())
	}
	if err := v.continues(h, c); err != nil {
		return v, err
	}
	if h.Size > v.Head.Size || h.Time.After(v.Head.Time) {
		v.Head = h
	}
	return v, nil
}

// Check is Advance, and that the entry is in the log of that head: all that an
// answer to a look-up has to prove. What it cannot tell is whether the log has a
// newer entry of the label, or an older one of another account: see Fold.
func (v View) Check(head []byte, c Consistency, in Inclusion, now time.Time) (View, error) {
	next, err := v.Advance(head, c, now)
	if err != nil {
		return v, err
	}
	if err := in.Check(next.Head.Size, next.Head.Root); err != nil {
		return v, err
	}
	return next, nil
}

// compare convicts a log that signed two trees of one size.
func (v View) compare(h Head) error {
	if h.Size != v.Head.Size || h.Root == v.Head.Root || v.Head.IsZero() {
		return nil
	}
	return v.Log.convict(Evidence{Kind: Fork, Heads: []Head{v.Head, h}})
}

func (v View) continues(h Head, c Consistency) error {
	from := v.Head.Size
	switch {
	case h.Size < from:
		return fmt.Errorf("%w: from %d entries to %d", ErrShrunk, from, h.Size)
	case h.Size == from, from == 0:
		return nil
	case c.From != from:
		return fmt.Errorf("%w: that %d entries continue %d; it is about %d", ErrUnproven, h.Size, from, c.From)
	}
	return checkTree(c.Proof, h, from, v.Head.Root)
}

// checkTree returns nil if the tree of h begins with that of size entries and
// that root; size is from 1 to h.Size.
func checkTree(p Proof, h Head, size uint64, root tlog.Hash) error {
	if size == 0 || size > h.Size || h.Size > MaxSize {
		return fmt.Errorf("%w: about %d entries of %d", ErrUnproven, size, h.Size)
	}
	if err := tlog.CheckTree(tlog.TreeProof(p), int64(h.Size), h.Root, int64(size), root); err != nil {
		return fmt.Errorf("%w: that %d entries continue %d", ErrUnproven, h.Size, size)
	}
	return nil
}

// Compare tells whether two heads can be of one log. Hashes are those of the
// tree of the larger one, which Fold has checked; for heads of one size they
// are not read. An error wraps ErrFork in a *Convicted, or is of hashes. Neither
// the order nor the age of the heads matters.
func Compare(l Log, a, b Head, hashes tlog.HashReader) error {
	if a.Size > b.Size {
		a, b = b, a
	}
	if a.IsZero() || a.Size == 0 {
		return nil
	}
	if a.Size == b.Size {
		return View{Log: l, Head: a}.compare(b)
	}
	root, err := tlog.TreeHash(int64(a.Size), hashes)
	if err != nil {
		return fmt.Errorf("hash the first %d entries: %w", a.Size, err)
	}
	if root == a.Root {
		return nil
	}
	c, err := ProveConsistency(a.Size, b.Size, hashes)
	if err != nil {
		return err
	}
	return l.convict(Evidence{Kind: Fork, Heads: []Head{a, b}, Part: Part{a.Size, root, c.Proof}})
}
