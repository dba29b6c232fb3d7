package engine

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/link"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/roomlink"
	"github.com/parley-chat/parley/store"
)

func (n *node) makeLink(id protocol.RoomID, uses uint16, lasts time.Duration) (l RoomLink) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (h Hint, err error) {
		l, h, err = n.e.MakeRoomLink(tx, n.w.now, id, uses, n.w.now.Add(lasts))
		return h, err
	})
	return l
}

func (n *node) joinBy(l roomlink.Link) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.JoinRoomByLink(tx, n.w.now, l) })
}

func (n *node) links(id protocol.RoomID) (list []RoomLink) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		list, err = n.e.RoomLinks(tx, n.w.now, id)
		return err
	})
	return list
}

// parsed is a link as somebody reads it who was given its text.
func (w *world) parsed(l RoomLink) roomlink.Link {
	w.t.Helper()
	read, err := roomlink.Parse(l.Link.String())
	w.check(err)
	return read
}

// Somebody whom nobody in the room knows comes in by a link while all of them are
// away, and is a member like others once one of them is back.
func TestJoinByLinkWhileNobodyIsThere(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b, c := nodes[0], nodes[1], w.add("carol")
	l := a.makeLink(id, 2, time.Hour)
	if list := a.links(id); len(list) != 1 || !list[0].Pending {
		t.Fatalf("before it is in the log: %+v", list)
	}
	a.say(id, "before")
	w.settle()
	for _, n := range nodes {
		n.away, n.offline = true, true
	}
	w.check(c.joinBy(w.parsed(l)))
	w.settle()
	if r := c.room(id); r.Stage != RoomJoined || r.Joining || c.roomEvents("joined") != 1 {
		t.Fatalf("carol: %s", r.Stage)
	}
	if n := len(c.rows(tableRoomLink)); n != 0 {
		t.Errorf("carol keeps %d keys of links", n)
	}
	for _, n := range nodes {
		n.away, n.offline = false, false
		n.connect()
	}
	w.pass(time.Minute)
	if got := c.room(id).Name; got != "Climbing" {
		t.Errorf("carol calls the room %q, though who made the link is back", got)
	}
	c.say(id, "of carol")
	w.settle()
	b.say(id, "of bob")
	w.settle()
	for n, want := range map[*node][]string{a: {"before", "of carol", "of bob"}, b: {"before", "of carol", "of bob"}, c: {"of carol", "of bob"}} {
		if got := texts(n.heard(id)); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", n.name, got, want)
		}
	}
	list := a.links(id)
	if len(list) != 1 || list[0].Uses != 1 || list[0].Pending || list[0].Link.String() != l.Link.String() {
		t.Errorf("alice's links: %+v", list)
	}
	if list := b.links(id); len(list) != 1 || list[0].Link.String() != "" {
		t.Error("bob knows the key of a link that alice made")
	}
}

// A link ends with its uses, its time, when it is taken back, and when who made it is
// out; and whoever tries it then is told and not in.
func TestLinkEnds(t *testing.T) {
	for name, end := range map[string]func(w *world, id protocol.RoomID, a, b *node, l RoomLink){
		"used up": func(w *world, id protocol.RoomID, a, b *node, l RoomLink) {
			w.check(w.add("dave").joinBy(w.parsed(l)))
		},
		"its time is over": func(w *world, id protocol.RoomID, a, b *node, l RoomLink) { w.pass(2 * time.Hour) },
		"taken back": func(w *world, id protocol.RoomID, a, b *node, l RoomLink) {
			w.check(a.write(id, room.Unlink{Key: l.Key}))
		},
		"its author is out": func(w *world, id protocol.RoomID, a, b *node, l RoomLink) {
			w.check(a.write(id, room.Remove{Account: b.account()}))
		},
		"locked": func(w *world, id protocol.RoomID, a, b *node, l RoomLink) { w.check(a.write(id, room.Lock{On: true})) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, nodes := roomOf(t, w, "alice", "bob")
			a, b, c := nodes[0], nodes[1], w.add("carol")
			w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
			w.settle()
			l := b.makeLink(id, 1, time.Hour)
			w.settle()
			end(w, id, a, b, l)
			w.settle()
			w.check(c.joinBy(w.parsed(l)))
			w.settle()
			r := c.room(id)
			if r.Stage != RoomOut || r.Joining || c.roomEvents("not_done") != 1 {
				t.Errorf("carol: %q, joining %v, told %d times", r.Stage, r.Joining, c.roomEvents("not_done"))
			}
			if _, in := a.room(id).State.Member(c.account()); in {
				t.Error("carol is in")
			}
			if len(c.rows(tableRoomLink)) != 0 || name != "locked" && name != "its time is over" && len(b.rows(tableRoomLink)) != 0 {
				t.Error("the key of a link is kept that is good for nothing")
			}
		})
	}
}

// Who was removed does not come back by a link, but by an invitation, also with a link
// that he tried.
func TestRemovedDoesNotComeBackByLink(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	l := a.makeLink(id, 10, time.Hour)
	w.check(a.write(id, room.Remove{Account: b.account()}))
	w.settle()
	w.check(b.joinBy(w.parsed(l)))
	w.settle()
	if r := b.room(id); r.Stage != RoomOut || r.Joining {
		t.Fatalf("bob: %s", r.Stage)
	}
	a.invite(id, b)
	w.settle()
	w.check(b.joinBy(w.parsed(l)))
	w.settle()
	if r := b.room(id); r.Stage != RoomJoined {
		t.Errorf("bob after an invitation: %s", r.Stage)
	}
	if got := a.links(id)[0].Uses; got != 10 {
		t.Errorf("the link has %d uses left", got)
	}
}

