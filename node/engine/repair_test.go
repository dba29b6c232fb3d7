package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/store"
)

// Somebody is away for weeks: what is written to them is never sealed to keys
// that may be gone when they come back.
func TestLongAbsence(t *testing.T) {
	w, a, b := pair(t)
	a.loseSessions(b)
	b.away, b.offline = true, true
	var want []string
	for day := range 28 {
		text := time.Duration(day).String()
		want = append(want, text)
		a.send(b, text)
		w.pass(24 * time.Hour)
		if day == 12 { // somebody rotates bob's keys, as he would if he came by for a moment
			w.home.tamper = nil
			b.syncPrekeys()
		}
	}
	b.away, b.offline = false, false
	w.pass(time.Hour)
	if got := texts(b.history(a)); !slices.Equal(got, want) {
		t.Errorf("received %q", got)
	}
	for _, e := range b.events(KindUndecryptable) {
		if e.Cause != CauseExpiredPrekey {
			t.Errorf("event %s: %s", e.Cause, e.Text)
		}
	}
	for _, m := range a.history(b) { // this mailbox keeps mail for longer than it is waited for
		tooOld := w.now.Sub(m.Sent) > protocol.MailboxTTL
		if m.State != StateDelivered && !(tooOld && m.State == StateFailed) {
			_, steps := trace(t, a, m.ID)
			t.Errorf("%q is %s: %v", m.Text, m.State, steps)
		}
	}
}

// While the clock of one was wrong by years, it opened sessions that nobody
// accepts. When it is right again, everything goes on by itself.
func TestClockThatWasWrong(t *testing.T) {
	for name, wrong := range map[string]time.Duration{"ahead": 5 * 365 * 24 * time.Hour, "behind": -5 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w, a, b := pair(t)
			a.send(b, "before")
			w.pass(time.Minute)
			right := w.now
			a.loseSessions(b)
			w.now = w.now.Add(wrong)
			a.update(func(tx store.Tx) (Hint, error) {
				return a.e.Compose(tx, w.now, b.account(), protocol.NewMsgID(), "in between")
			})
			fresh, err := prekey.NewSigned(w.now, w.now.Add(prekey.SignedExpires), b.device(), b.e.id.DSK, w.rsa.Public().Hash())
			w.check(err)
			published := b.shelf().signed
			if wrong > 0 { // as if bob's had been valid for so long
				b.shelf().signed, b.shelf().oneTime = fresh.Record.Marshal(), nil
			}
			a.lookUp(b.account(), true)
			b.shelf().signed = published
			w.now = right.Add(time.Minute)
			a.lookUp(b.account(), false) // the record is stale now
			a.send(b, "after")
			w.pass(time.Hour)
			got := texts(b.history(a))
			want := []string{"before", "in between", "after"}
			if wrong > 0 { // then the record of bob was too old to write
				want = []string{"before", "after"}
			}
			if !slices.Equal(got, want) {
				t.Errorf("received %q", got)
			}
		})
	}
}

// Two devices that lose everything with each other again and again find
// together again each time, and keep no more sessions than they may.
func TestSessionsAreFewAndFound(t *testing.T) {
	w, a, b := pair(t)
	var want []string
	for round := range 12 {
		if round%2 == 0 {
			a.loseSessions(b)
		}
		if round%3 == 0 {
			b.loseSessions(a)
		}
		text := strings.Repeat("x", round+1)
		want = append(want, text)
		a.send(b, text)
		w.pass(6 * time.Hour)
		b.send(a, "answer")
		w.pass(6 * time.Hour)
	}
	var theirs []string
	for _, m := range b.history(a) {
		if !m.Mine {
			theirs = append(theirs, m.Text)
		}
	}
	if !slices.Equal(theirs, want) {
		t.Errorf("received %q", theirs)
	}
	for _, n := range w.nodes {
		if rows := len(n.rows(tableSession)); rows > protocol.MaxSessions {
			t.Errorf("%s keeps %d sessions", n.name, rows)
		}
	}
	w.checkEmpty()
}

