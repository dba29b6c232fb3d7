package engine

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/compare"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Comparing pictures with a contact (SPEC "Comparing"). Nothing of it happens
// without the user: an offer waits until he answers, and each try of somebody in
// between costs one of his answers.

// Compare begins a comparison with a contact, or answers the one they began. It
// goes on for 10 minutes; repeating it changes nothing. ErrNotContact,
// ErrNoDevice.
func (e *Engine) Compare(tx store.Tx, now time.Time, a protocol.AccountID) (Hint, error) {
	return e.comparing(tx, now, a, func(w *work, p *peerRow) error {
		c, err := w.comparison(a, p)
		switch {
		case err == ErrNoComparison:
			return w.beginComparison(a, p)
		case err != nil || c.stage != CompareOffered:
			return err
		}
		return w.answerComparison(c)
	})
}

// Compared says what the user saw: that both see the same pictures, or not. The
// contact is verified once both said that they match. If one says that they do
// not, it ends there, and the contact is not verified. ErrNoComparison if there
// are no pictures to compare.
func (e *Engine) Compared(tx store.Tx, now time.Time, a protocol.AccountID, match bool) (Hint, error) {
	return e.comparing(tx, now, a, func(w *work, p *peerRow) error {
		c, err := w.comparison(a, p)
		if err != nil {
			return err
		}
		if c.stage != ComparePictures {
			return ErrNoComparison
		}
		if !match {
			text := fmt.Sprintf("you and %s see different emoji: somebody may be in between, so write nothing secret to %s", p.name, p.name)
			return errors.Join(w.sendCompare(c.device, &wire.Compare{Id: c.id[:], Differ: true}), w.differs(c, text))
		}
		if c.said {
			return nil
		}
		c.said = true
		return errors.Join(w.sendCompare(c.device, &wire.Compare{Id: c.id[:], Match: true}), w.matched(c))
	})
}

