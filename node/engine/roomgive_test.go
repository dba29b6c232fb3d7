package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/store"
)

// wants is what a node would ask members for.
func (n *node) wants(id protocol.RoomID) (list []RoomGap) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		list, err = n.e.RoomWants(tx, n.w.now, id)
		return err
	})
	return list
}

// gives is what a node gives another one of a room.
func (n *node) gives(id protocol.RoomID, to *node, wants []RoomGap, maxBytes int) (list [][]byte, more bool, err error) {
	n.view(func(tx store.Tx) error {
		list, more, err = n.e.GiveRoom(tx, n.w.now, id, to.device(), wants, maxBytes)
		return nil
	})
	return list, more, err
}

func (n *node) takesFrom(id protocol.RoomID, from *node, page RoomPage) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.TakeRoomFrom(tx, n.w.now, id, from.account(), page) })
}

// asks asks another node for what is missing and returns how many messages came.
func (n *node) asks(id protocol.RoomID, other *node) int {
	n.w.t.Helper()
	list, _, err := other.gives(id, n, n.wants(id), 1<<20)
	n.w.check(err)
	n.w.check(n.takesFrom(id, other, items(list...)))
	return len(list)
}

// While the rendezvous is away members give each other what they hear; when it is back
// everybody has the same, once.
func TestMembersGiveEachOtherWhatWasSaid(t *testing.T) {
	w, id, a, b, c := trio(t)
	c.away = true
	a.say(id, "one")
	a.say(id, "two")
	a.gossipAll(id)
	b.say(id, "three")
	b.gossipAll(id)
	c.away = false
	if got := c.asks(id, b); got != 3 { // bob's own too
		t.Errorf("%d came", got)
	}
	if got := c.asks(id, b); got != 0 {
		t.Errorf("%d came again", got)
	}
	c.say(id, "four")
	c.gossipAll(id)
	want := texts(a.heard(id))
	slices.Sort(want)
	w.settle()
	for _, n := range w.nodes {
		got := texts(n.heard(id))
		slices.Sort(got)
		if !slices.Equal(got, want) || len(got) != 7 {
			t.Errorf("%s has %q, want %q", n.name, got, want)
		}
		if n.room(id).Queued != 0 {
			t.Errorf("%s: something is not stored", n.name)
		}
	}
}

// What is missing in between is asked for, and what waits for its chain is not.
func TestWantsOfAMember(t *testing.T) {
	w, id, a, b, c := trio(t)
	c.away = true
	for i := range 5 {
		a.say(id, fmt.Sprint(i))
	}
	a.gossipAll(id)
	c.away = false
	list, _, err := b.gives(id, c, c.wants(id), 1<<20)
	w.check(err)
	w.check(c.takesFrom(id, b, items(list[1], list[4])))
	got, _, err := b.gives(id, c, c.wants(id), 1<<20)
	w.check(err)
	if want := [][]byte{list[0], list[2], list[3]}; !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%d are wanted", len(got))
	}
	if some, more, err := b.gives(id, c, c.wants(id), 1); len(some) != 1 || !more || err != nil {
		t.Errorf("a page of one: %d, more %v, %v", len(some), more, err)
	}
}

