package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func (n *node) react(id protocol.MsgID, emoji string) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.React(tx, n.w.now, id, emoji) })
}

func (n *node) edit(id protocol.MsgID, text string) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.Edit(tx, n.w.now, id, text, nil) })
}

func (n *node) erase(id protocol.MsgID) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.Delete(tx, n.w.now, id) })
}

func (n *node) conceal(id protocol.MsgID) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.Hide(tx, n.w.now, id) })
}

func (n *node) pin(id protocol.MsgID, on bool) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.Pin(tx, n.w.now, id, on) })
}

func (n *node) setTimer(with protocol.AccountID, lasts time.Duration) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.SetTimer(tx, n.w.now, with, lasts) })
}

func (n *node) draft(with protocol.AccountID, d Draft) (protocol.MsgID, error) {
	id := protocol.NewMsgID()
	return id, n.update(func(tx store.Tx) (Hint, error) { return n.e.ComposeDraft(tx, n.w.now, with, id, d) })
}

func (n *node) settings(with protocol.AccountID) (s Settings) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		s, err = n.e.Settings(tx, with)
		return err
	})
	return s
}

func (n *node) pinned(with protocol.AccountID) (list []Message) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		list, err = n.e.Pinned(tx, with, 0)
		return err
	})
	return list
}

// does seals what only a program that breaks the rules sends.
func (n *node) does(to *node, a *wire.Action) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		return n.e.do(tx, n.w.now, func(w *work) error {
			d, err := w.device(to.device())
			if err != nil {
				return err
			}
			_, err = w.postOther(to.device(), d, wire.MailKind_MESSAGE, &wire.Content{Body: &wire.Content_Action{Action: a}})
			return err
		})
	})
	n.w.settle()
}

// looks is what people see of messages.
func looks(list []Message) (out []string) {
	for _, m := range list {
		s := m.Text
		if m.Deleted {
			s += "(deleted)"
		}
		if !m.Edited.IsZero() {
			s += "(edited)"
		}
		if m.Pinned {
			s += "(pinned)"
		}
		if m.File != nil {
			s += "(" + m.File.Name + " " + m.File.Answer.String() + ")"
		}
		for _, r := range m.Reactions {
			s += " " + r.Emoji
		}
		out = append(out, s)
	}
	return out
}

func wantLooks(t *testing.T, what string, got []Message, want ...string) {
	t.Helper()
	if !slices.Equal(looks(got), want) {
		t.Errorf("%s: %q, want %q", what, looks(got), want)
	}
}

// holds tells whether a store has a text anywhere.
func (n *node) holds(text string) (found bool) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		for pair, err := range tx.Scan([]byte{0}, nil) {
			if err != nil {
				return err
			}
			found = found || bytes.Contains(pair.Value, []byte(text))
		}
		return nil
	})
	return found
}

// What one does to a message everybody sees, on all devices, and doing it again
// changes nothing.
func TestActionsShowEverywhere(t *testing.T) {
	w, alices, bobs := crowd(t, 2, 2)
	a, b := alices[0], bobs[0]
	first, second := a.send(b, "first"), a.send(b, "second")
	w.settle()
	w.pass(time.Minute)
	same := func(what string, want ...string) {
		t.Helper()
		w.settle()
		for _, n := range w.nodes {
			other := b
			if n.account() == b.account() {
				other = a
			}
			wantLooks(t, what+" at "+n.name, n.history(other), want...)
		}
	}
	w.check(b.react(first, "👍"))
	same("a reaction", "first 👍", "second")
	w.check(bobs[1].react(first, "🎉"))
	same("another in its place, of another device", "first 🎉", "second")
	events := len(a.events(KindChanged))
	w.check(b.react(first, "🎉"))
	same("the same again", "first 🎉", "second")
	if got := len(a.events(KindChanged)); got != events {
		t.Errorf("the same again makes %d events", got-events)
	}
	w.check(b.react(first, ""))
	same("taken back", "first", "second")
	w.check(alices[1].edit(first, "First"))
	same("an edit", "First(edited)", "second")
	w.check(b.pin(second, true))
	same("a pin", "First(edited)", "second(pinned)")
	if got := texts(alices[1].pinned(b.account())); !slices.Equal(got, []string{"second"}) {
		t.Errorf("pinned: %q", got)
	}
	w.check(a.pin(second, false))
	same("a pin less", "First(edited)", "second")
	reply, err := b.draft(a.account(), Draft{Text: "yes", ReplyTo: first})
	w.check(err)
	same("an answer", "First(edited)", "second", "yes")
	for _, n := range w.nodes {
		if got := n.message(reply).ReplyTo; got != (Ref{a.account(), first}) {
			t.Errorf("%s: it answers %v", n.name, got)
		}
	}
	w.check(b.react(first, "👍"))
	w.check(a.erase(first))
	same("a deletion", "(deleted)", "second", "yes")
	for _, n := range w.nodes {
		if n.holds("First") || n.holds("👍") {
			t.Errorf("%s still holds what was deleted", n.name)
		}
	}
	if err := b.react(first, "👍"); !errors.Is(err, ErrDeleted) {
		t.Errorf("a reaction to nothing: %v", err)
	}
}

