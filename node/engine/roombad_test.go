package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// What members and a rendezvous may do to a room that harms nobody else in it. More of
// it is in roomattack_test.go.

// forgeEntry makes an entry with a valid signature, whether its author may or not.
func (n *node) forgeEntry(on *room.State, op room.Op) []byte {
	n.w.t.Helper()
	_, like, err := room.NewRoom(n.w.now, room.Author{Account: n.account(), Device: n.device(), Key: n.e.id.DSK}, n.chain())
	n.w.check(err)
	like.Op = op
	body := like.Bytes()
	id, head := on.Room(), on.Head()
	copy(body[2:], id[:])
	binary.BigEndian.PutUint64(body[34:], on.Seq()+1)
	copy(body[42:], head[:])
	unsigned := body[:len(body)-64]
	sig, err := n.e.id.DSK.Sign("roomlog", unsigned)
	n.w.check(err)
	return append(unsigned, sig...)
}

// Who lost a right cannot use it, and what it wrote on a branch from before does not
// count for who knows better: such logs change nothing, whoever shows them.
func TestEntriesOfWhoMayNotAreRefused(t *testing.T) {
	w, id, a, b, c := trio(t)
	before := c.room(id).State
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	w.settle()
	was := c.room(id).State // with b as a moderator
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleMember}))
	w.settle()
	now := c.room(id).State
	if e, err := room.ParseEntry(b.forgeEntry(was, room.Lock{On: true})); err != nil {
		t.Fatal(err)
	} else if _, err := was.Extend(e); err != nil {
		t.Fatalf("a moderator may not lock the room: %v", err)
	}
	for name, entry := range map[string][]byte{
		"lost the right":     b.forgeEntry(now, room.Lock{On: true}),
		"never had it":       c.forgeEntry(now, room.Remove{Account: b.account()}),
		"over an equal":      b.forgeEntry(now, room.Remove{Account: c.account()}),
		"makes itself owner": b.forgeEntry(now, room.SetRole{Account: b.account(), Role: room.RoleOwner}),
		"back-dated":         b.forgeEntry(was, room.Lock{On: true}),
		"long ago":           b.forgeEntry(before, room.Leave{}),
		"not the next":       a.forgeEntry(was, room.Rotate{}),
	} {
		rows := c.state()
		if err := c.takeRoom(id, RoomPage{Entries: [][]byte{entry}}); !errors.Is(err, ErrRoomLog) {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(c.state(), rows) {
			t.Errorf("%s: something changed", name)
		}
	}
	a.say(id, "on we go")
	w.settle()
	if got := texts(c.heard(id)); !slices.Contains(got, "on we go") {
		t.Errorf("carol has %q", got)
	}
}

// A branch on which the removed goes on is not taken by who knows of the removal, nor
// is what he says on it, whoever brings it.
func TestTheRemovedGoesOnAlone(t *testing.T) {
	w, id, a, b, c := trio(t)
	branch := c.room(id).State
	w.check(a.write(id, room.Remove{Account: b.account()}))
	w.settle()
	e, err := room.ParseEntry(b.forgeEntry(branch, room.Devices{}))
	w.check(err)
	said := b.forgeSaid(id, func(v *message.View) {
		v.Epoch, v.Seq, v.Head = branch.Epoch(), e.Seq, e.Hash()
	}, textOf("still here"))
	for _, n := range []*node{a, c} {
		shown := len(n.heard(id))
		if err := n.takeRoom(id, RoomPage{Entries: [][]byte{e.Bytes()}}); !errors.Is(err, ErrRoomLog) {
			t.Errorf("%s takes the branch: %v", n.name, err)
		}
		refused := new(message.Error)
		if err := n.update(func(tx store.Tx) (Hint, error) { return n.e.HearRoom(tx, w.now, id, said) }); !errors.As(err, &refused) {
			t.Errorf("%s hears it live: %v", n.name, err)
		}
		if len(n.heard(id)) != shown {
			t.Errorf("%s shows %q", n.name, texts(n.heard(id)))
		}
	}
}

