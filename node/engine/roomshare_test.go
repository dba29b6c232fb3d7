package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
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
	for i := range 90 { // more than goes into one content
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
		if mine := i%3 == 0 && i < 90; m.Mine != mine || m.Device != a.heard(id)[i].Device {
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
	if r := a2.room(id); r.Stage != RoomJoined || !r.State.May(a2.device(), r.State.Epoch(), room.Access) {
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

// A recovered account, of which no device is left, is in its rooms again by itself, and
// has from the backup what they were called and what was said, also in those that are
// over. The devices that were lost are out.
func TestRecoveredAccountIsInItsRooms(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	over := a.createRoom("Over")
	w.settle()
	a.invite(over, b)
	w.settle()
	b.join(over)
	w.settle()
	a.say(over, "the last word")
	a.say(id, "before")
	w.settle()
	w.check(a.write(over, room.Remove{Account: b.account()}))
	w.settle()

	var rooms []*wire.RoomState
	var old [][]byte
	pasts := map[protocol.RoomID]*wire.Past{}
	b.view(func(tx store.Tx) (err error) {
		if rooms, err = b.e.RoomStates(tx, w.now); err != nil {
			return err
		}
		for _, other := range []protocol.RoomID{id, over} {
			if pasts[other], _, err = b.e.ArchivePast(tx, Conversation(other), 0); err != nil {
				return err
			}
		}
		old, err = b.e.RoomLog(tx, over, 0, 1<<20)
		return err
	})
	b.away, b.offline = true, true
	chain, b2 := w.recovered(b)
	w.publish(b.name, chain)
	for range 2 { // the second time changes nothing
		for _, s := range rooms {
			b2.do(func(tx store.Tx) (Hint, error) { return b2.e.TakeRoomState(tx, w.now, s) })
		}
		b2.do(func(tx store.Tx) (Hint, error) {
			return b2.e.TakeRoomLog(tx, w.now, &wire.RoomLog{Room: over[:], Entries: old})
		})
		for _, p := range pasts {
			b2.do(func(tx store.Tx) (Hint, error) { return b2.e.TakePast(tx, w.now, p) })
		}
	}
	b2.connect()
	w.pass(time.Minute)
	if r := b2.room(id); r.Stage != RoomJoined || r.Name != "Climbing" {
		t.Fatalf("the room: %q %s", r.Name, r.Stage)
	}
	if r := b2.room(over); r.Stage != RoomOut || r.Name != "Over" || !slices.Equal(texts(b2.heard(over)), []string{"the last word"}) {
		t.Errorf("the room that is over: %q %s %q", r.Name, r.Stage, texts(b2.heard(over)))
	}
	b2.say(id, "of the new device")
	w.pass(time.Minute)
	a.say(id, "welcome back")
	w.pass(time.Minute)
	for _, n := range []*node{a, b2} {
		if got := texts(n.heard(id)); !slices.Equal(got, []string{"before", "of the new device", "welcome back"}) {
			t.Errorf("%s has %q", n.name, got)
		}
	}
	if s := a.room(id).State; s.May(b.device(), s.Epoch(), room.Read) {
		t.Error("the lost device reads on")
	}
}

// Without a backup a recovered account is in its rooms, and gets their names from who is
// in them.
func TestRecoveredWithoutBackup(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	b.away, b.offline = true, true
	chain, b2 := w.recovered(b)
	w.publish(b.name, chain)
	b2.hint.Rooms = addOnce(b2.hint.Rooms, id) // as the welcome tells
	w.pass(time.Minute)
	a.say(id, "welcome back")
	w.pass(time.Minute)
	if r := b2.room(id); r.Stage != RoomJoined || r.Name != "Climbing" || !slices.Equal(texts(b2.heard(id)), []string{"welcome back"}) {
		t.Errorf("%q %s %q", r.Name, r.Stage, texts(b2.heard(id)))
	}
}

// What another device says of rooms is refused if it cannot be, and takes nothing from
// what is known.
func TestRoomStatesThatCannotBe(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a := nodes[0]
	before := a.room(id)
	for name, s := range map[string]*wire.RoomState{
		"nothing": {}, "short id": {Room: make([]byte, 31)}, "stage": {Room: make([]byte, 32), Stage: 9},
		"nobody invites": {Room: make([]byte, 32), Stage: 1}, "head": {Room: make([]byte, 32), Head: []byte{1}},
		"name": {Room: make([]byte, 32), Name: "a\nb"}, "keys": {Room: make([]byte, 32), Keys: make([][]byte, maxStateKeys+1)},
		"of what is known": {Room: id[:], Stage: 3, Name: "Other"},
	} {
		a.do(func(tx store.Tx) (Hint, error) { return a.e.TakeRoomState(tx, w.now, s) })
		if got := a.room(id); got.Stage != before.Stage || got.Name != before.Name || len(a.rows(tableRoom)) != 1 {
			t.Errorf("%s changes something", name)
		}
	}
}

// An account in more rooms than a device takes is told so; nothing fails.
func TestTooManyRoomsAreTold(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	for i := range maxRooms + 2 {
		id := protocol.RoomID{byte(i), byte(i >> 8), 1}
		a.do(func(tx store.Tx) (Hint, error) {
			return a.e.TakeRoomState(tx, w.now, &wire.RoomState{Room: id[:], Stage: 2, Name: "Room"})
		})
	}
	message := &wire.PastMessage{MsgId: make([]byte, 16), Device: make([]byte, 32), Text: "text", State: 6}
	other := protocol.RoomID{9, 9, 9}
	a.do(func(tx store.Tx) (Hint, error) {
		return a.e.TakePast(tx, w.now, &wire.Past{With: other[:], Room: true, Messages: []*wire.PastMessage{message}})
	})
	if n, told := len(a.rows(tableRoom)), len(a.events(KindUndecryptable)); n != maxRooms || told != 3 {
		t.Errorf("%d rooms, told %d times", n, told)
	}
}
