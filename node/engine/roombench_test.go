package engine

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// hall is a room of any size. Its log is written at once, and all members hold the
// state that one of them folded from it: to let 1,000 come in one by one would take
// most of an hour.
type hall struct {
	*world
	id protocol.RoomID
}

func newHall(b *testing.B, members int) *hall {
	w := newWorld(b)
	for i := range members {
		w.add(fmt.Sprint("node", i))
	}
	owner := w.nodes[0]
	h := &hall{w, owner.createRoom("Climbing")}
	if members > 1 {
		w.befriend(owner, w.nodes[members-1]) // who comes and goes
	}
	w.settle()
	home := w.home.rooms[h.id]
	for _, n := range w.nodes[1:] {
		owner.enter(h.id, room.Invite{Account: n.account()})
		n.enter(h.id, room.Join{Chain: n.chain().Bytes()})
	}
	for owner.followRoom(h.id) {
	}
	state := owner.room(h.id).State
	if state.Seq() != home.state.Seq() {
		b.Fatalf("only %d of %d entries were read", state.Seq(), home.state.Seq())
	}
	for _, n := range w.nodes[1:] {
		n.do(func(tx store.Tx) (Hint, error) {
			row := roomRow{stage: RoomJoined, home: n.e.id.Home, since: w.now, known: true, seq: state.Seq(), head: state.Head()}
			n.e.keepFolded(w.now, h.id, state)
			return Hint{Rooms: []protocol.RoomID{h.id}}, tx.Set(keyRoom(h.id), row.encode())
		})
	}
	h.say(owner, "hello") // sessions begin
	w.settle()
	w.pass(time.Minute)
	h.rest()
	return h
}

func (h *hall) say(n *node, text string) { n.say(h.id, text) }

// rest forgets what everybody did until now.
func (h *hall) rest() {
	for _, n := range h.nodes {
		n.busy, n.sent = 0, nil
	}
}

// cost is the CPU time of one, and of each of the others on average, since rest.
type cost struct {
	one, other time.Duration
	bytes      int // that left the one
}

func (c *cost) add(h *hall, one *node) {
	c.one += one.busy
	c.bytes += bytesOf(one.sent)
	for _, n := range h.nodes {
		if n != one {
			c.other += n.busy / time.Duration(len(h.nodes)-1)
		}
	}
	h.rest()
}

func (c *cost) report(b *testing.B, what string) {
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(b.N) }
	b.ReportMetric(us(c.one), what+"-µs")
	b.ReportMetric(us(c.other), what+"-other-µs")
	if c.bytes > 0 {
		b.ReportMetric(float64(c.bytes)/float64(b.N), what+"-B")
	}
}

// BenchmarkRoom is what members of a room do, on stores in memory. Message is a text of
// 200 bytes from one of them to the others, live: written, sealed and stored by its author;
// checked, opened and stored by each other. Its p50 and p99 are of both together for one
// receiver; everything else is CPU time.
//
// Change removes a member (kick), and lets it in again (join): what that costs who does
// it, and each of the others; then the first message, for which all get a new key of its
// author.
func BenchmarkRoom(b *testing.B) {
	for _, members := range []int{2, 10, 100, 1000} {
		b.Run(fmt.Sprint("members=", members), func(b *testing.B) {
			h := newHall(b, members)
			b.Run("message", func(b *testing.B) { benchRoomMessage(b, h) })
			b.Run("change", func(b *testing.B) { benchRoomChange(b, h) })
		})
	}
}

func benchRoomMessage(b *testing.B, h *hall) {
	runtime.LockOSThread() // see node.busy
	defer runtime.UnlockOSThread()
	author, text := h.nodes[0], strings.Repeat("x", 200)
	var all cost
	var took []time.Duration
	for i := 1; b.Loop(); i++ {
		h.rest()
		begun := time.Now()
		h.say(author, text)
		m := author.outbox(h.id)[0]
		wrote := time.Since(begun)
		for _, n := range h.nodes[1:] {
			begun := time.Now()
			n.do(func(tx store.Tx) (Hint, error) { return n.e.HearRoom(tx, h.now, h.id, m.Message) })
			took = append(took, wrote+time.Since(begun))
		}
		author.do(func(tx store.Tx) (Hint, error) {
			return author.e.RoomStored(tx, h.now, h.id, []protocol.EnvelopeID{m.ID})
		})
		all.add(h, author)
		if i%900 == 0 { // a chain is over after 1,000
			b.StopTimer()
			h.check(author.write(h.id, room.Rotate{}))
			h.say(author, text)
			h.settle()
			b.StartTimer()
		}
	}
	slices.Sort(took)
	all.report(b, "message")
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
	if got := h.nodes[1].room(h.id).Unread; got < b.N {
		b.Fatalf("only %d of %d were heard", got, b.N)
	}
}

func benchRoomChange(b *testing.B, h *hall) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	owner, guest := h.nodes[0], h.nodes[len(h.nodes)-1]
	var kick, join, first cost
	for b.Loop() {
		h.rest()
		h.check(owner.write(h.id, room.Remove{Account: guest.account()}))
		h.settle()
		kick.add(h, owner)
		owner.invite(h.id, guest)
		h.settle()
		h.rest()
		guest.join(h.id)
		h.settle()
		join.add(h, guest)
		h.say(owner, "hello")
		h.settle()
		first.add(h, owner)
		h.pass(time.Second) // receipts
	}
	if r := guest.room(h.id); r.Stage != RoomJoined || r.Unread == 0 {
		b.Fatalf("who came back is %s", r.Stage)
	}
	kick.report(b, "kick")
	join.report(b, "join")
	first.report(b, "first")
}

// BenchmarkRoomCatchUp is a member of ten that was away while the others wrote 10,000
// texts: its mail with their keys, and the room's mailbox, a hundred to a page.
func BenchmarkRoomCatchUp(b *testing.B) {
	const missed = 10_000
	h := newHall(b, 10)
	reader := h.nodes[9]
	for _, n := range h.nodes { // sessions
		h.say(n, "hello")
		h.settle()
	}
	for b.Loop() {
		b.StopTimer()
		reader.away, reader.offline = true, true
		for i := range missed {
			h.write(h.nodes[i%9], reader)
		}
		before := reader.room(h.id).Unread
		b.StartTimer()
		reader.fetch()
		for {
			page, _ := h.home.readRoom(reader, h.id, reader.roomPlan(h.id), 100)
			if len(page.Messages) == 0 {
				break
			}
			h.check(reader.takeRoom(h.id, page))
		}
		if got := reader.room(h.id).Unread - before; got != missed {
			b.Fatalf("%d of %d came", got, missed)
		}
	}
	b.ReportMetric(float64(missed*b.N)/b.Elapsed().Seconds(), "messages/s")
}

// write brings a text of n into the room's mailbox, and the keys that go with it to
// the reader's.
func (h *hall) write(n, reader *node) {
	h.say(n, strings.Repeat("x", 200))
	for _, m := range n.outbox(h.id) {
		if code := h.home.putRoom(h.id, m.Message); code != protocol.OK {
			h.t.Fatalf("the room's mailbox: %v", code)
		}
		n.do(func(tx store.Tx) (Hint, error) { return n.e.RoomStored(tx, h.now, h.id, []protocol.EnvelopeID{m.ID}) })
	}
	n.flush(reader.device())
}