// A link that names another founder than the log has leads nowhere, and so does one of
// another room's key.
func TestForgedLink(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice")
	other := nodes[0].createRoom("Diving")
	l, m := nodes[0].makeLink(id, 10, time.Hour), nodes[0].makeLink(other, 10, time.Hour)
	w.settle()
	c := w.add("carol")
	forged := w.parsed(l)
	forged.Founder = c.account()
	w.check(c.joinBy(forged))
	w.settle()
	if c.roomEvents("bad_log") == 0 || c.room(id).Stage == RoomJoined {
		t.Error("the log of another founder was taken")
	}
	swapped := w.parsed(m)
	swapped.Room = id
	d := w.add("dave")
	w.check(d.joinBy(swapped))
	w.settle()
	if d.roomEvents("not_done") != 1 || d.room(id).Stage != RoomOut {
		t.Error("the key of another room's link")
	}
}

func TestJoinByLinkRefusals(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice")
	l := w.parsed(nodes[0].makeLink(id, 10, time.Hour))
	c := w.add("carol")
	guests, away := l, l
	guests.Password = 1
	away.Home.Peer = bytes.Repeat([]byte{1}, 38)
	if err := c.joinBy(guests); !errors.Is(err, ErrGuestLink) {
		t.Errorf("a link for guests: %v", err)
	}
	if err := c.joinBy(away); !errors.Is(err, ErrOtherHome) {
		t.Errorf("a link to another rendezvous: %v", err)
	}
	w.check(nodes[0].joinBy(l))
	if r := nodes[0].room(id); r.Stage != RoomJoined || r.Joining {
		t.Error("who is in joins")
	}
}

// Links, invitations and what our other devices are told name where the rendezvous is
// now; without an address that fits there is none.
func TestLinkNamesTheRendezvous(t *testing.T) {
	w := newWorld(t)
	id, nodes, _ := houseOf(t, w, "alice")
	a, b := nodes[0], w.add("bob")
	w.befriend(a, b)
	first := a.makeLink(id, 1, time.Hour)
	moved := Home{Peer: w.home.log.peer(), Addrs: []string{"/dns4/new.example.org/tcp/1"}}
	a.do(func(tx store.Tx) (Hint, error) { return Hint{}, SetHome(tx, moved) })
	if got := a.links(id)[0].Link.Home.Addrs; !slices.Equal(got, moved.Addrs) || slices.Equal(first.Link.Home.Addrs, got) {
		t.Errorf("the link names %q", got)
	}
	a.view(func(tx store.Tx) error {
		l, err := a.e.GuestLink(tx, w.now, id)
		if l.Password != 1 || l.Founder != a.account() || !slices.Equal(l.Home.Addrs, moved.Addrs) {
			t.Errorf("the link for guests is %q", l)
		}
		told, err2 := a.e.RoomStates(tx, w.now)
		if len(told) != 1 || !slices.Equal(told[0].GetAddrs(), moved.Addrs) {
			t.Errorf("our other devices are told %v", told)
		}
		return errors.Join(err, err2)
	})
	a.do(func(tx store.Tx) (Hint, error) { return a.e.InviteToRoom(tx, w.now, id, b.account()) })
	w.settle()
	if got := b.room(id).Home.Addrs; !slices.Equal(got, moved.Addrs) {
		t.Errorf("the invitation names %q", got)
	}
	a.do(func(tx store.Tx) (Hint, error) { return Hint{}, SetHome(tx, Home{Peer: moved.Peer}) })
	err := a.update(func(tx store.Tx) (h Hint, err error) {
		_, h, err = a.e.MakeRoomLink(tx, w.now, id, 1, w.now.Add(time.Hour))
		return h, err
	})
	if !errors.Is(err, ErrNoAddress) {
		t.Errorf("a link to nowhere: %v", err)
	}
}

// Links and messages about them are lost, repeated and late; processes start anew at
// any time: whoever has the link is in at the end.
func TestJoinByLinkUnderLoss(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice")
	a := nodes[0]
	l := a.makeLink(id, 8, 24*time.Hour)
	w.settle()
	var all []*node
	for i, name := range []string{"bob", "carol", "dave", "erin"} {
		n := w.add(name)
		tries := i
		n.fate = func() fate { tries++; return []fate{lost, ackLost, arrives}[tries%3] }
		w.check(n.joinBy(w.parsed(l)))
		n.load()
		all = append(all, n)
	}
	for range 10 {
		w.pass(time.Minute)
	}
	for _, n := range all {
		if r := n.room(id); r.Stage != RoomJoined {
			t.Errorf("%s: %s, %d times told why not", n.name, r.Stage, n.roomEvents("not_done"))
		}
	}
	if got := a.links(id)[0].Uses; got != 4 {
		t.Errorf("%d uses are left", got)
	}
}

// Addresses that are too long for a link are left out, not the link.
func TestLinkAddrs(t *testing.T) {
	short, long := "/ip4/192.0.2.1/tcp/1", "/dns4/"+strings.Repeat("x", link.MaxAddr)+"/tcp/1"
	many := slices.Repeat([]string{long, short}, 2*roomlink.MaxAddrs)
	if got := linkAddrs(many); len(got) != roomlink.MaxAddrs || slices.Contains(got, long) {
		t.Errorf("%q", got)
	}
}