// StopComparing calls the comparison with a contact off, if there is one.
func (e *Engine) StopComparing(tx store.Tx, now time.Time, a protocol.AccountID) (Hint, error) {
	return e.comparing(tx, now, a, func(w *work, p *peerRow) error {
		c, err := w.comparison(a, p)
		if err == ErrNoComparison {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.Join(w.callOff(c), w.endComparison(c, CompareEnded, NoticeCompareEnded, "you stopped comparing emoji with "+p.name))
	})
}

func (e *Engine) comparing(tx store.Tx, now time.Time, a protocol.AccountID, fn func(*work, *peerRow) error) (Hint, error) {
	return e.relation(tx, now, a, func(w *work, p *peerRow) error {
		if p.relation != Accepted {
			return ErrNotContact
		}
		return fn(w, p)
	})
}

// beginComparison is the first step: all devices of the contact are asked, the
// first that answers is the one.
func (w *work) beginComparison(a protocol.AccountID, p *peerRow) error {
	devices := p.valid(w.now)
	if len(devices) == 0 {
		return ErrNoDevice
	}
	c := &comparison{account: a, p: p}
	c.stage, c.began = CompareWaiting, true
	c.id, c.own, c.commitment = compare.Begin()
	for _, device := range devices {
		if err := w.sendCompare(device, &wire.Compare{Id: c.id[:], Commitment: c.commitment[:]}); err != nil {
			return err
		}
	}
	return w.newComparison(c)
}

// answerComparison is the second step.
func (w *work) answerComparison(c *comparison) error {
	c.stage, c.own = CompareWaiting, compare.NewNonce()
	return errors.Join(w.setComparison(c), w.sendCompare(c.device, &wire.Compare{Id: c.id[:], Nonce: c.own[:]}))
}

// receiveCompare takes a step of the other side. What does not belong to the
// comparison that is under way is not for us; a device that waits for our answer
// to it is told that there will be none.
func (w *work) receiveCompare(in *incoming, step *wire.Compare) error {
	id, err := compare.FromBytes[compare.ID](step.GetId())
	if err != nil {
		return w.trouble(CauseMalformed, in.d.account, "a step of comparing emoji without an id")
	}
	c, err := w.comparison(in.d.account, in.p)
	if err != nil && err != ErrNoComparison {
		return err
	}
	if len(step.GetCommitment()) > 0 {
		return w.offered(in, c, id, step.GetCommitment())
	}
	ours := c != nil && c.id == id && (c.unanswered() || c.device == in.from)
	switch {
	case !ours && len(step.GetNonce()) > 0:
		return w.sendCompare(in.from, &wire.Compare{Id: id[:], Cancel: true})
	case !ours:
		return nil
	case len(step.GetNonce()) > 0:
		return w.shown(in, c, step.GetNonce())
	case step.GetMatch(), step.GetDiffer():
		return w.judged(c, step.GetMatch())
	case step.GetCancel():
		return w.calledOff(c)
	}
	return nil
}

// offered takes the first step. If both begin at once, the one with the smaller
// id counts. Any other that is under way is over: the contact began anew.
func (w *work) offered(in *incoming, old *comparison, id compare.ID, commitment []byte) error {
	c := &comparison{account: in.d.account, p: in.p}
	c.id, c.stage, c.device = id, CompareOffered, in.from
	var err error
	if c.commitment, err = compare.FromBytes[compare.Commitment](commitment); err != nil {
		return w.trouble(CauseMalformed, in.d.account, "a step of comparing emoji that is malformed")
	}
	crossed := old != nil && old.unanswered()
	switch {
	case old != nil && old.id == id, crossed && bytes.Compare(old.id[:], id[:]) < 0:
		return nil
	case crossed:
		if err := errors.Join(w.callOffExcept(old, in.from), w.newComparison(c)); err != nil {
			return err
		}
		return w.answerComparison(c)
	}
	if old != nil && old.stage == CompareOffered { // the user was told, and is not told with each
		c.until = old.until
		return w.setComparison(c)
	}
	text := fmt.Sprintf("%s wants to compare emoji with you, to verify each other: parley verify %s --emoji", in.p.name, in.p.name)
	return errors.Join(w.newComparison(c), w.notice(NoticeCompareOffered, c.account, text))
}

// shown takes the nonce of the other: the second step, if we began, or the third.
func (w *work) shown(in *incoming, c *comparison, nonce []byte) error {
	n, err := compare.FromBytes[compare.Nonce](nonce)
	switch {
	case err == nil && c.stage == ComparePictures && n == c.other: // once more
		return nil
	case err == nil && c.unanswered():
		c.device = in.from
		err = errors.Join(w.callOffExcept(c, in.from), w.sendCompare(c.device, &wire.Compare{Id: c.id[:], Nonce: c.own[:]}))
	case err == nil && c.stage == CompareWaiting && c.commitment.Opens(c.id, n):
	default:
		text := fmt.Sprintf("the device of %s does not keep to the steps of comparing emoji: it was stopped, and nothing is verified", c.p.name)
		return errors.Join(w.callOff(c), w.endComparison(c, CompareEnded, NoticeCompareFailed, text))
	}
	if err != nil {
		return err
	}
	c.stage, c.other = ComparePictures, n
	text := fmt.Sprintf("there are emoji to compare with %s: parley verify %s --emoji", c.p.name, c.p.name)
	return errors.Join(w.setComparison(c), w.notice(NoticeComparePictures, c.account, text))
}

// judged takes what the other's user said of the pictures. It may come before
// the nonce that was sent first.
func (w *work) judged(c *comparison, match bool) error {
	if c.stage == CompareOffered || c.unanswered() { // nobody there can have seen them
		return nil
	}
	if !match {
		text := fmt.Sprintf("%s sees other emoji than you: somebody may be in between, so write nothing secret to %s", c.p.name, c.p.name)
		return w.differs(c, text)
	}
	c.heard = true
	return w.matched(c)
}

// matched verifies the contact if both said so.
func (w *work) matched(c *comparison) error {
	if !c.said || !c.heard {
		return errors.Join(w.setComparison(c), w.event(eventRow{kind: KindContact, account: c.account}))
	}
	if err := w.look(c.account, c.p, true); err != nil {
		return err
	}
	return w.endComparison(c, CompareMatched, NoticeCompareMatched, fmt.Sprintf("you and %s see the same emoji: %s is verified", c.p.name, c.p.name))
}

// differs takes the mark of a verified contact away.
func (w *work) differs(c *comparison, text string) error {
	return errors.Join(w.distrust(c.account, c.p), w.endComparison(c, CompareDiffers, NoticeCompareDiffers, text))
}

// calledOff takes that the other side ended it. Of an offer that was not answered
// nobody needs to hear.
func (w *work) calledOff(c *comparison) error {
	if c.stage == CompareOffered {
		return w.delete(keyCompare(c.account))
	}
	return w.endComparison(c, CompareEnded, NoticeCompareEnded, c.p.name+" stopped comparing emoji with you")
}
