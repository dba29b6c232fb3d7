package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/compare"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// compareTime is how long two people have for comparing, from when it began or,
// for who was asked, from when that came.
const compareTime = 10 * time.Minute

// Stage is how far a comparison of pictures with a contact is.
type Stage string

const (
	CompareOffered  Stage = "offered"  // the other began, our user has not answered
	CompareWaiting  Stage = "waiting"  // our user began or answered, the other's device has not
	ComparePictures Stage = "pictures" // there is something to compare
	CompareMatched  Stage = "matched"  // both said that they see the same: the contact is verified
	CompareDiffers  Stage = "differs"  // one of the two said that they do not
	CompareEnded    Stage = "ended"    // without a result; the text says why
)

// Comparison is a comparison with a contact, as the user sees it.
type Comparison struct {
	Stage    Stage
	Pictures []compare.Picture // while they are to be compared
	Said     bool              // our user said that they match
	Until    time.Time
	Text     string // how it ended
}

// comparisonRow is the comparison with a contact: one that is under way, or until
// its time is over how the last one ended. It lives in the store, so a restart
// of the node does not end it.
type comparisonRow struct {
	id         compare.ID
	stage      Stage
	began      bool              // by us
	device     protocol.DeviceID // the other's; zero: all of theirs were asked, none has answered
	own, other compare.Nonce
	commitment compare.Commitment // of who began
	said       bool               // our user said that they match
	heard      bool               // theirs did
	until      time.Time
	text       string
}

var stages = []Stage{"", CompareOffered, CompareWaiting, ComparePictures, CompareMatched, CompareDiffers, CompareEnded}

func (r *comparisonRow) encode() []byte {
	e := newRow(176 + len(r.text))
	e.raw(r.id[:])
	e.u8(indexOf(stages, r.stage))
	e.bool(r.began, r.said, r.heard)
	e.raw(r.device[:])
	e.raw(r.own[:])
	e.raw(r.other[:])
	e.raw(r.commitment[:])
	e.time(r.until)
	e.string(r.text)
	return e.b
}

func (r *comparisonRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.id[:])
	r.stage = at(d, stages)
	d.bool(&r.began, &r.said, &r.heard)
	d.fixed(r.device[:])
	d.fixed(r.own[:])
	d.fixed(r.other[:])
	d.fixed(r.commitment[:])
	r.until = d.time()
	r.text = d.string()
	return d.end("comparison")
}

func keyCompare(a protocol.AccountID) []byte { return store.Key(tableCompare, a[:]) }

// running tells that it has not ended.
func (r *comparisonRow) running() bool {
	return r.stage == CompareOffered || r.stage == CompareWaiting || r.stage == ComparePictures
}

// unanswered tells that we began and nobody has answered.
func (r *comparisonRow) unanswered() bool {
	return r.began && r.stage == CompareWaiting
}

// comparison is a comparison in work.
type comparison struct {
	comparisonRow
	account protocol.AccountID
	p       *peerRow
}

// comparison returns the one that is under way with a contact; ErrNoComparison if
// there is none.
func (w *work) comparison(a protocol.AccountID, p *peerRow) (*comparison, error) {
	r, ok, err := load[comparisonRow](w.tx, keyCompare(a))
	if err != nil {
		return nil, err
	}
	if !ok || !r.running() || !waits(w.now, r.until, compareTime) {
		return nil, ErrNoComparison
	}
	return &comparison{r, a, p}, nil
}

// setComparison stores what changed.
func (w *work) setComparison(c *comparison) error {
	return w.put(keyCompare(c.account), &c.comparisonRow)
}

// newComparison stores one that begins here and now.
func (w *work) newComparison(c *comparison) error {
	c.until = w.now.Add(compareTime)
	if err := w.at(c.until, timerCompare, c.account[:]); err != nil {
		return err
	}
	return w.setComparison(c)
}

// endComparison ends one, with a word to the user.
func (w *work) endComparison(c *comparison, stage Stage, notice, text string) error {
	c.stage, c.text = stage, text
	c.own, c.other = compare.Nonce{}, compare.Nonce{}
	return errors.Join(w.setComparison(c), w.notice(notice, c.account, text))
}

// compareOver is the timer of a comparison: it forgets how it ended, and ends it
// if it has not.
func (w *work) compareOver(a protocol.AccountID, p *peerRow) error {
	r, ok, err := load[comparisonRow](w.tx, keyCompare(a))
	if err != nil || !ok || waits(w.now, r.until, compareTime) { // there is a timer of a later one
		return err
	}
	if r.running() && p.relation == Accepted {
		c := &comparison{r, a, p}
		text := fmt.Sprintf("comparing emoji with %s was not finished within %d minutes", p.name, int(compareTime.Minutes()))
		if err := errors.Join(w.callOff(c), w.notice(NoticeCompareEnded, a, text)); err != nil {
			return err
		}
	}
	return w.delete(keyCompare(a))
}

// dropComparison forgets the comparison with an account, or only one with the
// given device of it.
func (w *work) dropComparison(a protocol.AccountID, with *protocol.DeviceID) error {
	r, ok, err := load[comparisonRow](w.tx, keyCompare(a))
	if err != nil || !ok || with != nil && r.device != *with {
		return err
	}
	return w.delete(keyCompare(a))
}

// Comparison returns how far the comparison with a contact is, and until its time
// is over how it ended; ErrNoComparison if there is none.
func (e *Engine) Comparison(tx store.Tx, now time.Time, a protocol.AccountID) (Comparison, error) {
	r, ok, err := load[comparisonRow](tx, keyCompare(a))
	if err != nil {
		return Comparison{}, err
	}
	if !ok || !waits(now, r.until, compareTime) {
		return Comparison{}, ErrNoComparison
	}
	c := Comparison{Stage: r.stage, Said: r.said, Until: r.until, Text: r.text}
	if r.stage == ComparePictures {
		own := compare.Side{Account: e.id.Account, Device: e.id.Device, Nonce: r.own}
		other := compare.Side{Account: a, Device: r.device, Nonce: r.other}
		if !r.began {
			own, other = other, own
		}
		pictures := compare.Emoji(r.id, own, other)
		c.Pictures = pictures[:]
	}
	return c, nil
}

// sendCompare queues one step for a device of the contact.
func (w *work) sendCompare(device protocol.DeviceID, step *wire.Compare) error {
	d, err := w.device(device)
	if err != nil {
		return err
	}
	content := &wire.Content{Body: &wire.Content_Compare{Compare: step}}
	return w.postUrgent(device, d, content)
}

// callOff tells the other side that a comparison is over.
func (w *work) callOff(c *comparison) error {
	if c.device != (protocol.DeviceID{}) {
		return w.sendCompare(c.device, &wire.Compare{Id: c.id[:], Cancel: true})
	}
	return w.callOffExcept(c, protocol.DeviceID{})
}

// callOffExcept tells all devices that were asked, but one.
func (w *work) callOffExcept(c *comparison, device protocol.DeviceID) error {
	for _, d := range c.p.valid(w.now) {
		if d == device {
			continue
		}
		if err := w.sendCompare(d, &wire.Compare{Id: c.id[:], Cancel: true}); err != nil {
			return err
		}
	}
	return nil
}
