package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// link adds a device to the account of a node, as a person does: with its
// contacts, and announced.
func (w *world) link(of *node) *node {
	w.t.Helper()
	n := w.addDevice(of)
	w.check(of.setOwnChain(n.chain().Bytes()))
	w.publish(of.name, n.chain())
	n.connect()
	return n
}

// chain is what the rendezvous has.
func (w *world) chain(name string) *account.Chain {
	w.t.Helper()
	c, err := account.ParseChain(w.home.names[name].chain)
	w.check(err)
	return c
}

// crowd is two accounts with several devices each.
func crowd(t testing.TB, alices, bobs int) (w *world, a, b []*node) {
	w, a0, b0 := pair(t)
	a, b = []*node{a0}, []*node{b0}
	for range alices - 1 {
		a = append(a, w.link(a0))
	}
	for range bobs - 1 {
		b = append(b, w.link(b0))
	}
	w.settle()
	w.pass(time.Minute)
	return w, a, b
}

func shown(list []Message) (out []string) {
	for _, m := range list {
		out = append(out, fmt.Sprintf("%s %v %s", m.Text, m.Mine, m.State))
	}
	return out
}

// A text shows on every device of both, once, and all of them agree on its
// state.
func TestIM05_EveryDeviceShowsEverything(t *testing.T) {
	w, a, b := crowd(t, 3, 2)
	id := a[0].send(b[0], "hello")
	w.settle()
	b[1].send(a[0], "hi")
	w.settle()
	a[2].send(b[0], "bye")
	w.pass(10 * time.Second)
	for _, n := range a {
		if got, want := shown(n.history(b[0])), []string{"hello true delivered", "hi false received", "bye true delivered"}; !slices.Equal(got, want) {
			t.Errorf("alice has %q", got)
		}
		if c := n.contact(b[0]); c.Unread != 1 || c.Queued != 0 {
			t.Errorf("alice has %d unread, %d queued", c.Unread, c.Queued)
		}
	}
	for _, n := range b {
		if got, want := shown(n.history(a[0])), []string{"hello false received", "hi true delivered", "bye false received"}; !slices.Equal(got, want) {
			t.Errorf("bob has %q", got)
		}
	}
	a[1].do(func(tx store.Tx) (Hint, error) { return a[1].e.MarkRead(tx, w.now, b[0].account(), 1<<40) })
	b[1].do(func(tx store.Tx) (Hint, error) { return b[1].e.MarkRead(tx, w.now, a[0].account(), 1<<40) })
	w.pass(10 * time.Second)
	for _, n := range a {
		if got, want := shown(n.history(b[0])), []string{"hello true read", "hi false received", "bye true read"}; !slices.Equal(got, want) {
			t.Errorf("alice has %q", got)
		}
		if c := n.contact(b[0]); c.Unread != 0 {
			t.Errorf("alice has %d unread", c.Unread)
		}
	}
	for i, n := range b {
		if got := n.history(a[0])[1].State; got != StateRead {
			t.Errorf("bob's own message is %s on device %d", got, i)
		}
		if c := n.contact(a[0]); c.Unread != 0 {
			t.Errorf("bob has %d unread", c.Unread)
		}
	}
	if m := a[2].message(id); m.Text != "hello" || !m.Mine {
		t.Errorf("message by id: %+v", m)
	}
	w.pass(time.Hour)
	w.checkEmpty()
}

// Copies for our own devices are no state of the message, and do not hold it up.
func TestIM05_CopiesDoNotCount(t *testing.T) {
	w, a, b := crowd(t, 2, 1)
	a[1].away, a[1].offline, b[0].away, b[0].offline = true, true, true, true
	id := a[0].send(b[0], "text")
	w.settle()
	if s := a[0].message(id).State; s != StateStored {
		t.Errorf("state %s with both in their mailboxes", s)
	}
	a[1].away, a[1].offline = false, false
	w.settle()
	if s := a[0].message(id).State; s != StateStored {
		t.Errorf("state %s when only our own device has it", s)
	}
	b[0].away, b[0].offline = false, false
	w.pass(time.Minute)
	for _, n := range a {
		if s := n.message(id).State; s != StateDelivered {
			t.Errorf("state %s at the end", s)
		}
	}
	w.checkEmpty()
}

