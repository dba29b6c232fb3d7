package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// deliverAll hands queued envelopes to the peer in the order given by index.
func deliverAll(w *world, a, b *node, queue []Queued, order ...int) {
	w.t.Helper()
	for _, i := range order {
		if code := b.receive(queue[i].Envelope, a.device(), Direct); code != protocol.OK {
			w.t.Fatalf("envelope %d: %v", i, code)
		}
	}
}

func TestOrderIsTheAuthors(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	var want []string
	for i := range 6 {
		want = append(want, fmt.Sprint(i))
		a.send(b, want[i])
	}
	queue := a.queue(b)
	deliverAll(w, a, b, queue, 5, 3, 3, 1)
	if got := b.history(a); len(got) != 0 {
		t.Fatalf("shown too early: %q", texts(got))
	}
	deliverAll(w, a, b, queue, 0)
	if got := texts(b.history(a)); !slices.Equal(got, want[:2]) {
		t.Fatalf("shown %q", got)
	}
	deliverAll(w, a, b, queue, 4, 2, 0, 5)
	if got := texts(b.history(a)); !slices.Equal(got, want) {
		t.Fatalf("shown %q", got)
	}
	if n := len(b.events(KindMessage)); n != len(want) {
		t.Errorf("%d events for %d messages", n, len(want))
	}
}

// What does not come becomes a hole after two minutes, and fills it when it
// comes after all.
func TestHoleAndLateArrival(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	for i := range 5 {
		a.send(b, fmt.Sprint(i))
	}
	queue := a.queue(b)
	a.away, a.offline = true, true
	deliverAll(w, a, b, queue, 0, 3, 4)
	w.pass(gapTime - 5*time.Second)
	if got := len(b.history(a)); got != 1 {
		t.Fatalf("%d rows before the time is over", got)
	}
	w.pass(10 * time.Second)
	states := func() (list []State) {
		for _, m := range b.history(a) {
			list = append(list, m.State)
		}
		return list
	}
	if got := states(); !slices.Equal(got, []State{StateReceived, StateHole, StateHole, StateReceived, StateReceived}) {
		t.Fatalf("rows %v", got)
	}
	deliverAll(w, a, b, queue, 2)
	h := b.history(a)
	if m := h[2]; m.State != StateReceived || !m.Late || m.Text != "2" || h[1].State != StateHole || len(h) != 5 {
		t.Fatalf("rows %+v", h)
	}
	events := b.events(KindMessage)
	if last := events[len(events)-1]; last.Message.Text != "2" || !last.Message.Late {
		t.Errorf("last event %+v", last.Message)
	}
	deliverAll(w, a, b, queue, 2, 1, 1)
	if got := texts(b.history(a)); !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
		t.Errorf("shown %q", got)
	}
	if c := b.contact(a); c.Unread != 5 {
		t.Errorf("%d unread", c.Unread)
	}
}

// A gap asks for a repair: what was lost on the way is sealed anew and comes,
// although no envelope of it is left anywhere.
func TestGapIsRepaired(t *testing.T) {
	w, a, b := pair(t)
	b.away, b.offline = true, true
	a.send(b, "lost in the mailbox")
	w.settle()
	w.home.devices[b.device()].mail = nil
	b.away, b.offline = false, false
	a.send(b, "arrives")
	w.pass(10 * time.Minute)
	if got := texts(b.history(a)); !slices.Equal(got, []string{"lost in the mailbox", "arrives"}) {
		t.Fatalf("shown %q", got)
	}
	w.pass(time.Minute)
	w.checkEmpty()
	for _, m := range a.history(b) {
		if m.State != StateDelivered {
			t.Errorf("%q is %s", m.Text, m.State)
		}
	}
}

// setSeq changes the number of the next text to a device.
func (n *node) setSeq(to *node, seq uint64) {
	n.do(func(tx store.Tx) (Hint, error) {
		w, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return Hint{}, err
		}
		d, err := w.device(to.device())
		if err != nil {
			return Hint{}, err
		}
		d.sentSeq = seq - 1
		return w.end()
	})
}