// What was deleted for oneself is gone on the own devices, and nowhere else; and a
// copy of it does not come back.
func TestDeleteForMe(t *testing.T) {
	w, alices, bobs := crowd(t, 2, 1)
	a, b := alices[0], bobs[0]
	id := b.send(a, "a secret of bob")
	w.settle()
	w.pass(time.Minute)
	w.check(alices[1].conceal(id))
	w.settle()
	for _, n := range alices {
		if len(n.history(b)) != 0 || n.holds("a secret of bob") || n.contact(b).Unread != 0 {
			t.Errorf("it is still there, %d unread", n.contact(b).Unread)
		}
		if err := n.react(id, "👍"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a reaction: %v", err)
		}
	}
	if got := texts(b.history(a)); !slices.Equal(got, []string{"a secret of bob"}) {
		t.Errorf("its author has %q", got)
	}
	w.check(b.trySend(a, id, "a secret of bob"))
	b.loseSessions(a)
	a.loseSessions(b)
	w.check(b.edit(id, "a secret of bob, in other words"))
	w.pass(time.Hour)
	if len(a.history(b)) != 0 || a.holds("a secret of bob") {
		t.Error("it came back")
	}
}

// An own message that is still on its way can be deleted here: it goes out all the
// same, and its text is destroyed once it has.
func TestDeleteForMeOnItsWay(t *testing.T) {
	w, a, b := pair(t)
	b.away, b.offline = true, true
	a.offline = true
	id := a.send(b, "on its way")
	w.check(a.conceal(id))
	if len(a.history(b)) != 0 {
		t.Error("it is still shown")
	}
	a.offline, b.away, b.offline = false, false, false
	w.pass(time.Minute)
	if got := texts(b.history(a)); !slices.Equal(got, []string{"on its way"}) {
		t.Errorf("received: %q", got)
	}
	if a.holds("on its way") {
		t.Error("the text is still here")
	}
}

// A message that is deleted before it could be sealed leaves without its text.
func TestDeleteBeforeSending(t *testing.T) {
	w, a, b := pair(t)
	a.loseSessions(b)
	a.offline, b.away = true, true
	id := a.send(b, "never said")
	w.check(a.erase(id))
	a.offline, b.away = false, false
	w.pass(time.Minute)
	wantLooks(t, "received", b.history(a), "(deleted)")
	for _, n := range w.nodes {
		if n.holds("never said") {
			t.Errorf("%s has the text", n.name)
		}
	}
}

// Changes are for 24 hours, and for the author.
func TestChangesHaveLimits(t *testing.T) {
	w, a, b := pair(t)
	id := a.send(b, "mine")
	w.settle()
	for what, try := range map[string]struct{ got, want error }{
		"edit by the other":       {b.edit(id, "yours"), ErrNotAuthor},
		"deletion by the other":   {b.erase(id), ErrNotAuthor},
		"edit of nothing":         {a.edit(protocol.NewMsgID(), "x"), ErrNotFound},
		"too long":                {a.edit(id, strings.Repeat("x", protocol.MaxText+1)), ErrTooLong},
		"no emoji":                {b.react(id, "ok"), ErrBadEmoji},
		"two emoji":               {b.react(id, "👍👍"), ErrBadEmoji},
		"a timer of nothing":      {a.setTimer(b.account(), time.Millisecond), ErrBadTimer},
		"a timer with a stranger": {a.setTimer(protocol.AccountID{1}, time.Hour), ErrNotContact},
	} {
		if !errors.Is(try.got, try.want) {
			t.Errorf("%s: %v, want %v", what, try.got, try.want)
		}
	}
	if _, err := b.draft(a.account(), Draft{Text: "?", ReplyTo: protocol.NewMsgID()}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an answer to nothing: %v", err)
	}
	w.pass(24*time.Hour + time.Minute)
	for what, err := range map[string]error{"edit": a.edit(id, "late"), "deletion": a.erase(id)} {
		if !errors.Is(err, ErrTooLate) {
			t.Errorf("%s after a day: %v", what, err)
		}
	}
	w.check(b.react(id, "👍"))
	w.settle()
	wantLooks(t, "a reaction after a day", a.history(b), "mine 👍")
}

