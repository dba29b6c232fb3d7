package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// How long a look-up is given before it is asked for again; twice as long each
// time.
const (
	lookupFirst = 2 * time.Second
	lookupLast  = 10 * time.Minute
)

var errBadBundle = errors.New("keys of a device do not verify")

// lookedUp ends the look-up of an account, if it brought what was wanted.
func (w *work) lookedUp(p *peerRow, a answer, bad error) error {
	if bad != nil {
		return w.lookupFailed(a.chain.Account(), p, fmt.Errorf("%w: %w", errBadBundle, bad))
	}
	p.problem, p.alarm = "", ""
	wanted, err := w.wantsAny(p)
	if err == nil && !wanted {
		p.tries, p.lookupAt = 0, time.Time{}
	}
	return err
}

// wantsAny tells whether a session with any device of an account is wanted.
func (w *work) wantsAny(p *peerRow) (bool, error) {
	for _, device := range p.devices {
		d, err := w.device(device.id)
		if err != nil {
			return false, err
		}
		if wanted, err := w.wantsSession(d); err != nil || wanted {
			return wanted, err
		}
	}
	return false, nil
}

// wantLookup asks for a look-up with prekeys, and again, less often each time,
// until no session with the account is wanted.
func (w *work) wantLookup(id protocol.AccountID) error {
	p, err := w.peer(id)
	if err != nil || waits(w.now, p.lookupAt, refreshAfter) {
		return err
	}
	w.hint.Lookup = addOnce(w.hint.Lookup, id)
	p.lookupAt = w.now.Add(min(lookupFirst<<min(p.tries, 9), lookupLast))
	p.tries = min(p.tries+1, 100)
	return w.at(p.lookupAt, timerLookup, id[:])
}

func (w *work) wantRefresh(id protocol.AccountID) error {
	p, err := w.peer(id)
	if err != nil {
		return err
	}
	p.changed, p.hintedAt = true, w.now
	w.hint.Refresh = addOnce(w.hint.Refresh, id)
	return nil
}

// lookupAgain asks once more, if a session is still wanted.
func (w *work) lookupAgain(id protocol.AccountID, p *peerRow) error {
	for _, device := range p.devices {
		d, err := w.device(device.id)
		if err != nil {
			return err
		}
		if err := w.drain(device.id, d); err != nil {
			return err
		}
	}
	if wanted, err := w.wantsAny(p); err != nil || !wanted {
		return err
	}
	return w.wantLookup(id)
}

// LookupFailed notes that a look-up did not end with SetAccount, for the trace,
// and for how long the rendezvous wants not to be asked again. An answer that
// did not verify is noticed, and the log is to be read on: it may tell more.
func (e *Engine) LookupFailed(tx store.Tx, now time.Time, id protocol.AccountID, cause error) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	w.hint.Log = IsAlarm(cause)
	if changed, ok := errors.AsType[*logChanged](cause); ok {
		if err := w.tellLogAlarm(changed); err != nil {
			return Hint{}, err
		}
	}
	if id == e.id.Account && (errors.Is(cause, ErrWithheld) || errors.Is(cause, ErrChainFork)) {
		if err := w.ownStatementHidden(); err != nil {
			return Hint{}, err
		}
	}
	p, err := w.peer(id)
	switch {
	case err == ErrNotFound:
		err = w.alarm(id, "a stranger", cause)
	case err == nil:
		err = w.lookupFailed(id, p, cause)
	}
	if err != nil {
		return Hint{}, err
	}
	return w.end()
}

func (w *work) lookupFailed(id protocol.AccountID, p *peerRow, cause error) error {
	problem := cause.Error()
	p.problem, p.problemAt = problem[:min(len(problem), maxReason)], w.now
	if code := alarmCode(cause); code != "" && code != p.alarm {
		p.alarm = code
		if err := w.alarm(id, p.name, cause); err != nil {
			return err
		}
	}
	refusal, ok := errors.AsType[*protocol.Error](cause)
	if !ok || refusal.RetryAfter <= 0 {
		return nil
	}
	if at := w.now.Add(min(refusal.RetryAfter, refreshAfter)); at.After(p.lookupAt) || !waits(w.now, p.lookupAt, refreshAfter) {
		p.lookupAt = at
		return w.at(at, timerLookup, id[:])
	}
	return nil
}

// alarms are the errors that the user is told of: mostly because somebody does not
// tell the truth.
var alarms = map[error]string{
	ErrNameSwapped: NoticeNameSwapped, ErrChainFork: NoticeChainFork, ErrBadAnswer: NoticeBadAnswer, errBadBundle: NoticeBadBundle,
	ErrUnproven: NoticeUnproven, ErrLogChanged: NoticeLogChanged, ErrLogStale: NoticeLogStale,
	ErrWithheld: NoticeWithheld,
}

// IsAlarm tells whether err is one that the user must know of: LookupFailed, or
// LogFailed, is to be told.
func IsAlarm(err error) bool { return alarmCode(err) != "" }

// alarmCode is the notice that an error calls for; "" for none.
func alarmCode(cause error) string {
	for kind, code := range alarms {
		if errors.Is(cause, kind) {
			return code
		}
	}
	return ""
}

func (w *work) alarm(id protocol.AccountID, name string, cause error) error {
	code := alarmCode(cause)
	if code == "" || code == NoticeLogChanged || !w.mayTrouble() { // tellLogAlarm tells of a changed log, once
		return nil
	}
	return w.notice(code, id, fmt.Sprintf("look-up of %s refused: %v", name, cause))
}

// Stale returns the contacts whose record is to be looked up again, without
// prekeys: older than a day, or changed as the rendezvous says.
func (e *Engine) Stale(tx store.Tx, now time.Time) ([]protocol.AccountID, error) {
	var list []protocol.AccountID
	err := eachPeer(tx, func(id protocol.AccountID, p *peerRow) error {
		if p.relation != Stranger && p.relation != Blocked && (p.changed || now.Sub(p.checked) > refreshAfter) {
			list = append(list, id)
		}
		return nil
	})
	return list, err
}

// Changed notes that the rendezvous said that the chains of accounts changed.
// Until a question sent from now on is answered, nothing is sent to them.
func (e *Engine) Changed(tx store.Tx, now time.Time, accounts []protocol.AccountID) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	for _, id := range accounts {
		if err := w.wantRefresh(id); err != nil && err != ErrNotFound {
			return Hint{}, err
		}
	}
	return w.end()
}

// eachPeer calls fn for every account we know.
func eachPeer(tx store.Tx, fn func(protocol.AccountID, *peerRow) error) error {
	return all(tx, []byte{tablePeer}, func(pair store.Pair) (bool, error) {
		p, err := decodeRow[peerRow](pair.Value)
		if err != nil {
			return false, err
		}
		return true, fn(protocol.AccountID(pair.Key[1:]), &p)
	})
}