// A log of which the rendezvous leaves entries out, turns them round or shows a part
// only: nothing of it is taken that does not follow, nobody is shown what he cannot
// judge, and afterwards all is there.
func TestLogWithheldAndReordered(t *testing.T) {
	for name, lie := range map[string]func(*RoomPage){
		"left out": func(p *RoomPage) { p.Entries = slices.Delete(p.Entries, 0, 1) },
		"turned round": func(p *RoomPage) {
			slices.Reverse(p.Entries)
		},
		"withheld": func(p *RoomPage) { p.Entries = nil },
		"a part":   func(p *RoomPage) { p.Entries = p.Entries[:1] },
	} {
		t.Run(name, func(t *testing.T) {
			w, id, a, b, c := trio(t)
			w.home.rooms[id].lie = func(to *node, p *RoomPage) {
				if to == c && len(p.Entries) > 1 {
					lie(p)
				}
			}
			c.offline = true
			w.check(a.write(id, room.Rotate{}))
			w.settle()
			w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
			w.settle()
			w.check(a.write(id, room.Rotate{}))
			a.say(id, "in the new epoch")
			w.settle()
			c.offline = false
			shown := len(c.heard(id))
			before := c.room(id).State.Seq()
			c.hint.Rooms = []protocol.RoomID{id}
			for range 5 {
				c.step()
			}
			if after := c.room(id).State; after.Seq() > before+1 && name != "a part" {
				t.Errorf("took %d entries", after.Seq()-before)
			}
			if name == "withheld" && len(c.heard(id)) != shown {
				t.Errorf("shows %q", texts(c.heard(id)))
			}
			w.home.rooms[id].lie = nil
			w.pass(time.Hour)
			if got := texts(c.heard(id)); got[len(got)-1] != "in the new epoch" || c.room(id).State.Head() != a.room(id).State.Head() {
				t.Errorf("in the end carol has %q", got)
			}
		})
	}
}

// Messages that come again and again, by every way and in any order, are shown once
// and in the order of their author.
func TestRoomMessagesReplayedAndReordered(t *testing.T) {
	w, id, a, b, c := trio(t)
	c.away, c.offline = true, true
	var want []string
	from := len(w.home.rooms[id].messages)
	for i := range 30 {
		want = append(want, fmt.Sprint("text ", i))
		a.say(id, want[i])
		w.settle()
	}
	c.away, c.offline = false, false
	list := w.home.rooms[id].messages[from:]
	for range 3 {
		for _, i := range rand.Perm(len(list)) {
			if i%2 == 0 {
				w.check(c.takeRoom(id, items(list[i].Bytes())))
			} else {
				c.do(func(tx store.Tx) (Hint, error) { return c.e.HearRoom(tx, w.now, id, list[i].Bytes()) })
			}
		}
	}
	w.pass(time.Hour)
	if got := texts(c.heard(id))[3:]; !slices.Equal(got, want) {
		t.Errorf("carol has %q", got)
	}
	if got := texts(b.heard(id))[3:]; !slices.Equal(got, want) {
		t.Errorf("bob has %q", got)
	}
}

// giveChain gives a member a chain.
func (n *node) giveChain(id protocol.RoomID, to *node, dist []byte) {
	n.w.t.Helper()
	mid := protocol.NewMsgID()
	keys := &wire.RoomKeys{Room: id[:], Distributions: [][]byte{dist}}
	if code := forgeContent(n.w, n, to, &wire.Content{MsgId: mid[:], Body: &wire.Content_RoomKeys{RoomKeys: keys}}); code != protocol.OK {
		n.w.t.Fatalf("%s does not take a chain: %v", to.name, code)
	}
}