// What a program sends that does not keep to the rules changes nothing.
func TestActionsThatBreakTheRules(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.add("alice"), w.add("bob"), w.add("carol")
	w.befriend(a, b)
	w.befriend(a, c)
	mine, theirs := a.send(b, "of alice"), b.send(a, "of bob")
	private := a.send(c, "to carol")
	w.settle()
	at := uint64(millis(w.now))
	ref := func(by *node, id protocol.MsgID) *wire.Ref { return Ref{by.account(), id}.wire() }
	for what, act := range map[string]*wire.Action{
		"edit of another's":                 {To: ref(a, mine), AtMs: at, What: &wire.Action_Edit{Edit: &wire.Edited{Text: "forged"}}},
		"deletion of another's":             {To: ref(a, mine), AtMs: at, What: &wire.Action_Delete{Delete: &wire.Deleted{}}},
		"edit of another's as one's own":    {To: ref(b, mine), AtMs: at, What: &wire.Action_Edit{Edit: &wire.Edited{Text: "forged"}}},
		"reaction in another conversation":  {To: ref(a, private), AtMs: at, What: &wire.Action_React{React: "👎"}},
		"deletion in another conversation":  {To: ref(b, private), AtMs: at, What: &wire.Action_Delete{Delete: &wire.Deleted{}}},
		"text as a reaction":                {To: ref(a, mine), AtMs: at, What: &wire.Action_React{React: "very bad"}},
		"many emoji":                        {To: ref(a, mine), AtMs: at, What: &wire.Action_React{React: strings.Repeat("👎", 9)}},
		"hidden here":                       {To: ref(a, mine), AtMs: at, What: &wire.Action_Hide{Hide: true}},
		"quiet here":                        {AtMs: at, What: &wire.Action_QuietMs{QuietMs: 1 << 50}},
		"edit with too long a text":         {To: ref(b, theirs), AtMs: at, What: &wire.Action_Edit{Edit: &wire.Edited{Text: strings.Repeat("x", protocol.MaxText+1)}}},
		"edit after a day":                  {To: ref(b, theirs), AtMs: at + uint64(25*time.Hour/time.Millisecond), What: &wire.Action_Edit{Edit: &wire.Edited{Text: "late"}}},
		"pin of next week":                  {To: ref(a, mine), AtMs: at + uint64(7*24*time.Hour/time.Millisecond), What: &wire.Action_Pin{Pin: true}},
		"timer of next week":                {AtMs: at + uint64(7*24*time.Hour/time.Millisecond), What: &wire.Action_TimerMs{TimerMs: 1000}},
		"nothing":                           {To: ref(a, mine), AtMs: at},
		"no message":                        {AtMs: at, What: &wire.Action_React{React: "👎"}},
		"no time":                           {To: ref(a, mine), What: &wire.Action_React{React: "👎"}},
		"a name that is none":               {To: &wire.Ref{Author: []byte{1}, MsgId: mine[:]}, AtMs: at, What: &wire.Action_React{React: "👎"}},
		"something done to what is unknown": {To: ref(b, protocol.NewMsgID()), AtMs: at, What: &wire.Action_Pin{Pin: true}},
	} {
		b.does(a, act)
		wantLooks(t, what, a.history(b), "of alice", "of bob")
		wantLooks(t, what, a.history(c), "to carol")
	}
	if s := a.settings(b.account()); s != (Settings{}) {
		t.Errorf("settings: %+v", s)
	}
}

