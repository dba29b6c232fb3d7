package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/store"
)

// maxAhead is how far in the future a peer accepts a session's generation.
const maxAhead = 24 * time.Hour

// sendingSession returns the session to send on.
func (w *work) sendingSession(d *deviceRow) (s session.State, ok bool, err error) {
	id, ok := d.choose(w.now)
	if !ok || w.e.stopped.Load() {
		return s, false, nil
	}
	s, ok, err = w.session(id)
	if err == nil && !ok {
		err = fmt.Errorf("session %v is not there: %w", id, store.ErrDamaged)
	}
	return s, ok, err
}

// choose leaves out sessions that the device may not be able to accept any
// more, and then chooses as both sides do.
func (r *deviceRow) choose(now time.Time) (id protocol.SessionID, ok bool) {
	usable := make([]session.Info, 0, protocol.MaxSessions)
	for _, s := range r.sessions {
		if !s.expired(now) {
			usable = append(usable, s.Info)
		}
	}
	i, ok := session.Choose(now, usable)
	if !ok {
		return id, false
	}
	return usable[i].ID, true
}

// expired tells that nothing more may be sealed on a session of ours that is
// not answered: the private halves of its prekeys last only as long as the
// mailbox after their expiry; or the session was opened when our clock was wrong.
func (s *knownSession) expired(now time.Time) bool {
	return s.Initiator && !s.Confirmed && (now.After(s.until) || ahead(now, s.Gen))
}

func ahead(now time.Time, gen uint64) bool { return gen > uint64(max(0, now.Add(maxAhead).Unix())) }

// nextGen is the generation of a new session. One that only a wrong clock of
// ours can have made does not count.
func (r *deviceRow) nextGen(now time.Time) uint64 {
	highest := r.highest
	if ahead(now, highest) {
		highest = 0
	}
	return session.NextGen(now, highest)
}

// addSession adds a session with a device. Of too many the one with the lowest
// generation goes that is not the one to send on.
func (w *work) addSession(device protocol.DeviceID, d *deviceRow, s session.State, until time.Time) error {
	id := s.ID()
	how := "opened by the other device"
	if s.Initiator() {
		how = "opened by this device"
	}
	if err := w.ledger(ledger.Session, id[:], ledger.Created, how); err != nil {
		return err
	}
	w.setSession(s)
	if ahead(w.now, d.highest) {
		d.highest = 0
	}
	d.highest = max(d.highest, s.Gen())
	d.sessions = append(d.sessions, knownSession{Info: s.Info(), until: until})
	for len(d.sessions) > protocol.MaxSessions {
		keep, _ := d.choose(w.now)
		oldest := -1
		for i, info := range d.sessions[:len(d.sessions)-1] {
			if info.ID != keep && (oldest < 0 || info.Gen < d.sessions[oldest].Gen) {
				oldest = i
			}
		}
		if err := w.forgetSession(device, d, d.sessions[oldest].ID, "too many with the device"); err != nil {
			return err
		}
	}
	return nil
}

// goneFor is how long it is remembered whose a dropped session was: for as long
// as mail of it can come, which is then known to be lost.
const goneFor = protocol.MailboxTTL + 24*time.Hour

func (w *work) forgetSession(device protocol.DeviceID, d *deviceRow, id protocol.SessionID, reason string) error {
	if err := w.endSession(d, id, reason); err != nil {
		return err
	}
	d.sessions = slices.DeleteFunc(d.sessions, func(s knownSession) bool { return s.ID == id })
	w.dropSession(id)
	if err := w.set(keyGone(id), device[:]); err != nil {
		return err
	}
	return w.at(w.now.Add(goneFor), timerGone, id[:])
}

// forgetSessions ends all sessions with a revoked device.
func (w *work) forgetSessions(device protocol.DeviceID, d *deviceRow) error {
	for _, s := range slices.Clone(d.sessions) {
		if err := w.forgetSession(device, d, s.ID, "the device was revoked"); err != nil {
			return err
		}
	}
	return nil
}

// endSession notes when a session was last used, and that it is destroyed.
func (w *work) endSession(d *deviceRow, id protocol.SessionID, reason string) error {
	for _, s := range d.sessions {
		if s.ID != id || s.used.IsZero() {
			continue
		}
		if err := w.ledger(ledger.Session, id[:], ledger.LastUsed, "at "+s.used.Format(time.RFC3339)); err != nil {
			return err
		}
	}
	return w.ledger(ledger.Session, id[:], ledger.Destroyed, reason)
}

// usedSession notes that something was sealed or opened with a session.
func (w *work) usedSession(d *deviceRow, id protocol.SessionID) error {
	i := slices.IndexFunc(d.sessions, func(s knownSession) bool { return s.ID == id })
	if i < 0 {
		return nil
	}
	first := d.sessions[i].used.IsZero()
	d.sessions[i].used = w.now.Truncate(time.Minute)
	if !first {
		return nil
	}
	return w.ledger(ledger.Session, id[:], ledger.Used, "")
}

// renew asks for a new session with a device if the one to send on was made
// before the user wanted all of them replaced. It goes on being used until the
// new one is there.
func (w *work) renew(d *deviceRow, s session.State) error {
	before := w.count().renewBefore
	if d.renewing || before.IsZero() || before.After(w.now) || !s.Created().Before(before) {
		return nil
	}
	d.renewing = true
	return w.wantLookup(d.account)
}

// deviceOfGone returns whose a dropped session was; zero: it was none of ours.
func (w *work) deviceOfGone(id protocol.SessionID) (device protocol.DeviceID, err error) {
	b, err := get(w.tx, keyGone(id))
	copy(device[:], b)
	return device, err
}

// reopen seals anew what was sealed on a session of ours that was not answered
// before its prekeys expired.
func (w *work) reopen(device protocol.DeviceID, d *deviceRow) error {
	for i := range d.sessions {
		if d.sessions[i].expired(w.now) {
			return w.sealAnew(device, d)
		}
	}
	return nil
}
