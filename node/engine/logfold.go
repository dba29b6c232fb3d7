package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// LogQuestion returns what to ask the directory to read on in its log: the
// number of the first entry, and how many are known here, which the answer
// (LogPage.Log.From) is to name again.
func (e *Engine) LogQuestion(tx store.Tx) (from, size uint64, err error) {
	v, err := e.logView(tx)
	if err != nil {
		return 0, 0, err
	}
	m, err := e.mirrored(tx, v.Log)
	if err != nil {
		return 0, 0, err
	}
	if m.size >= maxMirror {
		return v.Head.Size, v.Head.Size, nil // only the head
	}
	return m.size, v.Head.Size, nil
}

// FoldPage takes a page of the log, which was asked for from that number on, and
// tells whether there is more to be read. What does not continue the log is
// refused with an error of IsAlarm, nothing changes, and LogFailed should be
// told. For ErrLogMoved ask again.
func (e *Engine) FoldPage(tx store.Tx, now time.Time, from uint64, p *wire.LogPage) (more bool, h Hint, err error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return false, h, err
	}
	if more, err = w.foldPage(from, p); err != nil {
		return false, h, err
	}
	h, err = w.end()
	return more, h, err
}

func (w *work) foldPage(from uint64, p *wire.LogPage) (more bool, err error) {
	v, err := w.e.logView(w.tx)
	if err != nil {
		return false, err
	}
	m, err := w.e.mirrored(w.tx, v.Log)
	if err != nil {
		return false, err
	}
	next, err := advanced(v, w.now, p.GetLog())
	if err != nil {
		return false, err
	}
	if m.size == 0 && m.accepted.IsZero() { // what was before this device is others' to judge
		m.accepted = next.Head.Time.Add(-2 * directory.MaxAge)
	}
	if m.size < maxMirror {
		if err := w.fold(m, next, from, p); err != nil {
			return false, err
		}
	}
	if err := w.keepHead(next.Head); err != nil {
		return false, err
	}
	m.problem, m.told = "", ""
	if m.size < min(next.Head.Size, maxMirror) {
		return true, w.put(keyMirror(), &m.mirrorRow)
	}
	m.reads++
	if m.size == next.Head.Size {
		since := m.full.Size
		m.full, m.head = next.Head, next.Head.Bytes()
		if err := w.watchNames(next.Log, m, since); err != nil {
			return false, err
		}
	}
	if err := w.put(keyMirror(), &m.mirrorRow); err != nil {
		return false, err
	}
	return false, w.judgeHeard(next.Log)
}

// fold adds the entries of a page to the mirror.
func (w *work) fold(m *mirror, v directory.View, from uint64, p *wire.LogPage) error {
	page, err := readPage(from, p)
	if err != nil {
		return err
	}
	switch {
	case from != m.size: // another page, or AcceptLog, came first
		return fmt.Errorf("%w: %d entries are mirrored, not %d", ErrLogMoved, m.size, from)
	case len(page.Leaves) == 0 && m.size < v.Head.Size:
		return fmt.Errorf("%w: no entries from %d to %d", ErrUnproven, m.size, v.Head.Size)
	case len(page.Leaves) == 0:
		return nil
	}
	excused, err := w.excused()
	if err != nil {
		return err
	}
	folded, err := directory.Fold(v.Log, v.Head, m.size, page, m, excused)
	if _, convicted := errors.AsType[*directory.Convicted](err); convicted {
		return &logChanged{cause: err, held: m.head, shown: v.Head.Bytes()}
	}
	if errors.Is(err, directory.ErrUnproven) {
		return fmt.Errorf("%w: %v", ErrUnproven, err)
	}
	if err != nil {
		return err
	}
	return w.mirror(m, page, folded)
}

func readPage(from uint64, p *wire.LogPage) (page directory.Page, err error) {
	page.From = from
	if page.Leaves, err = directory.ParseLeaves(p.GetLeaves()); err != nil {
		return page, fmt.Errorf("%w: %v", ErrUnproven, err)
	}
	if len(page.Leaves) > maxPage {
		return page, fmt.Errorf("%w: page of %d entries", ErrUnproven, len(page.Leaves))
	}
	if page.Proof, err = directory.ParseProof(p.GetProof()); err != nil {
		return page, fmt.Errorf("%w: %v", ErrUnproven, err)
	}
	return page, nil
}

// LogFailed notes that a page of the log was refused: what is an alarm is kept,
// and told once.
func (e *Engine) LogFailed(tx store.Tx, now time.Time, cause error) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	m, _, err := load[mirrorRow](tx, keyMirror())
	if err != nil {
		return Hint{}, err
	}
	problem, code := cause.Error(), alarmCode(cause)
	m.problem = problem[:min(len(problem), maxReason)]
	if changed, ok := errors.AsType[*logChanged](cause); ok {
		err = w.tellLogAlarm(changed)
	} else if code != "" && code != m.told && w.mayTrouble() {
		m.told = code
		err = w.notice(code, e.id.Account, "a page of the directory's log was refused: "+problem)
	}
	if err != nil {
		return Hint{}, err
	}
	if err := w.put(keyMirror(), &m); err != nil {
		return Hint{}, err
	}
	return w.end()
}

// LogStatus says how far the directory's log is read.
type LogStatus struct {
	Size     uint64 // entries of the last head that was accepted
	Mirrored uint64 // entries that are stored here
	Whole    bool   // no more are going to be stored
	Problem  string // why it could not be read on; "": it could
}

// LogStatus returns how far the directory's log is read.
func (e *Engine) LogStatus(tx store.Tx) (s LogStatus, err error) {
	m, _, err := load[mirrorRow](tx, keyMirror())
	if err != nil {
		return s, err
	}
	s.Size, err = e.LogSize(tx)
	s.Mirrored, s.Problem = m.size, m.problem
	s.Whole = m.size >= maxMirror || m.size == s.Size
	return s, err
}

// readOn asks for the log to be read if a head shows that it has grown.
func (w *work) readOn(h directory.Head) error {
	r, _, err := load[mirrorRow](w.tx, keyMirror())
	w.hint.Log = w.hint.Log || r.size < min(h.Size, maxMirror)
	return err
}
