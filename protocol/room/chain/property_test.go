package chain

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/room/message"
)

// sent is a message of the property tests.
type sent struct {
	message.Header
	raw  []byte
	text []byte
}

// listener is a device that may read in some epochs, and what it must have.
type listener struct {
	r        Receiver
	member   bool
	given    [][]byte // distributions meant for it
	accepted map[[32]byte]bool
	opened   map[uint64]bool
	lowest   uint64 // of the numbers that concern it
	next     uint64
}

// world is one device that writes to a room and some that listen, while the room
// changes. Every state goes through its stored form, as on a device.
type world struct {
	t         *rapid.T
	now       time.Time
	view      message.View
	sender    Sender
	messages  []*sent
	listeners []*listener
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: start, view: view(1)}
	for i := range 3 {
		w.listeners = append(w.listeners, &listener{
			r: NewReceiver(room, alice), member: i < 2, accepted: map[[32]byte]bool{}, opened: map[uint64]bool{},
		})
	}
	return w
}

func storedReceiver(t tester, r Receiver) Receiver {
	t.Helper()
	b := r.Marshal()
	back, err := ParseReceiver(b)
	check(t, err)
	if !bytes.Equal(back.Marshal(), b) {
		t.Fatal("stored receiver is not canonical")
	}
	return back
}

func storedSender(t tester, s Sender) Sender {
	t.Helper()
	b := s.Marshal()
	back, err := ParseSender(b)
	check(t, err)
	if !bytes.Equal(back.Marshal(), b) {
		t.Fatal("stored sender is not canonical")
	}
	return back
}

// startChain gives a chain to those who may read now.
func (w *world) startChain() {
	next, d := startChain(w.t, w.now, w.sender, w.view)
	w.sender = storedSender(w.t, next)
	for _, l := range w.listeners {
		if l.member {
			l.given = append(l.given, d.Marshal())
		}
	}
}

func (w *world) send() {
	if w.sender.Ended(w.now, w.view) {
		w.startChain()
	}
	text := fmt.Appendf(nil, "message %d", w.sender.Next())
	before := w.sender.Marshal()
	next, raw, err := w.sender.Seal(w.now, signing(w.t), w.view, text)
	check(w.t, err)
	if !bytes.Equal(w.sender.Marshal(), before) {
		w.t.Fatal("Seal changed the old state")
	}
	w.sender = storedSender(w.t, next)
	w.messages = append(w.messages, &sent{header(w.t, raw), raw, text})
}

// give hands over a distribution, perhaps again.
func (w *world) give(l *listener, b []byte) {
	d, err := ParseDistribution(alice, b)
	check(w.t, err)
	before := l.r.Marshal()
	next, err := l.r.Accept(w.now, d)
	check(w.t, err)
	if !bytes.Equal(l.r.Marshal(), before) {
		w.t.Fatal("Accept changed the old state")
	}
	if !l.accepted[d.Chain] {
		l.accepted[d.Chain] = true
		if l.lowest == 0 || d.First < l.lowest {
			l.lowest = d.First
		}
		l.next = max(l.next, d.First)
	}
	l.r = storedReceiver(w.t, next)
}

// deliver hands over a message, perhaps again and perhaps to somebody who may
// not read it, and checks that it opens if and only if it should.
func (w *world) deliver(l *listener, m *sent) {
	before := l.r.Marshal()
	next, text, err := open(w.now, l.r, m.raw)
	if !bytes.Equal(l.r.Marshal(), before) {
		w.t.Fatal("Open changed the old state")
	}
	want := error(nil)
	switch {
	case l.opened[m.Number]:
		want = ErrReplay
	case !l.accepted[m.Chain]:
		want = ErrNoChain
	}
	if want != nil {
		if err != want || text != nil || !bytes.Equal(next.Marshal(), before) {
			w.t.Fatalf("message %d: %v, want %v", m.Number, err, want)
		}
		return
	}
	if err != nil || !bytes.Equal(text, m.text) {
		w.t.Fatalf("message %d: opened %q, %v", m.Number, text, err)
	}
	l.opened[m.Number] = true
	l.next = max(l.next, m.Number+1)
	l.r = storedReceiver(w.t, next)
}

// missing checks that the gaps are exactly what did not come.
func (w *world) missing(l *listener) {
	var got, want []uint64
	for _, g := range l.r.Gaps() {
		for n := g.First; n <= g.Last; n++ {
			got = append(got, n)
		}
	}
	for n := max(1, l.lowest); n < l.next; n++ {
		if !l.opened[n] {
			want = append(want, n)
		}
	}
	if !slices.Equal(got, want) || l.r.Next() != l.next {
		w.t.Fatalf("missing %v, want %v; next %d, want %d", got, want, l.r.Next(), l.next)
	}
}

func (w *world) step() {
	l := rapid.SampledFrom(w.listeners).Draw(w.t, "listener")
	switch act := rapid.IntRange(0, 12).Draw(w.t, "act"); {
	case act < 4:
		w.send()
	case act < 7 && len(w.messages) > 0:
		w.deliver(l, rapid.SampledFrom(w.messages).Draw(w.t, "message"))
	case act < 9 && len(l.given) > 0:
		w.give(l, rapid.SampledFrom(l.given).Draw(w.t, "chain"))
	case act == 9: // somebody comes or leaves
		l.member = !l.member
		w.view = view(w.view.Epoch + uint64(rapid.IntRange(1, 3).Draw(w.t, "entries")))
	case act == 10 && w.now.Sub(start) < gapTTL-48*time.Hour: // before anything is given up
		w.now = w.now.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Hour, maxAge}).Draw(w.t, "pass"))
	case act == 11 && w.sender.s != nil: // a chain that may stay without messages
		w.startChain()
	case act == 12 && len(l.r.Gaps()) > 0: // one that nobody has
		g := rapid.SampledFrom(l.r.Gaps()).Draw(w.t, "gap")
		l.opened[g.First] = true
		l.r = storedReceiver(w.t, l.r.GiveUp(w.now, Gap{First: g.First, Last: g.First}))
	}
	w.missing(l)
}

// In any order, with losses and repetitions of messages and of chains, while
// members come and go: who was given a chain opens every message of it exactly
// once, knows what is missing, and opens nothing else.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			w.step()
		}
		for _, l := range w.listeners {
			for _, d := range l.given {
				w.give(l, d)
			}
			for _, m := range w.messages {
				w.deliver(l, m) // what is left, and everything once more
			}
			w.missing(l)
			for _, c := range l.r.s().chains {
				if len(c.skipped) > 0 {
					rt.Fatal("a key is kept of a message that was opened")
				}
			}
		}
	})
}
