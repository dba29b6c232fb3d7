package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func (n *node) relation(other *node, fn func(*Engine) func(store.Tx, time.Time, protocol.AccountID) (Hint, error)) error {
	return n.update(func(tx store.Tx) (Hint, error) { return fn(n.e)(tx, n.w.now, other.account()) })
}

type relationFunc = func(*Engine) func(store.Tx, time.Time, protocol.AccountID) (Hint, error)

var (
	accept  relationFunc = func(e *Engine) func(store.Tx, time.Time, protocol.AccountID) (Hint, error) { return e.Accept }
	decline relationFunc = func(e *Engine) func(store.Tx, time.Time, protocol.AccountID) (Hint, error) { return e.Decline }
	block   relationFunc = func(e *Engine) func(store.Tx, time.Time, protocol.AccountID) (Hint, error) { return e.Block }
	unblock relationFunc = func(e *Engine) func(store.Tx, time.Time, protocol.AccountID) (Hint, error) { return e.Unblock }
	remove  relationFunc = func(e *Engine) func(store.Tx, time.Time, protocol.AccountID) (Hint, error) { return e.Remove }
)

func TestContactRequest(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	if err := a.trySend(b, protocol.NewMsgID(), "x"); !errors.Is(err, ErrNotContact) {
		t.Errorf("to a stranger: %v", err)
	}
	a.ask(b)
	if err := a.trySend(b, protocol.NewMsgID(), "x"); !errors.Is(err, ErrNotAccepted) {
		t.Errorf("before the answer: %v", err)
	}
	w.settle()
	c := b.contact(a)
	if c.Relation != Incoming || c.Note != "hello" || c.Name != "alice" || len(b.events(KindRequest)) != 1 {
		t.Fatalf("incoming %+v", c)
	}
	if a.allows(b.account()) != true || b.allows(a.account()) {
		t.Error("allow lists before the answer")
	}
	a.ask(b)
	w.settle()
	if len(b.events(KindRequest)) != 1 {
		t.Error("asking twice is two requests")
	}
	w.check(b.relation(a, accept))
	w.check(b.relation(a, accept))
	w.settle()
	if a.contact(b).Relation != Accepted || len(a.events(KindAccepted)) != 1 {
		t.Fatalf("after the answer %+v", a.contact(b))
	}
	w.pass(time.Minute)
	w.checkEmpty()
	if number(t, a, b) != number(t, b, a) {
		t.Error("safety numbers differ")
	}
}

func number(t *testing.T, a, b *node) (s string) {
	a.view(func(tx store.Tx) (err error) {
		s, err = a.e.SafetyNumber(tx, b.account())
		return err
	})
	return s
}

func TestBothAsk(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	a.ask(b)
	b.ask(a)
	w.settle()
	if ra, rb := a.contact(b).Relation, b.contact(a).Relation; ra != Accepted || rb != Accepted {
		t.Fatalf("%q and %q", ra, rb)
	}
	a.send(b, "1")
	b.send(a, "2")
	w.pass(time.Minute)
	if len(a.history(b)) != 2 || len(b.history(a)) != 2 {
		t.Error("messages are missing")
	}
	w.checkEmpty()
}

func TestDeclineIsSilent(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	a.ask(b)
	w.settle()
	w.check(b.relation(a, decline))
	w.settle()
	if r := a.contact(b).Relation; r != Requested {
		t.Errorf("the asker sees %q", r)
	}
	var list []Contact
	b.view(func(tx store.Tx) (err error) {
		list, err = b.e.Contacts(tx)
		return err
	})
	if len(list) != 0 || len(b.sent) != 0 {
		t.Errorf("%d contacts, %d envelopes left", len(list), len(b.sent))
	}
}

// A blocked contact notices nothing: its messages are taken and dropped.
func TestBlock(t *testing.T) {
	w, a, b := pair(t)
	b.away = true
	waiting := b.send(a, "was to go")
	w.check(b.relation(a, block))
	w.settle()
	if m := b.message(waiting); m.State != StateFailed {
		t.Errorf("a message to a blocked contact is %s", m.State)
	}
	b.away = false
	sent := len(b.sent)
	id := a.send(b, "hello?")
	w.pass(time.Hour)
	if s := a.message(id).State; s != StateDelivered {
		t.Errorf("the blocked contact sees %s", s)
	}
	if len(b.sent) != sent || len(b.history(a)) != 1 {
		t.Error("something came or went")
	}
	if err := b.trySend(a, protocol.NewMsgID(), "x"); !errors.Is(err, ErrBlocked) {
		t.Errorf("%v", err)
	}
	w.check(b.relation(a, unblock))
	a.send(b, "and now?")
	w.pass(time.Hour)
	if got := texts(b.history(a)); !slices.Equal(got, []string{"was to go", "and now?"}) {
		t.Errorf("received %q", got)
	}
}

