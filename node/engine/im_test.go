package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/store"
)

func pair(t testing.TB) (w *world, a, b *node) {
	w = newWorld(t)
	a, b = w.add("alice"), w.add("bob")
	w.befriend(a, b)
	return w, a, b
}

func TestIM03_TextArrivesUnchanged(t *testing.T) {
	w, a, b := pair(t)
	want := []string{
		"", strings.Repeat("x", 190), strings.Repeat("y", 447), strings.Repeat("z", 64<<10),
		strings.Repeat("🎈", 16<<10), "Zß水🎈\x00\n\t",
	}
	for _, text := range want {
		a.send(b, text)
	}
	w.settle()
	if got := texts(b.history(a)); !slices.Equal(got, want) {
		t.Fatalf("received %d texts that are not those sent", len(got))
	}
	for _, m := range a.history(b) {
		if m.State != StateDelivered || m.Via != Direct {
			t.Errorf("message %d is %s via %v", m.Position, m.State, m.Via)
		}
	}
}

func TestIM04_KeysStayTheSame(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	first, cert, seed := a.e.Identity(), a.self().Cert, a.recovery()
	counter := uint64(0)
	for range 100 {
		a.load()
		id := a.e.Identity()
		if id.Account != first.Account || id.Device != first.Device || a.rsaKey().Public() != w.rsa.Public() ||
			string(a.self().Cert.Marshal()) != string(cert.Marshal()) || id.StoreID != first.StoreID ||
			string(id.Host.Seed()) != string(first.Host.Seed()) || string(a.recovery().Bytes()) != string(seed.Bytes()) {
			t.Fatal("a key changed")
		}
		a.do(func(tx store.Tx) (Hint, error) {
			h, err := a.e.Hello(tx, nil)
			if h.Ctr <= counter {
				t.Fatalf("counter went from %d to %d", counter, h.Ctr)
			}
			counter = h.Ctr
			return Hint{}, errors.Join(err, a.e.Welcomed(tx, h))
		})
	}
	if up := a.plan(w.home.counts(a.device())); up != nil {
		t.Error("100 starts changed the published keys")
	}
}

func TestIM08_OfflineMessagesArriveOnce(t *testing.T) {
	w, a, b := pair(t)
	b.away, b.offline, a.offline = true, true, true

	id := a.send(b, "one")
	two := a.send(b, "two")
	w.settle()
	if s := a.message(id).State; s != StateQueued {
		t.Fatalf("state %s while nothing is reachable", s)
	}
	a.offline = false
	w.settle()
	if s := a.message(id).State; s != StateStored {
		t.Fatalf("state %s with a mailbox", s)
	}
	b.offline = false
	w.settle()
	if s := a.message(id).State; s != StateDelivered {
		t.Fatalf("state %s after the peer fetched", s)
	}
	b.do(func(tx store.Tx) (Hint, error) { return b.e.MarkRead(tx, w.now, a.account(), 1) })
	w.settle()
	if s, s2 := a.message(id).State, a.message(two).State; s != StateRead || s2 != StateDelivered {
		t.Fatalf("states %s and %s after the first was read", s, s2)
	}
	if got := texts(b.history(a)); !slices.Equal(got, []string{"one", "two"}) {
		t.Fatalf("received %q", got)
	}
	if c := b.contact(a); c.Unread != 1 {
		t.Errorf("%d unread, want 1", c.Unread)
	}
	w.checkEmpty()
}

// checkEmpty checks that nothing is left in any queue.
func (w *world) checkEmpty() {
	w.t.Helper()
	for _, n := range w.nodes {
		queued, waiting := n.counts()
		if queued != 0 || waiting != 0 {
			w.t.Fatalf("%s: %d queued, %d waiting", n.name, queued, waiting)
		}
		for table, name := range map[byte]string{
			tableOut: "out", tableKept: "kept", tableWaiting: "waiting", tableEnvelope: "envelope", tableHeld: "held", tableHole: "hole",
		} {
			if rows := n.rows(table); len(rows) != 0 {
				w.t.Fatalf("%s: %d rows are left in %s", n.name, len(rows), name)
			}
		}
		for _, m := range w.nodes {
			if m == n {
				continue
			}
			n.view(func(tx store.Tx) error {
				c, err := n.e.Contact(tx, m.account())
				if err == nil && c.Queued != 0 {
					w.t.Fatalf("%s: %d messages to %s count as queued", n.name, c.Queued, m.name)
				}
				return nil
			})
		}
	}
}

func TestStatesNeverGoBack(t *testing.T) {
	w, a, b := pair(t)
	b.away = true
	id := a.send(b, "hi")
	queue := a.queue(b)
	w.settle()
	b.do(func(tx store.Tx) (Hint, error) { return b.e.MarkRead(tx, w.now, a.account(), 1) })
	w.settle()
	for _, q := range queue { // answers that come late
		a.delivered(q)
		a.putMail(q)
	}
	w.settle()
	if s := a.message(id).State; s != StateRead {
		t.Fatalf("state %s", s)
	}
	w.pass(time.Minute)
	w.checkEmpty()
}

func (n *node) queue(to *node) (list []Queued) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		list, err = n.e.Queue(tx, to.device(), 0, 1<<20, 1000)
		return err
	})
	return list
}