// Nobody is given anything who is not in the room, and nobody what was said before he
// came.
func TestMembersGiveMembersOnly(t *testing.T) {
	w, id, a, b, c := trio(t)
	d := w.add("dave")
	w.befriend(a, d)
	everything := []RoomGap{{a.device(), 1, message.MaxNumber}, {b.device(), 0, message.MaxNumber}, {c.device(), 1, message.MaxNumber}}
	refused := func(what string, n *node) {
		t.Helper()
		if list, _, err := b.gives(id, n, everything, 1<<20); !errors.Is(err, ErrNotInRoom) || len(list) > 0 {
			t.Errorf("%s: %d, %v", what, len(list), err)
		}
		b.view(func(tx store.Tx) error {
			if log, err := b.e.GiveRoomLog(tx, w.now, id, n.device(), 0, 1<<20); !errors.Is(err, ErrNotInRoom) || len(log) > 0 {
				t.Errorf("%s: %d entries, %v", what, len(log), err)
			}
			return nil
		})
	}
	refused("a stranger", d)
	a.invite(id, d)
	w.settle()
	refused("who is invited", d)
	d.join(id)
	w.settle()
	a.say(id, "with dave")
	w.settle()
	list, _, err := b.gives(id, d, everything, 1<<20)
	if err != nil || len(list) != 1 {
		t.Errorf("dave is given %d, %v", len(list), err)
	}
	w.check(a.write(id, room.Remove{Account: c.account()}))
	w.settle()
	refused("who was removed", c)
	if list, _, err := c.gives(id, b, everything, 1<<20); !errors.Is(err, ErrNotInRoom) || len(list) > 0 {
		t.Errorf("who is out gives %d, %v", len(list), err)
	}
	var unknown protocol.RoomID
	if _, _, err := b.gives(unknown, a, everything, 1<<20); !errors.Is(err, ErrNotInRoom) {
		t.Errorf("of a room that is not there: %v", err)
	}
}

// What somebody sealed while he might, and nobody was told in time, no member helps him to
// say when he is banned or demoted.
func TestMembersBringNothingOfWhoMayNotSayIt(t *testing.T) {
	for what, loss := range map[string]struct {
		op    func(protocol.AccountID) room.Op
		given int // of what he said: as a moderator, and before
	}{
		"banned":  {func(a protocol.AccountID) room.Op { return room.Ban{Account: a} }, 0},
		"muted":   {func(a protocol.AccountID) room.Op { return room.SetMemberRights{Account: a, Muted: true} }, 0},
		"demoted": {func(a protocol.AccountID) room.Op { return room.SetRole{Account: a, Role: room.RoleMember} }, 1},
	} {
		w, id, a, b, c := trio(t)
		w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
		w.settle()
		msg := c.says(id, "of carol")
		b.says(id, "of bob") // whoever was not there gets it from the mailbox
		forged := b.deletion(id, c, msg)
		w.check(a.write(id, loss.op(b.account())))
		w.settle()
		for _, n := range []*node{a, c} {
			w.check(n.takesFrom(id, c, items(forged)))
			if got := looks(n.heard(id)); !slices.Contains(got, "of carol") {
				t.Errorf("%s: %s sees %q", what, n.name, got)
			}
			list, _, err := n.gives(id, c, []RoomGap{{b.device(), 1, message.MaxNumber}}, 1<<20)
			if w.check(err); len(list) != loss.given {
				t.Errorf("%s: %s gives %d of his", what, n.name, len(list))
			}
		}
	}
}

// A member is not the mailbox: what one gives back does not count as stored, and of an action
// ahead of the log here it is not known what its author may do.
func TestMemberIsNotTheMailbox(t *testing.T) {
	w, id, a, b, c := trio(t)
	msg := a.says(id, "of alice")
	c.offline = true
	c.say(id, "of carol")
	c.gossipAll(id)
	back, _, err := b.gives(id, c, []RoomGap{{c.device(), 2, message.MaxNumber}}, 1<<20)
	if w.check(err); len(back) != 1 {
		t.Fatalf("bob has %d of carol's", len(back))
	}
	w.check(c.takesFrom(id, b, items(back...)))
	if got := c.room(id).Queued; got != 1 {
		t.Errorf("%d of carol's wait for the mailbox", got)
	}
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	w.settle()
	w.check(b.pin(msg, true))
	w.settle()
	ahead, _, err := a.gives(id, c, c.wants(id), 1<<20)
	w.check(err)
	w.check(c.takesFrom(id, a, items(ahead...)))
	wantLooks(t, "ahead of the log", c.heard(id), "hello of alice", "hello of bob", "hello of carol", "of alice", "of carol")
	c.offline = false
	w.pass(time.Hour)
	if got := looks(c.heard(id)); !slices.Contains(got, "of alice(pinned)") {
		t.Errorf("when the log is here: %q", got)
	}
}

