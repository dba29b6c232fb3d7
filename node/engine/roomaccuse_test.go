package engine

import (
	"slices"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// shows gives a node entries of another log, as a member's device does that was asked.
func (n *node) shows(id protocol.RoomID, to *node, entries ...room.Entry) {
	n.w.t.Helper()
	var raw [][]byte
	for _, entry := range entries {
		raw = append(raw, entry.Bytes())
	}
	to.do(func(tx store.Tx) (Hint, error) {
		w, err := to.e.begin(tx, n.w.now)
		if err != nil {
			return Hint{}, err
		}
		r, err := w.room(id)
		if err != nil {
			return Hint{}, err
		}
		if _, err := w.takeBranch(r, n.device(), raw); err != nil {
			return Hint{}, err
		}
		return w.end()
	})
}

// signs makes an entry that follows state and that no rendezvous has.
func (n *node) signs(state *room.State, op room.Op) (*room.State, room.Entry) {
	n.w.t.Helper()
	next, entry, err := state.Write(n.w.now, room.Author{Account: n.account(), Device: n.device(), Key: n.e.id.DSK}, op)
	n.w.check(err)
	return next, entry
}

// Who may only read cannot stop others from writing by saying that there is another
// log, neither in the heads of his own nor in a message. The user is told once.
func TestAWordStopsNobody(t *testing.T) {
	w, id, a, b, c := trio(t)
	bad := b.forgeSaid(id, func(v *message.View) { v.Head[0] ^= 1 }, textOf("from another log"))
	again := b.forgeSaid(id, func(v *message.View) { v.Head[1] ^= 1 }, textOf("from another log"))
	w.check(c.takeRoom(id, items(bad)))
	w.check(c.takeRoom(id, items(again)))
	if c.roomEvents(RoomWasForked) != 1 {
		t.Errorf("told %d times", c.roomEvents(RoomWasForked))
	}
	w.check(a.write(id, room.SetMemberRights{Account: b.account(), HasOwn: true, Own: room.Read}))
	w.settle()
	msg := protocol.NewMsgID()
	places := []*wire.RoomPlace{{Seq: 0, Hash: id[:]}, {Seq: 1, Hash: make([]byte, 32)}}
	forgeContent(w, b, a, &wire.Content{MsgId: msg[:], Body: &wire.Content_RoomHeads{RoomHeads: &wire.RoomHeads{Room: id[:], Places: places}}})
	for _, n := range []*node{a, c} {
		if n.room(id).Forked {
			t.Errorf("%s is stopped by a word", n.name)
		}
		n.say(id, "on we go, says "+n.name)
		w.settle()
	}
	if got := texts(b.heard(id)); !slices.Contains(got, "on we go, says alice") || !slices.Contains(got, "on we go, says carol") {
		t.Errorf("bob has %q", got)
	}
}

// A log that is valid, but that who shows it made alone, stops nobody either: it is
// kept for the user to see. When somebody else shows what others signed nothing is
// sent, until the user goes on; no device of that account stops anything then.
func TestOthersEntriesStopWriting(t *testing.T) {
	s := newSplit(t)
	state := s.left.state
	_, alone := s.b.signs(state, room.Leave{})
	s.check(s.a.write(s.id, room.Rotate{}))
	s.settle()
	s.b.shows(s.id, s.c, alone)
	f, err := s.fork(s.c)
	s.check(err)
	if f.Stands || f.By != s.b.account() || f.Fork == nil || f.Fork.Check() != nil {
		t.Fatalf("of bob's own entry: %+v", f)
	}
	if s.c.roomEvents(RoomWasForked) != 1 {
		t.Errorf("told %d times", s.c.roomEvents(RoomWasForked))
	}
	s.c.say(s.id, "on we go")
	s.d.shows(s.id, s.c, alone)
	if r := s.c.room(s.id); !r.Forked {
		t.Fatal("writes on though dave shows what bob signed")
	}
	s.check(s.merge(s.c, false))
	next, _ := s.a.signs(state, room.Lock{On: true})
	_, other := s.b.signs(next, room.Leave{})
	_, first := s.a.signs(state, room.Lock{On: true})
	for _, n := range []*node{s.d, s.b} {
		n.shows(s.id, s.c, first, other)
		if s.c.room(s.id).Forked {
			t.Errorf("%s stops carol once more", n.name)
		}
	}
	_, removes := s.a.signs(state, room.Remove{Account: s.d.account()})
	s.a.shows(s.id, s.c, removes)
	if !s.c.room(s.id).Forked {
		t.Error("an owner shows that he removed somebody, and carol writes on")
	}
	s.b.shows(s.id, s.c, alone)
	if f, err := s.fork(s.c); err != nil || !f.Stands || f.Fork == nil || f.Fork.Theirs[0].Hash() != removes.Hash() {
		t.Errorf("a log that weighs nothing took the place of one that does: %+v, %v", f, err)
	}
}

// On the word of a guest nobody stops, whatever log it shows; nor because of what
// guests signed.
func TestGuestsStopNobody(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	state := w.home.rooms[id].state
	_, of := b.signs(state, room.Leave{})
	_, ofGuest := g.signs(state, room.Leave{})
	w.check(a.write(id, room.Rotate{}))
	w.settle()
	g.shows(id, c, of)
	b.shows(id, c, ofGuest)
	if c.room(id).Forked {
		t.Error("stopped by a guest")
	}
	g.shows(id, c, of)
	c.say(id, "on we go")
	w.settle()
	if got := texts(a.heard(id)); !slices.Contains(got, "on we go") {
		t.Errorf("alice has %q", got)
	}
}
