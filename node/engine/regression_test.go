package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// An envelope that claims to be of our own account needs no look-up: none would
// ever settle it.
func TestOpeningOfOwnAccount(t *testing.T) {
	w := newWorld(t)
	a, mallory := w.add("alice"), w.add("mallory")
	second := w.addDevice(a)
	env := forge(t, w, second, mallory, a)
	o, err := a.open(env)
	w.check(err)
	if o.cause != CauseUnknownSender {
		t.Errorf("cause %q", o.cause)
	}
	if code := a.receive(env, protocol.DeviceID{}, Mailbox); code != protocol.Undecryptable {
		t.Errorf("code %v", code)
	}
}

// One receipt for many long texts fits a transaction.
func TestReceiptOfLongTexts(t *testing.T) {
	w, a, b := pair(t)
	const count = 40
	text := strings.Repeat("x", 60<<10)
	var ids []protocol.MsgID
	for range count {
		ids = append(ids, a.send(b, text))
		w.settle()
	}
	w.pass(time.Minute)
	b.do(func(tx store.Tx) (Hint, error) { return b.e.MarkRead(tx, w.now, a.account(), count) })
	w.pass(time.Minute)
	for i, m := range a.history(b) {
		if m.ID != ids[i] || m.State != StateRead || m.Text != text {
			t.Fatalf("message %d is %s", i, m.State)
		}
	}
	w.check(a.trySend(b, ids[0], text))
	if got := b.history(a); len(got) != count || got[count-1].Text != text {
		t.Errorf("%d messages came", len(got))
	}
	if m := a.message(ids[3]); m.Text != text {
		t.Error("the text is not found")
	}
	w.checkEmpty()
}

// What was held when the author was blocked is shown after that.
func TestUnblockShowsWhatIsHeld(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	for i := range 10 {
		a.send(b, fmt.Sprint(i))
	}
	queue := a.queue(b)
	a.away, a.offline = true, true
	deliverAll(w, a, b, queue, 0, 1, 2, 3, 4, 6)
	w.check(b.relation(a, block))
	w.check(b.relation(a, unblock))
	deliverAll(w, a, b, queue, 7, 9, 8)
	w.pass(10 * time.Minute)
	want := []string{"0", "1", "2", "3", "4", "6", "7", "8", "9"}
	if got := texts(b.history(a)); !slices.Equal(got, want) {
		t.Errorf("shown %q", got)
	}
}

// Envelopes of strangers do not use up what the user may add.
func TestAddIsNotBoundedByVisitors(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	a.do(func(tx store.Tx) (Hint, error) {
		x, err := a.e.begin(tx, w.now)
		if err != nil {
			return Hint{}, err
		}
		x.count().visitors = maxVisitors
		return x.end()
	})
	w.befriend(a, b)
}

// request sends a contact request of n whatever it knows of the other.
func (n *node) request(other *node, display, note string) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		x, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return Hint{}, err
		}
		d, err := x.device(other.device())
		if err != nil {
			return Hint{}, err
		}
		r := &wire.ContactRequest{Name: n.name, Display: display, Note: note}
		content := &wire.Content{Body: &wire.Content_ContactRequest{ContactRequest: r}}
		if _, err := x.postOther(other.device(), d, wire.MailKind_REQUEST, content); err != nil {
			return Hint{}, err
		}
		return x.end()
	})
}

func TestSecondRequestChangesNothing(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	a.ask(b)
	w.settle()
	before := b.contact(a)
	a.request(b, "Your bank", "other note")
	w.settle()
	if c := b.contact(a); c.Display != before.Display || c.Note != before.Note || c.Relation != Incoming {
		t.Errorf("changed to %+v", c)
	}
}

func TestRequestsOfAContactGetOneAnswer(t *testing.T) {
	w, a, b := pair(t)
	w.pass(time.Minute)
	a.away, b.offline = true, true
	for range 5 {
		a.request(b, "", "")
	}
	for _, q := range a.queue(b) {
		if code := b.receive(q.Envelope, a.device(), Direct); code != protocol.OK {
			t.Fatalf("code %v", code)
		}
	}
	if n := len(b.rows(tableOut)) + len(b.rows(tableWaiting)); n != 1 {
		t.Errorf("%d answers are queued", n)
	}
}
