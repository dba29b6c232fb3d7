package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// force makes a node that never knocked a guest of the room.
func (n *node) force(id protocol.RoomID, victim *node) {
	n.w.t.Helper()
	n.enter(id, room.GuestJoin{Chain: victim.chain().Bytes(), Password: 1, Expires: n.w.now.Add(time.Hour)})
}

// forcedWhileInvited is a room of mallory's, to which the victim was invited, and then made
// a guest of it.
func forcedWhileInvited(t *testing.T) (w *world, id protocol.RoomID, mallory, victim *node) {
	w = newWorld(t)
	id, nodes := roomOf(t, w, "mallory", "mate")
	mallory, victim = nodes[0], w.add("victim")
	w.befriend(mallory, victim)
	mallory.setPassword(id, "x", false)
	mallory.invite(id, victim)
	w.settle()
	mallory.force(id, victim)
	w.settle()
	return w, id, mallory, victim
}

// Whom a stranger makes a guest of his room has no room by it, and hears nothing.
func TestForcedGuestForgetsTheRoom(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "mallory", "mate")
	m, victim := nodes[0], w.add("victim")
	m.setPassword(id, "x", false)
	w.settle()
	m.force(id, victim)
	m.say(id, "buy this")
	w.settle()
	m.say(id, "and this")
	m.gossipAll(id)
	w.settle()

	victim.view(func(tx store.Tx) error {
		if _, err := victim.e.Room(tx, w.now, id); !errors.Is(err, ErrNoRoom) {
			t.Errorf("the room is kept: %v", err)
		}
		return nil
	})
	if got := victim.heard(id); len(got) != 0 {
		t.Errorf("the victim reads %q", texts(got))
	}
	for name, table := range map[string]byte{"log": tableRoomLog, "keys": tableRoomKey, "names": tableRoomNote, "senders": tableRoomReceiver} {
		if left := victim.rows(table); len(left) != 0 {
			t.Errorf("%d rows are left of the %s", len(left), name)
		}
	}
	if got := victim.events(KindRoom); len(got) != 0 {
		t.Errorf("the victim is told %v", got)
	}
}

// Who is invited is not in before he says so, whatever the log makes of him meanwhile.
func TestForcedGuestIsNotHeardWhileInvited(t *testing.T) {
	w, id, m, victim := forcedWhileInvited(t)
	m.say(id, "buy this")
	m.gossipAll(id)
	w.settle()
	if r := victim.room(id); r.Stage != RoomInvited {
		t.Errorf("the room is %q", r.Stage)
	}
	if got := victim.heard(id); len(got) != 0 {
		t.Errorf("the victim reads %q", texts(got))
	}
	if left := victim.rows(tableRoomReceiver); len(left) != 0 {
		t.Error("the victim took keys of the room")
	}
}

// Who left stays out, also if he is made a guest before he heard that he is out.
func TestForcedGuestWhoLeftIsOut(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "mallory", "victim")
	m, victim := nodes[0], nodes[1]
	m.setPassword(id, "x", false)
	w.settle()
	victim.enter(id, room.Leave{})
	m.force(id, victim)
	w.settle()
	m.say(id, "buy this")
	m.gossipAll(id)
	w.settle()
	if r := victim.room(id); r.Stage != RoomOut {
		t.Errorf("the room is %q", r.Stage)
	}
	if got := victim.heard(id); len(got) != 0 {
		t.Errorf("the victim reads %q", texts(got))
	}
}

// Nobody is let in with the libp2p identity of somebody who is in the room.
func TestGuestWithTheIdentityOfAMember(t *testing.T) {
	w := newWorld(t)
	id, nodes, _ := houseOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	v, err := w.newGuest("thief", id).knock(a, id, secret("open sesame"))
	w.check(err)
	honest := v.request
	v.request.Device.PeerID = b.chain().Standing()[0].PeerID
	refused := a.update(func(tx store.Tx) (Hint, error) { return a.e.AdmitGuest(tx, w.now, id, v.request) })
	if protocol.CodeOf(refused) != protocol.BadRequest {
		t.Errorf("admitted: %v", refused)
	}
	v.request = honest
	w.check(v.admit())
}

// Keys of a room that somebody was forced into are taken from nobody.
func TestForcedGuestTakesNoKeys(t *testing.T) {
	w, id, m, victim := forcedWhileInvited(t)
	before := len(victim.rows(tableRoomKey))
	k, msg := room.NewStateKey(), protocol.NewMsgID()
	code := forgeContent(w, m, victim, &wire.Content{MsgId: msg[:], Body: &wire.Content_RoomKeys{RoomKeys: &wire.RoomKeys{Room: id[:], StateKeys: [][]byte{k.Bytes()}}}})
	if after := len(victim.rows(tableRoomKey)); code != protocol.OK || after != before {
		t.Errorf("%v, and %d keys became %d", code, before, after)
	}
}