// A request comes to all devices; one answers for all.
func TestIM05_RequestIsAnsweredOnce(t *testing.T) {
	for _, accept := range []bool{true, false} {
		w := newWorld(t)
		a, b := w.add("alice"), w.add("bob")
		b2 := w.link(b)
		w.settle()
		a.ask(b)
		w.settle()
		for _, n := range []*node{b, b2} {
			if r := n.contact(a).Relation; r != Incoming {
				t.Fatalf("relation %q", r)
			}
		}
		want := Stranger
		if accept {
			want = Accepted
			b2.accept(a)
		} else {
			b2.do(func(tx store.Tx) (Hint, error) { return b2.e.Decline(tx, w.now, a.account()) })
		}
		w.pass(time.Minute)
		for _, n := range []*node{b, b2} {
			if r := n.contact(a).Relation; r != want {
				t.Errorf("relation %q after the answer, want %q", r, want)
			}
		}
		if requests := b.events(KindRequest); len(requests) != 1 {
			t.Errorf("%d requests were shown", len(requests))
		}
		if !accept {
			continue
		}
		a.send(b, "to both")
		b.send(a, "from the other")
		w.pass(time.Minute)
		for _, n := range []*node{b, b2} {
			if got := len(n.history(a)); got != 2 {
				t.Errorf("%d messages", got)
			}
		}
	}
}

// The latest change of a contact wins on all devices, whichever comes first.
func TestIM05_LatestChangeWins(t *testing.T) {
	w, a, b := crowd(t, 2, 1)
	relate := func(n *node, fn func(store.Tx, time.Time, protocol.AccountID) (Hint, error)) {
		n.do(func(tx store.Tx) (Hint, error) { return fn(tx, w.now, b[0].account()) })
	}
	for _, n := range a {
		n.away, n.offline = true, true
	}
	relate(a[0], a[0].e.Block)
	w.now = w.now.Add(time.Second)
	a[1].do(func(tx store.Tx) (Hint, error) { return a[1].e.SetVerified(tx, w.now, b[0].account(), true) })
	for _, n := range a {
		n.away, n.offline = false, false
	}
	w.pass(time.Minute)
	for i, n := range a {
		if c := n.contact(b[0]); c.Relation != Accepted || !c.Verified {
			t.Errorf("device %d: %q, verified %v", i, c.Relation, c.Verified)
		}
	}
	relate(a[1], a[1].e.Block)
	w.pass(time.Minute)
	if c := a[0].contact(b[0]); c.Relation != Blocked {
		t.Errorf("relation %q", c.Relation)
	}
	if a[0].allows(b[0].account()) {
		t.Error("the allow list still has the contact")
	}
	relate(a[0], a[0].e.Unblock)
	w.pass(time.Minute)
	b[0].send(a[0], "again")
	w.pass(5 * time.Minute)
	for i, n := range a {
		if c := n.contact(b[0]); c.Relation != Accepted {
			t.Errorf("device %d: %q", i, c.Relation)
		}
		if got := texts(n.history(b[0])); !slices.Equal(got, []string{"again"}) {
			t.Errorf("device %d has %q", i, got)
		}
	}
}

// A sibling's text to somebody whom this device does not know yet is not lost.
func TestIM05_TextBeforeItsContact(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	a2 := w.link(a)
	w.settle()
	a2.away, a2.offline = true, true
	w.befriend(a, b)
	a.send(b, "first")
	w.settle()
	shelf := w.home.devices[a2.device()]
	slices.Reverse(shelf.mail)
	a2.offline = false
	w.pass(10 * time.Minute)
	if got := texts(a2.history(b)); !slices.Equal(got, []string{"first"}) {
		t.Errorf("the other device has %q", got)
	}
	if c := a2.contact(b); c.Relation != Accepted || c.Name != "bob" {
		t.Errorf("contact %+v", c)
	}
}

