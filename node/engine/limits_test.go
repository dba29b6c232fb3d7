package engine

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// The longest text to a contact with the most devices fits a transaction, and
// so does everything that comes of it.
func TestLargestMessage(t *testing.T) {
	w, a, b := pair(t)
	last := b
	for range protocol.MaxDevices - 1 {
		last = w.addDevice(last)
	}
	w.publish("bob", last.chain())
	w.settle()
	for _, n := range w.nodes[2:] {
		befriendDevice(w, n, a)
	}
	text := strings.Repeat("x", protocol.MaxText)
	id := a.send(b, text) // opens nine sessions
	w.settle()
	a.send(b, text)
	for _, n := range w.nodes[1:] {
		n.away, n.offline = true, true
	}
	for range 20 {
		a.send(b, text)
	}
	w.settle()
	for _, n := range w.nodes[1:] {
		n.away, n.offline = false, false
	}
	w.pass(time.Minute)
	for _, n := range w.nodes[1:] {
		if got := n.history(a); len(got) != 22 || got[21].Text != text {
			t.Errorf("%d messages came", len(got))
		}
	}
	if s := a.message(id).State; s != StateDelivered {
		t.Errorf("state %s", s)
	}
	w.checkEmpty()
}

// Many long texts that were held are shown in batches.
func TestLongTextsHeld(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	text := strings.Repeat("x", protocol.MaxText)
	for range 60 {
		a.send(b, text)
	}
	queue := a.queue(b)
	for len(queue) < 60 {
		a.view(func(tx store.Tx) error {
			more, err := a.e.Queue(tx, w.now, b.device(), queue[len(queue)-1].N, 1<<20, 1000)
			queue = append(queue, more...)
			return err
		})
	}
	for i := range 59 {
		deliverAll(w, a, b, queue, i+1)
	}
	deliverAll(w, a, b, queue, 0)
	w.pass(time.Second)
	if n := len(b.history(a)); n != 60 {
		t.Errorf("%d messages are shown", n)
	}
}

func TestBuckets(t *testing.T) {
	now := start
	one := &bucket{rate: 1, burst: 3}
	taken := func() (n int) {
		for one.take(now) {
			n++
		}
		return n
	}
	if n := taken(); n != 3 {
		t.Errorf("%d at once", n)
	}
	now = now.Add(2 * time.Second)
	if n := taken(); n != 2 {
		t.Errorf("%d after two seconds", n)
	}
	now = now.Add(-time.Hour)
	if n := taken(); n != 0 {
		t.Errorf("%d from a clock that went back", n)
	}

	many := &buckets[protocol.AccountID]{rate: 1, burst: 1}
	for i := range maxBuckets {
		id := protocol.AccountID{byte(i), byte(i >> 8)}
		if !many.left(now, id) {
			t.Fatalf("nothing left for number %d", i)
		}
		many.take(now, id)
	}
	if many.left(now, protocol.AccountID{0, 0, 1}) {
		t.Error("more than the map may hold")
	}
	if now = now.Add(time.Minute); !many.left(now, protocol.AccountID{0, 0, 1}) || len(many.fills) != 0 {
		t.Errorf("%d are kept when all are empty again", len(many.fills))
	}
}

// Openings are looked at side by side, while others write.
func TestOpenInParallel(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	env := opening(w, a, b)
	now := w.now
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for range 2 {
				err := b.kv.View(t.Context(), func(tx store.Tx) error {
					_, err := b.e.Open(tx, now, now, protocol.DeviceID{}, env)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		b.do(func(tx store.Tx) (Hint, error) {
			return b.e.Compose(tx, now, a.account(), protocol.NewMsgID(), "meanwhile")
		})
	}
	all.Wait()
}