func TestRemoveAndAddAgain(t *testing.T) {
	w, a, b := pair(t)
	a.send(b, "1")
	w.settle()
	w.check(b.relation(a, remove))
	w.settle()
	id := a.send(b, "2")
	w.pass(time.Hour)
	if s := a.message(id).State; s != StateQueued {
		t.Errorf("state %s of a message to somebody who removed us", s)
	}
	_, steps := trace(t, a, id)
	if last := steps[len(steps)-1]; last.What != "waiting" || !strings.Contains(last.Detail, "not_contact") {
		t.Errorf("the trace ends with %+v", last)
	}
	b.ask(a)
	w.pass(time.Hour)
	if r := b.contact(a).Relation; r != Accepted { // alice never removed bob
		t.Fatalf("relation %q", r)
	}
	if got := texts(b.history(a)); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("received %q", got)
	}
	w.checkEmpty()
}

func trace(t *testing.T, n *node, id protocol.MsgID) (m Message, steps []Step) {
	t.Helper()
	n.view(func(tx store.Tx) (err error) {
		m, steps, err = n.e.Trace(tx, n.w.now, id)
		return err
	})
	return m, steps
}

func TestStrangersMayOnlyAsk(t *testing.T) {
	w, a, b := pair(t)
	mallory := w.add("mallory")
	mallory.ask(b)
	w.settle()
	pretend := func(fn func(*peerRow)) {
		mallory.do(func(tx store.Tx) (Hint, error) {
			x, err := mallory.e.begin(tx, w.now)
			if err != nil {
				return Hint{}, err
			}
			p, err := x.peer(b.account())
			if err != nil {
				return Hint{}, err
			}
			fn(p)
			return x.end()
		})
	}
	pretend(func(p *peerRow) { p.relation = Accepted })
	mallory.send(b, "buy this")
	for _, q := range mallory.queue(b) {
		if code := b.receive(q.Envelope, mallory.device(), Direct); code != protocol.NotContact {
			t.Errorf("code %v", code)
		}
	}
	if len(b.history(mallory)) != 0 || len(b.history(a)) != 0 {
		t.Error("a stranger's text is shown")
	}
}

// A request under a name that the directory binds to somebody else is dropped.
func TestRequestUnderAWrongName(t *testing.T) {
	w := newWorld(t)
	b, mallory := w.add("bob"), w.add("mallory")
	mallory.e.id.Name = "alice"
	mallory.ask(b)
	w.settle()
	if len(b.events(KindRequest)) != 0 || b.contact(mallory).Relation != Stranger {
		t.Error("the request was taken")
	}
}

func TestIncomingRequestsAreBounded(t *testing.T) {
	w := newWorld(t)
	b, m := w.add("bob"), w.add("mallory")
	b.do(func(tx store.Tx) (Hint, error) {
		x, err := b.e.begin(tx, w.now)
		x.count().incoming = maxIncoming
		_, err2 := x.end()
		return Hint{}, errors.Join(err, err2)
	})
	m.ask(b)
	w.settle()
	if len(b.events(KindRequest)) != 0 {
		t.Error("one request too many was taken")
	}
}

func TestRefusals(t *testing.T) {
	w, a, b := pair(t)
	f := a.found("bob", false)
	own := a.found("alice", false)
	id := a.send(b, "first")
	cases := []struct {
		name string
		want error
		fn   func(tx store.Tx) (Hint, error)
	}{
		{"self", ErrSelf, func(tx store.Tx) (Hint, error) { return a.e.Add(tx, w.now, own, "") }},
		{"long note", ErrTooLong, func(tx store.Tx) (Hint, error) { return a.e.Add(tx, w.now, f, strings.Repeat("x", 281)) }},
		{"note not UTF-8", ErrBadText, func(tx store.Tx) (Hint, error) { return a.e.Add(tx, w.now, f, "\xff") }},
		{"long text", ErrTooLong, func(tx store.Tx) (Hint, error) {
			return a.e.Compose(tx, w.now, b.account(), protocol.NewMsgID(), strings.Repeat("x", protocol.MaxText+1))
		}},
		{"text not UTF-8", ErrBadText, func(tx store.Tx) (Hint, error) {
			return a.e.Compose(tx, w.now, b.account(), protocol.NewMsgID(), "a\xc3")
		}},
		{"same id, other text", ErrConflict, func(tx store.Tx) (Hint, error) {
			return a.e.Compose(tx, w.now, b.account(), id, "second")
		}},
		{"unknown account", ErrNotFound, func(tx store.Tx) (Hint, error) { return a.e.Accept(tx, w.now, protocol.AccountID{1}) }},
		{"accept without request", nil, func(tx store.Tx) (Hint, error) { return a.e.Accept(tx, w.now, b.account()) }},
	}
	for _, c := range cases {
		if err := a.update(c.fn); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	w.check(a.trySend(b, id, "first"))
	w.settle()
	if n := len(b.history(a)); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestQueueIsBounded(t *testing.T) {
	w, a, b := pair(t)
	a.offline, a.away = true, true
	a.do(func(tx store.Tx) (Hint, error) {
		x, err := a.e.begin(tx, w.now)
		if err != nil {
			return Hint{}, err
		}
		p, err := x.peer(b.account())
		if err != nil {
			return Hint{}, err
		}
		p.queued = maxQueued - 1
		return x.end()
	})
	w.check(a.trySend(b, protocol.NewMsgID(), "the last"))
	if err := a.trySend(b, protocol.NewMsgID(), "too many"); !errors.Is(err, ErrQueueFull) {
		t.Errorf("%v", err)
	}
}