// What only devices of one account may send each other is taken from nobody
// else, and the other way round.
func TestIM05_OnlyBetweenOwnDevices(t *testing.T) {
	w, a, b := crowd(t, 2, 1)
	own := a[1].account()
	stranger := w.add("carol").account()
	bodies := map[string]*wire.Content{
		"sent":    {Seq: 99, Body: &wire.Content_Sent{Sent: &wire.Sent{To: stranger[:], Text: "forged"}}},
		"contact": {Seq: 99, Body: &wire.Content_ContactState{ContactState: &wire.ContactState{Account: stranger[:], Name: "carol"}}},
		"past":    {Body: &wire.Content_Past{Past: &wire.Past{With: own[:]}}},
		"key":     {Body: &wire.Content_AccountKey{AccountKey: &wire.AccountKey{Seed: make([]byte, 32)}}},
	}
	for name, content := range bodies {
		if code := forgeContent(w, b[0], a[0], content); code != protocol.BadRequest {
			t.Errorf("%s from a contact: %v", name, code)
		}
	}
	for name, content := range map[string]*wire.Content{
		"text":    {Seq: 99, Body: &wire.Content_Text{Text: &wire.Text{Text: "x"}}},
		"request": {Body: &wire.Content_ContactRequest{ContactRequest: &wire.ContactRequest{Name: "alice"}}},
		"accept":  {Body: &wire.Content_ContactAccept{ContactAccept: &wire.ContactAccept{Name: "alice"}}},
	} {
		if code := forgeContent(w, a[1], a[0], content); code != protocol.BadRequest {
			t.Errorf("%s from our own device: %v", name, code)
		}
	}
	if n := len(a[0].history(b[0])); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// forgeContent sends a content that the engine would not.
func forgeContent(w *world, from, to *node, content *wire.Content) protocol.Code {
	w.t.Helper()
	from.do(func(tx store.Tx) (Hint, error) {
		x, err := from.e.begin(tx, w.now)
		w.check(err)
		d, err := x.device(to.device())
		w.check(err)
		s, ok, err := x.sendingSession(d)
		w.check(err)
		if !ok {
			w.t.Fatalf("no session")
		}
		r, err := x.newItem(d, wire.MailKind_MESSAGE, content)
		w.check(err)
		w.check(x.seal(to.device(), d, s, r, nil))
		return x.end()
	})
	from.hint.Outbox = nil
	return to.receive(from.lastQueued(to), from.device(), Direct)
}

// History goes to a new device in batches, below what it has, once, and quietly.
func TestIM05_PastIsShared(t *testing.T) {
	w, a, b := pair(t)
	long := strings.Repeat("x", 20<<10)
	var want []string
	for i := range 150 {
		text := fmt.Sprint("text ", i)
		if i%50 == 0 {
			text += long
		}
		want = append(want, text)
		if i%3 == 0 {
			b.send(a, text)
		} else {
			a.send(b, text)
		}
		w.settle()
	}
	w.pass(time.Minute)
	a2 := w.link(a)
	w.settle()
	b.send(a, "new")
	w.settle()
	want = append(want, "new")
	events := len(a2.events(KindMessage))
	a.do(func(tx store.Tx) (Hint, error) { return a.e.SharePast(tx, w.now, a2.device(), true) })
	for range 3 {
		a.step()
		a.load()
		a2.step()
	}
	a.do(func(tx store.Tx) (Hint, error) { return a.e.SharePast(tx, w.now, a2.device(), true) })
	w.pass(10 * time.Minute)
	if got := texts(a2.history(b)); !slices.Equal(got, want) {
		t.Fatalf("%d texts came, want %d: %.200q", len(got), len(want), got)
	}
	for i, m := range a2.history(b) {
		if m.Mine != (i%3 != 0 && i < 150) || m.Mine && m.State != StateDelivered {
			t.Fatalf("row %d: mine %v, %s", i, m.Mine, m.State)
		}
	}
	if n := len(a2.events(KindMessage)); n != events {
		t.Errorf("%d events for old messages", n-events)
	}
	if c := a2.contact(b); c.Unread != 1 {
		t.Errorf("%d unread", c.Unread)
	}
	if n := a2.notices(NoticePast); n != 1 {
		t.Errorf("%d notices of the end", n)
	}
	if len(a.rows(tableShare)) != 0 {
		t.Error("the share did not end")
	}
	w.pass(time.Hour)
	w.checkEmpty()
}

func (n *node) notices(code string) (count int) {
	for _, e := range n.events(KindNotice) {
		if e.Cause == code {
			count++
		}
	}
	return count
}