// Who gives different keys to different members is not read by those that he gave the
// wrong ones; everything else goes on, also what he says afterwards.
func TestDifferentKeysForDifferentMembers(t *testing.T) {
	w, id, a, b, c := trio(t)
	wrong := b.distribution(id)
	right, list := b.flood(id, 1)
	for to, dist := range map[*node][]byte{a: right, c: wrong} {
		b.giveChain(id, to, dist)
		w.check(to.takeRoom(id, items(list[0])))
	}
	if got := texts(a.heard(id)); got[len(got)-1] != "flood 0" {
		t.Errorf("alice has %q", got)
	}
	a.say(id, "of alice")
	w.settle()
	w.check(a.write(id, room.Rotate{}))
	w.settle()
	b.say(id, "honest again")
	w.settle()
	w.pass(time.Hour)
	for _, n := range []*node{a, c} {
		got := texts(n.heard(id))
		if !slices.Contains(got, "of alice") || !slices.Contains(got, "honest again") {
			t.Errorf("%s has %q", n.name, got)
		}
		if n == c && slices.Contains(got, "flood 0") {
			t.Error("carol reads what was sealed with another key")
		}
	}
}

// A member who sends much, with holes, fills no queue of the others beyond its
// bounds, and keeps nobody else waiting.
func TestFloodWithHolesIsBounded(t *testing.T) {
	w, id, a, b, c := trio(t)
	dist, list := b.flood(id, 1000)
	b.giveChain(id, c, dist)
	for i := 1; i < len(list); i += 2 {
		w.check(c.takeRoom(id, items(list[i])))
	}
	if held := len(c.rows(tableRoomHeld)); held != maxRoomHeld {
		t.Errorf("%d messages are held", held)
	}
	for _, row := range c.rows(tableRoomReceiver) {
		if len(row.Value) > 128<<10 {
			t.Errorf("%d bytes are kept of one sender", len(row.Value))
		}
	}
	a.say(id, "in between")
	w.settle()
	if got := texts(c.heard(id)); got[len(got)-1] != "in between" {
		t.Error("a flood of one keeps others waiting")
	}
	w.pass(gapTime)
	if held := len(c.rows(tableRoomHeld)); held != 0 {
		t.Errorf("%d messages are still held", held)
	}
}

// A member that signs for logs that never come raises one alarm at most, and stops
// nobody from reading on.
func TestBoastsOfOtherLogs(t *testing.T) {
	w, id, a, b, c := trio(t)
	for i := range uint64(20) {
		boast := b.forgeSaid(id, func(v *message.View) { v.Seq, v.Head = v.Seq+i+1, [32]byte{byte(i)} }, textOf("I know more"))
		w.check(c.takeRoom(id, items(boast)))
	}
	for range 3 {
		w.check(a.write(id, room.Rotate{}))
		w.settle()
	}
	if n := c.roomEvents("fork"); n > 1 {
		t.Errorf("%d alarms", n)
	}
	a.say(id, "on we go")
	w.settle()
	if got := texts(c.heard(id)); got[len(got)-1] != "on we go" {
		t.Errorf("carol has %q", got)
	}
}

// What is larger than a message can be is not taken, by any way.
func TestOversizedRoomMessages(t *testing.T) {
	w, id, _, b, c := trio(t)
	honest := b.forgeSaid(id, nil, textOf("x"))
	large := append(slices.Clip(honest), make([]byte, protocol.MaxEnvelope)...)
	rows := c.state()
	w.check(c.takeRoom(id, items(large, nil, bytes.Repeat([]byte{1}, 4<<20))))
	refused := new(message.Error)
	if err := c.update(func(tx store.Tx) (Hint, error) { return c.e.HearRoom(tx, w.now, id, large) }); !errors.As(err, &refused) {
		t.Errorf("heard live: %v", err)
	}
	if !slices.Equal(c.state(), rows) {
		t.Error("something changed")
	}
	if err := c.takeRoom(id, RoomPage{Entries: [][]byte{make([]byte, 1<<20)}}); !errors.Is(err, ErrRoomLog) {
		t.Errorf("a large entry: %v", err)
	}
}