// A contact that counts as it likes makes neither endless holes nor anything
// that stops its later messages.
func TestWildNumbers(t *testing.T) {
	w, a, b := pair(t)
	a.send(b, "1")
	w.settle()
	for i, seq := range []uint64{1 << 40, 1<<64 - 2, 5, 5} {
		a.setSeq(b, seq)
		a.send(b, fmt.Sprint("wild ", i))
		w.pass(10 * time.Minute)
	}
	var got []string
	holes := 0
	for _, m := range b.history(a) {
		if m.State == StateHole {
			holes++
			continue
		}
		got = append(got, m.Text)
	}
	if holes > 2*protocol.MaxSkip {
		t.Errorf("%d holes", holes)
	}
	if want := []string{"1", "wild 0", "wild 1", "wild 2", "wild 3"}; !slices.Equal(got, want) {
		t.Errorf("shown %q", got)
	}
}

// Only so much is held for what is missing; more is refused for later.
func TestHeldIsBounded(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	a.send(b, "the missing one")
	queue := a.queue(b)
	a.setSeq(b, 2)
	refused := 0
	for i := range protocol.MaxSkip + 10 {
		id := protocol.NewMsgID()
		w.check(a.trySend(b, id, fmt.Sprint(i)))
		q := a.queue(b)[len(a.queue(b))-1]
		code := b.receive(q.Envelope, a.device(), Direct)
		if code == protocol.Unavailable {
			refused++
		} else {
			a.delivered(q)
		}
	}
	if refused != 10 {
		t.Fatalf("%d were refused", refused)
	}
	deliverAll(w, a, b, queue, 0)
	w.pass(time.Minute)
	if got := len(b.history(a)); got != protocol.MaxSkip+11 {
		t.Errorf("%d rows", got)
	}
	w.pass(time.Minute)
	w.checkEmpty()
}

// What waits too long is given up, and says so.
func TestExpiry(t *testing.T) {
	w, a, b := pair(t)
	b.away, b.offline = true, true
	stored := a.send(b, "stored")
	w.settle()
	a.offline = true
	queued := a.send(b, "queued")
	w.pass(protocol.MailboxTTL + 2*time.Hour)
	for id, problem := range map[protocol.MsgID]string{stored: "not fetched from the mailbox in time", queued: "could not be sent for too long"} {
		if m := a.message(id); m.State != StateFailed || m.Problem != problem {
			t.Errorf("%q is %s: %q", m.Text, m.State, m.Problem)
		}
	}
	if q, waiting := a.counts(); q != 0 || waiting != 0 || a.contact(b).Queued != 0 {
		t.Errorf("%d queued, %d waiting, %d for the contact", q, waiting, a.contact(b).Queued)
	}
	for _, table := range []byte{tableOut, tableKept, tableWaiting, tableEnvelope} {
		if n := len(a.rows(table)); n != 0 {
			t.Errorf("%d rows are left in table %c", n, table)
		}
	}
}

// A long queue is sealed, moved and given up in batches that fit a transaction.
func TestLongQueues(t *testing.T) {
	w, a, b := pair(t)
	b.away, b.offline = true, true
	a.loseSessions(b)
	w.home.tamper = func(f *wire.Found) { f.Bundles = nil }
	const n = 600
	var want []string
	for i := range n {
		text := fmt.Sprintf("%d %s", i, string(make([]byte, 5000)))
		want = append(want, text)
		a.send(b, text)
	}
	if _, waiting := a.counts(); waiting != n {
		t.Fatalf("%d wait", waiting)
	}
	w.home.tamper = nil
	w.pass(2 * time.Minute)
	if _, waiting := a.counts(); waiting != 0 {
		t.Fatalf("%d wait", waiting)
	}
	w.home.devices[b.device()].mail = nil // the mailbox loses everything
	b.loseSessions(a)
	b.away, b.offline = false, false
	a.send(b, "last")
	w.pass(time.Hour)
	if got := texts(b.history(a)); !slices.Equal(got, append(want, "last")) {
		t.Fatalf("%d messages came", len(got))
	}
	w.pass(time.Minute)
	w.checkEmpty()
}