// Refusals of a mailbox or a peer: what is kept, what is given up, and what
// the user is told.
func TestRefused(t *testing.T) {
	cases := []struct {
		code    protocol.Code
		state   State
		refresh bool
	}{
		{protocol.MailboxFull, StateQueued, false},
		{protocol.RateLimited, StateQueued, false},
		{protocol.NotContact, StateQueued, false},
		{protocol.Undecryptable, StateQueued, false},
		{protocol.StaleKey, StateQueued, false}, // a confirmed session has no stale keys
		{protocol.UnknownDevice, StateQueued, true},
		{protocol.Revoked, StateQueued, true},
		{protocol.TooLarge, StateFailed, false},
		{protocol.BadRequest, StateFailed, false},
	}
	for _, c := range cases {
		t.Run(c.code.String(), func(t *testing.T) {
			w, a, b := pair(t)
			b.away, b.offline, a.offline = true, true, true
			id := a.send(b, "text")
			q := a.queue(b)[0]
			refuse := func() {
				a.do(func(tx store.Tx) (Hint, error) {
					return a.e.Refused(tx, w.now, q.To, q.ID, protocol.Refuse(c.code, "no"), nil)
				})
			}
			refuse()
			m, steps := trace(t, a, id)
			if m.State != c.state {
				t.Errorf("state %s, want %s", m.State, c.state)
			}
			if last := steps[len(steps)-1]; !strings.Contains(last.Detail, c.code.String()) {
				t.Errorf("the trace ends with %+v", last)
			}
			if got := len(a.hint.Refresh) == 1; got != c.refresh {
				t.Errorf("refresh %v", got)
			}
			before := a.state()
			refuse() // again: nothing new
			if c.state == StateQueued && !slices.Equal(before, a.state()) {
				t.Error("the same refusal again changed something")
			}
			if c.state == StateFailed && (m.Problem == "" || a.contact(b).Queued != 0) {
				t.Errorf("problem %q, %d queued", m.Problem, a.contact(b).Queued)
			}
		})
	}
}

func TestWaitingReason(t *testing.T) {
	w, a, b := pair(t)
	b.away, b.offline, a.offline = true, true, true
	id := a.send(b, "text")
	wait := func(reason string) {
		a.do(func(tx store.Tx) (Hint, error) { return Hint{}, a.e.Waiting(tx, w.now, b.device(), reason) })
	}
	wait("no route")
	first := w.now
	w.now = w.now.Add(time.Minute)
	wait("no route")
	_, steps := trace(t, a, id)
	if last := steps[len(steps)-1]; last.What != "waiting" || !last.Time.Equal(first) || !strings.Contains(last.Detail, "no route") {
		t.Errorf("the trace ends with %+v", last)
	}
	b.away, b.offline, a.offline = false, false, false
	w.pass(time.Minute)
	_, steps = trace(t, a, id)
	var what []string
	for _, s := range steps {
		what = append(what, s.What)
	}
	if !slices.Equal(what, []string{"queued", "direct", "delivered"}) {
		t.Errorf("steps %q", what)
	}
	if n := len(a.rows(tableReason)); n != 0 {
		t.Errorf("%d reasons are left", n)
	}
}

// The mailbox loses the last thing that was written, so that no gap tells of
// it. That the other writes, and does not acknowledge it, does.
func TestLostMailIsSentAgain(t *testing.T) {
	w, a, b := pair(t)
	b.away, b.offline = true, true
	id := a.send(b, "lost")
	w.pass(time.Minute) // receipts of before go their way
	w.home.devices[b.device()].mail = nil
	w.pass(3 * time.Hour)
	if n := len(w.home.devices[b.device()].mail); n != 0 {
		t.Errorf("%d envelopes more for somebody who is away", n)
	}
	b.away, b.offline = false, false
	b.send(a, "did you write?")
	w.pass(2 * time.Hour)
	if s := a.message(id).State; s != StateDelivered || len(b.history(a)) != 2 {
		t.Errorf("state %s, %d messages", s, len(b.history(a)))
	}
	w.checkEmpty()
}

// Mail of a session that was dropped cannot be opened, but it is known whose it
// is: a repair brings it.
func TestMailOfADroppedSession(t *testing.T) {
	w, a, b := pair(t)
	b.away, b.offline = true, true
	id := a.send(b, "on the old session")
	w.settle()
	b.loseSessions(a)
	b.away, b.offline = false, false
	w.pass(time.Minute)
	if s := a.message(id).State; s != StateDelivered || len(b.history(a)) != 1 {
		t.Errorf("state %s, %d messages", s, len(b.history(a)))
	}
	w.pass(goneFor + time.Hour)
	for _, n := range w.nodes {
		if rows := len(n.rows(tableGone)); rows != 0 {
			t.Errorf("%d dropped sessions are remembered", rows)
		}
	}
	w.checkEmpty()
}

// A message whose key is gone although it never came is not called delivered.
func TestKeyGoneIsNotDelivered(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	a.send(b, "one")
	env := a.queue(b)[0].Envelope
	if code := b.receive(env, a.device(), Direct); code != protocol.OK {
		t.Fatal(code)
	}
	b.drop(tableSeen) // as if its key had gone for another reason
	if code := b.receive(env, a.device(), Direct); code != protocol.Undecryptable {
		t.Errorf("code %v", code)
	}
	w.pass(time.Hour)
	if got := texts(b.history(a)); !slices.Equal(got, []string{"one"}) {
		t.Errorf("received %q", got)
	}
}