// A stranger does nothing to anything.
func TestActionsOfStrangers(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	w.befriend(a, b)
	id := a.send(b, "of alice")
	w.settle()
	b.do(func(tx store.Tx) (Hint, error) { return b.e.Remove(tx, w.now, a.account()) })
	a.does(b, &wire.Action{To: Ref{a.account(), id}.wire(), AtMs: uint64(millis(w.now)), What: &wire.Action_Edit{Edit: &wire.Edited{Text: "forged"}}})
	wantLooks(t, "after removal", b.history(a), "of alice")
}

// Ten thousand reactions leave one, and as many to messages that do not exist leave
// as many as may wait.
func TestFloodOfReactions(t *testing.T) {
	w, a, b := pair(t)
	id := a.send(b, "of alice")
	w.settle()
	apply := func(acts ...*wire.Action) {
		a.do(func(tx store.Tx) (Hint, error) {
			return a.e.do(tx, w.now, func(w *work) error {
				in := &incoming{d: &deviceRow{account: b.account()}}
				for _, act := range acts {
					if err := w.receiveAction(in, act); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	var flood []*wire.Action
	for i := range 10_000 {
		emoji := []string{"👍", "👎"}[i%2]
		flood = append(flood, &wire.Action{To: Ref{a.account(), id}.wire(), AtMs: uint64(millis(w.now)) + uint64(i), What: &wire.Action_React{React: emoji}})
	}
	for part := range slices.Chunk(flood, 500) {
		apply(part...)
	}
	wantLooks(t, "after the flood", a.history(b), "of alice 👎")
	if got := len(a.rows(tableMark)); got != 1 {
		t.Errorf("%d marks", got)
	}
	for range 1000 {
		apply(&wire.Action{To: Ref{a.account(), protocol.NewMsgID()}.wire(), AtMs: uint64(millis(w.now)), What: &wire.Action_React{React: "👍"}})
	}
	if got := len(a.rows(tableAction)); got != maxEarlyBy*3/4 {
		t.Errorf("%d reactions wait, want %d", got, maxEarlyBy*3/4)
	}
	timers := a.timers(timerAction)
	to := protocol.NewMsgID()
	for i := range 10 { // each newer than the one before
		at := uint64(millis(w.now)) + uint64(i)
		apply(&wire.Action{To: Ref{b.account(), to}.wire(), AtMs: at, What: &wire.Action_Delete{Delete: &wire.Deleted{}}})
	}
	if got, rows := a.timers(timerAction), len(a.rows(tableAction)); got != timers+1 || rows != maxEarlyBy*3/4+1 {
		t.Errorf("a deletion after the flood: %d timers, was %d; %d rows", got, timers, rows)
	}
	w.pass(earlyFor + time.Hour)
	if got := len(a.rows(tableAction)); got != 0 {
		t.Errorf("%d reactions wait for ever", got)
	}
}

// A message that disappears does so on all devices of both, from when it was read, and
// at its author's from when it was written; a restart does not keep it.
func TestMessagesDisappear(t *testing.T) {
	w, alices, bobs := crowd(t, 2, 2)
	a, b := alices[0], bobs[0]
	w.check(b.setTimer(a.account(), time.Hour))
	w.settle()
	for _, n := range w.nodes {
		other := b
		if n.account() == b.account() {
			other = a
		}
		if got := n.settings(other.account()); got.Timer != time.Hour {
			t.Errorf("%s: the timer is %v", n.name, got.Timer)
		}
	}
	a.send(b, "soon gone")
	w.settle()
	w.pass(50 * time.Minute)
	b.do(func(tx store.Tx) (Hint, error) { return b.e.MarkRead(tx, w.now, a.account(), 10) })
	w.pass(30 * time.Minute)
	for _, n := range alices {
		n.load()
		if len(n.history(b)) != 0 || n.holds("soon gone") {
			t.Error("its author still has it")
		}
	}
	for _, n := range bobs {
		if got := n.history(a); len(got) != 1 || got[0].Expires.IsZero() {
			t.Errorf("who has read it half an hour ago: %q", texts(got))
		}
		n.load()
	}
	w.now = w.now.Add(time.Hour)
	w.pass(time.Minute)
	for _, n := range bobs {
		if len(n.history(a)) != 0 || n.holds("soon gone") {
			t.Error("who has read it still has it")
		}
	}
	w.check(a.setTimer(b.account(), 0))
	w.settle()
	a.send(b, "stays")
	w.pass(48 * time.Hour)
	wantLooks(t, "without a timer", b.history(a), "stays")
}

// A message whose time is over before it could leave is not shown any more, and still
// arrives.
func TestDisappearsOnItsWay(t *testing.T) {
	w, a, b := pair(t)
	w.check(a.setTimer(b.account(), time.Minute))
	w.settle()
	a.loseSessions(b)
	a.offline, b.away = true, true
	a.send(b, "late and short")
	w.pass(time.Hour)
	if len(a.history(b)) != 0 {
		t.Error("its author still sees it")
	}
	a.offline, b.away = false, false
	w.pass(time.Minute)
	if got := texts(b.history(a)); !slices.Equal(got, []string{"late and short"}) || a.holds("late and short") {
		t.Errorf("received %q", got)
	}
}

// Quiet is for the devices of one account.
func TestQuiet(t *testing.T) {
	w, alices, bobs := crowd(t, 2, 1)
	b := bobs[0]
	until := w.now.Add(8 * time.Hour)
	alices[0].do(func(tx store.Tx) (Hint, error) { return alices[0].e.Quiet(tx, w.now, b.account(), until) })
	w.settle()
	b.send(alices[0], "psst")
	w.settle()
	for _, n := range alices {
		last := n.events(KindMessage)
		if got := n.settings(b.account()).Quiet; !got.Equal(until) || !last[len(last)-1].Quiet {
			t.Errorf("quiet until %v, event %+v", got, last[len(last)-1])
		}
	}
	if !b.settings(alices[0].account()).Quiet.IsZero() {
		t.Error("the other hears of it")
	}
	w.pass(9 * time.Hour)
	b.send(alices[0], "hey")
	w.settle()
	if last := alices[1].events(KindMessage); last[len(last)-1].Quiet {
		t.Error("quiet for ever")
	}
}

// A device that is added later, and a backup, have messages as they are now.
func TestActionsInThePast(t *testing.T) {
	w, a, b := pair(t)
	edited, deleted, hidden := a.send(b, "edited"), a.send(b, "deleted"), a.send(b, "hidden")
	w.settle()
	w.check(a.edit(edited, "Edited"))
	w.check(b.react(edited, "👍"))
	w.check(a.pin(edited, true))
	w.check(a.erase(deleted))
	w.check(a.conceal(hidden))
	reply, err := a.draft(b.account(), Draft{Text: "answer", ReplyTo: edited})
	w.check(err)
	w.settle()
	w.check(a.setTimer(b.account(), 60*24*time.Hour))
	second := w.link(a)
	w.settle()
	a.do(func(tx store.Tx) (Hint, error) { return a.e.SharePast(tx, w.now, second.device(), true) })
	w.pass(time.Minute)
	wantLooks(t, "the new device", second.history(b), "Edited(edited)(pinned) 👍", "(deleted)", "answer")
	if got := second.message(reply).ReplyTo.ID; got != edited {
		t.Errorf("it answers %v", got)
	}
	if got := second.settings(b.account()).Timer; got != 60*24*time.Hour {
		t.Errorf("the new device's timer is %v", got)
	}
	w.check(b.react(edited, "🎉"))
	w.settle()
	wantLooks(t, "the new device, later", second.history(b), "Edited(edited)(pinned) 🎉", "(deleted)", "answer")
}

func TestOneEmoji(t *testing.T) {
	for _, s := range []string{"👍", "👍🏽", "❤️", "❤", "🇩🇪", "1️⃣", "👩‍❤️‍💋‍👨", "👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "☺️", "✅", "™️", "🏳️‍🌈", "🫨", "⁉️", "©️"} {
		if !oneEmoji(s) {
			t.Errorf("%q is one emoji", s)
		}
	}
	for _, s := range []string{"", "a", "1", "👍👍", "👍 ", " ", "\u200d", "👍\u200d", "🇩", "é", "中", "\u202e", "\u200b", "\ufe0f", "\x1b", "👍\n", fmt.Sprint(strings.Repeat("👍\u200d", 9), "👍")} {
		if oneEmoji(s) {
			t.Errorf("%q is not one emoji", s)
		}
	}
}
