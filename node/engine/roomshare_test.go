package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

func (n *node) sharePast(with *node) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.SharePast(tx, n.w.now, with.device(), true) })
}

// A device that is added has all rooms, with their names and, if the user wants that,
// what was said in them before; of those that are over too.
func TestNewDeviceHasTheRooms(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	b, c := nodes[1], nodes[2]
	over := b.createRoom("Diving")
	left := b.createRoom("Left")
	w.settle()
	for _, other := range []protocol.RoomID{over, left} {
		b.invite(other, nodes[0])
		w.settle()
		nodes[0].join(other)
		w.settle()
		b.say(other, "before")
		w.settle()
	}
	w.check(b.write(over, room.Remove{Account: nodes[0].account()}))
	w.check(nodes[0].write(left, room.Leave{}))
	asked := b.createRoom("Asked")
	w.settle()
	b.invite(asked, nodes[0])
	var want []string
	for i := range 150 {
		want = append(want, fmt.Sprint("text ", i))
		nodes[i%3].say(id, want[i])
		w.settle()
	}
	a := nodes[0]
	a2 := w.link(a)
	a.sharePast(a2)
	w.settle()
	b.say(id, "after")
	w.settle()
	want = append(want, "after")
	w.pass(10 * time.Minute)
	if got := texts(a2.heard(id)); !slices.Equal(got, want) {
		t.Fatalf("the new device has %d of %d: %.300q", len(got), len(want), got)
	}
	for i, m := range a2.heard(id) {
		if mine := i%3 == 0 && i < 150; m.Mine != mine || m.Device != a.heard(id)[i].Device {
			t.Fatalf("row %d: mine %v, of %v", i, m.Mine, m.Device)
		}
	}
	if r := a2.room(id); r.Name != "Climbing" || r.Unread != 1 || r.Stage != RoomJoined {
		t.Errorf("the room is %q, %s, with %d unread", r.Name, r.Stage, r.Unread)
	}
	for other, name := range map[protocol.RoomID]string{over: "Diving", left: "Left"} {
		r := a2.room(other)
		if r.Stage != RoomOut || r.Name != name || r.State == nil || len(a2.heard(other)) != 1 {
			t.Errorf("%s: %q, %s", name, r.Name, r.Stage)
			continue
		}
		if who, _, _ := r.State.AccountOf(a2.heard(other)[0].Device); who != b.account() {
			t.Errorf("%s: nobody knows who said it", name)
		}
	}
	if r := a2.room(asked); r.Stage != RoomInvited || r.Name != "Asked" || r.By != b.account() {
		t.Errorf("an invitation: %q %s", r.Name, r.Stage)
	}
	a2.join(asked)
	a2.say(id, "of the new one")
	w.settle()
	for _, n := range []*node{a, b, c, a2} {
		if got := texts(n.heard(id)); got[len(got)-1] != "of the new one" {
			t.Errorf("%s has not heard of the new device", n.name)
		}
	}
	if r := a.room(asked); r.Stage != RoomJoined {
		t.Errorf("joined on one device, %s on the other", r.Stage)
	}
	w.pass(time.Hour)
	w.checkEmpty()
}

// A device is added while no other of the account is online: it is in the rooms all the
// same, since it brings its own statements into the logs.
func TestNewDeviceIsInRoomsAlone(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	a2 := w.addDevice(a)
	w.check(a.setOwnChain(a2.chain().Bytes()))
	a.away, a.offline, b.away, b.offline = true, true, true, true
	w.publish(a.name, a2.chain())
	a2.connect()
	a2.hint.Rooms = addOnce(a2.hint.Rooms, id)
	w.settle()
	if r := a2.room(id); r.Stage != RoomJoined || r.State.May(a2.device(), r.State.Epoch(), room.Access) != nil {
		t.Fatalf("the new device: %s", r.Stage)
	}
	a2.say(id, "alone")
	w.settle()
	b.away, b.offline = false, false
	b.connect()
	b.hint.Rooms = addOnce(b.hint.Rooms, id)
	w.pass(time.Minute)
	if got := texts(b.heard(id)); !slices.Equal(got, []string{"alone"}) {
		t.Errorf("bob has %q", got)
	}
}