// Of the log a member gives only what others wrote, and nothing that does not follow.
func TestLogFromMembers(t *testing.T) {
	w, id, a, b, c := trio(t)
	w.check(a.write(id, room.SetRole{Account: c.account(), Role: room.RoleModerator}))
	w.settle()
	c.offline = true
	from := c.room(id).State.Seq() + 1
	w.check(a.write(id, room.Rotate{}))
	w.settle()
	w.check(b.takeRoom(id, RoomPage{Entries: w.home.rooms[id].log}))
	log := w.home.rooms[id].log[from:]
	if len(log) != 1 {
		t.Fatalf("%d entries", len(log))
	}
	forged := slices.Clone(log[0])
	forged[len(forged)-1] ^= 1
	if err := c.takesFrom(id, b, RoomPage{Entries: [][]byte{forged}}); !errors.Is(err, ErrRoomLog) {
		t.Errorf("a forged entry: %v", err)
	}
	if err := c.takesFrom(id, b, RoomPage{Entries: [][]byte{[]byte("x")}}); !errors.Is(err, ErrRoomLog) {
		t.Errorf("no entry: %v", err)
	}
	w.check(c.takesFrom(id, a, RoomPage{Entries: log})) // who wrote it
	if got := c.room(id).State.Seq(); got != from-1 {
		t.Errorf("took an entry of its author: %d", got)
	}
	w.check(c.takesFrom(id, b, RoomPage{Entries: w.home.rooms[id].log}))
	if got := c.room(id).State.Seq(); got != from {
		t.Errorf("the log ends with %d", got)
	}
}

// What is kept for members is bounded, in bytes and in time.
func TestKeptForMembersIsBounded(t *testing.T) {
	w, id, a, b, _ := trio(t)
	kept := func() (bytes, rows int) {
		for _, pair := range b.rows(tableRoomLent) {
			bytes, rows = bytes+len(pair.Value), rows+1
		}
		if ages := len(b.rows(tableRoomLentAge)); rows > 0 && ages != rows+1 {
			t.Errorf("%d messages, %d rows of their age", rows, ages)
		}
		return bytes, rows
	}
	long := string(make([]byte, 60<<10))
	for range maxRoomLent/len(long) + 5 {
		a.say(id, long)
		w.settle()
	}
	if bytes, rows := kept(); bytes > maxRoomLent || rows < maxRoomLent/(70<<10) {
		t.Errorf("%d bytes in %d messages", bytes, rows)
	}
	w.pass(lentTime + 2*sweepEvery)
	if _, rows := kept(); rows > 0 {
		t.Errorf("%d messages after that time", rows)
	}
	a.say(id, "short")
	w.settle()
	if _, rows := kept(); rows != 1 {
		t.Errorf("%d messages", rows)
	}
	w.check(b.write(id, room.Leave{}))
	w.settle()
	w.pass(time.Minute + sweepEvery)
	if _, rows := kept(); rows > 0 {
		t.Errorf("%d messages of a room that was left", rows)
	}
}

// Nobody has the same messages looked at twice with one question.
func TestOneQuestionCostsOneLook(t *testing.T) {
	w, id, a, b, c := trio(t)
	all := RoomGap{a.device(), 1, message.MaxNumber}
	for name, wants := range map[string][]RoomGap{
		"the same twice":  {all, all},
		"another between": {all, {b.device(), 1, 5}, all},
		"overlapping":     {{a.device(), 1, 5}, {a.device(), 5, 9}},
		"descending":      {{a.device(), 6, 9}, {a.device(), 1, 5}},
		"turned round":    {{a.device(), 9, 1}},
		"too many":        make([]RoomGap, maxRoomWants+1),
	} {
		if name == "too many" {
			for i := range wants {
				wants[i] = RoomGap{a.device(), uint64(2 * i), uint64(2 * i)}
			}
		}
		if list, _, err := b.gives(id, c, wants, 1<<20); !errors.Is(err, ErrBadWants) || len(list) > 0 {
			t.Errorf("%s: %d messages, %v", name, len(list), err)
		}
	}
	list, more, err := b.gives(id, c, []RoomGap{{a.device(), 0, 0}, {c.device(), 1, 9}, all}, 1<<20)
	w.check(err)
	if len(list) != 2 || more {
		t.Errorf("%d messages, more %v", len(list), more)
	}
}
