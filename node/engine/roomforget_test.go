package engine

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// forgeInvite sends an invitation to a room that need not be there.
func (n *node) forgeInvite(to *node, id protocol.RoomID) {
	n.w.t.Helper()
	mid := protocol.NewMsgID()
	invite := &wire.RoomInvite{Room: id[:], Home: []byte("x"), Head: make([]byte, 32), Seq: 1, Name: "Trap"}
	code := forgeContent(n.w, n, to, &wire.Content{MsgId: mid[:], Body: &wire.Content_RoomInvite{RoomInvite: invite}})
	if code != protocol.OK {
		n.w.t.Fatalf("invitation: %v", code)
	}
}

func (n *node) turnedAway(id protocol.RoomID, code protocol.Code) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.RoomTurnedAway(tx, n.w.now, id, protocol.Refuse(code, "")) })
}

// Invitations to rooms that are none leave nothing behind, however many a contact sends.
func TestInvitesFillNoRooms(t *testing.T) {
	w := newWorld(t)
	a, m := w.add("alice"), w.add("mallory")
	w.befriend(a, m)
	for i := range maxRooms + 1 {
		id := protocol.RoomID{1, byte(i), byte(i >> 8)}
		m.forgeInvite(a, id)
		a.turnedAway(id, protocol.UnknownRoom)
	}
	if rows := len(a.rows(tableRoom)); rows != 0 || a.roomEvents(RoomWasUninvited) != maxRooms+1 {
		t.Errorf("%d rooms, told %d times", rows, a.roomEvents(RoomWasUninvited))
	}
	a.createRoom("Mine")
}

// Of one contact only so many invitations wait for the user; others still come through.
func TestInvitesOfOneContact(t *testing.T) {
	w := newWorld(t)
	a, m, b := w.add("alice"), w.add("mallory"), w.add("bob")
	w.befriend(a, m)
	w.befriend(a, b)
	for i := range maxInvites + 1 {
		m.forgeInvite(a, protocol.RoomID{1, byte(i)})
	}
	if rows, told := len(a.rows(tableRoom)), len(a.events(KindUndecryptable)); rows != maxInvites || told != 1 {
		t.Errorf("%d rooms, told %d times", rows, told)
	}
	b.forgeInvite(a, protocol.RoomID{2})
	if rows := len(a.rows(tableRoom)); rows != maxInvites+1 {
		t.Errorf("%d rooms", rows)
	}
}

// Only contacts invite: who does it has accepted.
func TestInviteAccepts(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	a.ask(b)
	w.settle()
	b.forgeInvite(a, protocol.RoomID{1})
	if c := a.contact(b); c.Relation != Accepted {
		t.Errorf("bob, who invited alice, is %s", c.Relation)
	}
}

// Of the rooms that are over and have no messages the oldest are forgotten, with all that
// is here of them, and take nobody's place; those with messages, and those in use, stay.
func TestOldRoomsAreForgotten(t *testing.T) {
	w := newWorld(t)
	long, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	for range 2 * forgetCount {
		w.check(a.write(long, room.Rotate{}))
		w.settle()
	}
	said := a.createRoom("Said")
	used := a.createRoom("Used")
	w.settle()
	for _, id := range []protocol.RoomID{said, used} {
		a.invite(id, b)
		w.settle()
		b.join(id)
		w.settle()
	}
	a.says(said, "hello")
	for _, id := range []protocol.RoomID{long, said} {
		b.do(func(tx store.Tx) (Hint, error) { return b.e.LeaveRoom(tx, w.now, id) })
		w.settle()
	}
	over := func(i int) {
		w.now = w.now.Add(time.Second)
		id := protocol.RoomID{1, byte(i), byte(i >> 8)}
		since := uint64(millis(w.now))
		b.do(func(tx store.Tx) (Hint, error) {
			return b.e.TakeRoomState(tx, w.now, &wire.RoomState{Room: id[:], Stage: 3, Name: "Over", SinceMs: since})
		})
	}
	for i := range maxRoomsOut + 1 {
		over(i)
	}
	w.settle()
	if rows := len(b.rows(tableRoom)); rows != maxRoomsOut+2 {
		t.Errorf("%d rooms", rows)
	}
	for _, table := range append([]byte{tableRoom, tableRoomLog}, roomTables...) {
		for _, pair := range b.rows(table) {
			if protocol.RoomID(pair.Key[1:33]) == long {
				t.Fatalf("of the oldest room there is a row in table %c", table)
			}
		}
	}
	if len(b.heard(said)) != 1 || b.room(used).Stage != RoomJoined {
		t.Errorf("%d messages, %q", len(b.heard(said)), b.room(used).Stage)
	}
	b.createRoom("Mine")
}

// A room whose log is forgotten in part can be used again.
func TestForgottenInPart(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	for range forgetCount {
		w.check(a.write(id, room.Rotate{}))
		w.settle()
	}
	w.check(a.write(id, room.Remove{Account: b.account()}))
	w.settle()
	b.turnedAway(id, protocol.Banned)
	seq := b.room(id).State.Seq()
	b.do(func(tx store.Tx) (Hint, error) {
		x, err := b.e.begin(tx, w.now)
		w.check(err)
		for range 2 + len(roomTables) { // the log may come last
			w.check(x.forgetMore(id))
			if row, _, err := load[roomRow](tx, keyRoom(id)); err != nil || row.seq < seq {
				break
			}
		}
		return x.end()
	})
	if left := b.room(id).State.Seq(); left+forgetCount != seq {
		t.Fatalf("%d of %d entries are left", left+1, seq+1)
	}
	a.invite(id, b)
	w.settle()
	b.join(id)
	w.settle()
	a.says(id, "again")
	if got := texts(b.heard(id)); len(got) != 1 || got[0] != "again" {
		t.Errorf("bob has %q", got)
	}
}
