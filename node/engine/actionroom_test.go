package engine

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// says writes to a room, and returns the message's id.
func (n *node) says(id protocol.RoomID, text string) protocol.MsgID {
	n.w.t.Helper()
	msg := protocol.NewMsgID()
	n.w.check(n.trySay(id, msg, text))
	n.w.settle()
	return msg
}

// doesInRoom seals what only a program that breaks the rules sends.
func (n *node) doesInRoom(id protocol.RoomID, a *wire.Action) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		return n.e.inRoom(tx, n.w.now, id, func(w *work, r *openRoom) error {
			msg := protocol.NewMsgID()
			b, err := proto.Marshal(&wire.RoomContent{MsgId: msg[:], SentMs: uint64(millis(w.now)), Body: &wire.RoomContent_Action{Action: a}})
			if err != nil {
				return err
			}
			return w.queueForRoom(r, roomOutRow{content: b})
		})
	})
	n.w.settle()
}

func wantInRoom(t *testing.T, what string, id protocol.RoomID, nodes []*node, want ...string) {
	t.Helper()
	for _, n := range nodes {
		wantLooks(t, what+" at "+n.name, n.heard(id), want...)
	}
}

// What members do to messages all see alike, each as far as the log lets it.
func TestActionsInRooms(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	ofA, ofB := a.says(id, "of alice"), b.says(id, "of bob")
	w.check(c.react(ofA, "👍"))
	w.check(b.react(ofA, "🎉"))
	w.check(b.edit(ofB, "Of bob"))
	w.check(a.pin(ofB, true))
	w.settle()
	two := "of alice 🎉 👍"
	if string(b.e.id.Account[:]) > string(c.e.id.Account[:]) {
		two = "of alice 👍 🎉"
	}
	wantInRoom(t, "after all did something", id, nodes, two, "Of bob(edited)(pinned)")
	for what, try := range map[string]struct{ got, want error }{
		"pin by a member":       {b.pin(ofA, true), ErrMayNot},
		"timer by a member":     {b.setTimer(Conversation(id), time.Hour), ErrMayNot},
		"deletion of another's": {b.erase(ofA), ErrNotAuthor},
		"edit by the owner":     {a.edit(ofB, "forged"), ErrNotAuthor},
	} {
		if !errors.Is(try.got, try.want) {
			t.Errorf("%s: %v, want %v", what, try.got, try.want)
		}
	}
	w.check(a.write(id, room.SetMemberRights{Account: c.account(), HasOwn: true, Own: room.Read | room.Send}))
	w.settle()
	if err := c.react(ofB, "👎"); !errors.Is(err, ErrMayNot) {
		t.Errorf("a reaction without the right: %v", err)
	}
	w.check(a.erase(ofB))
	msg, err := b.draft(Conversation(id), Draft{Text: "@carol?", ReplyTo: ofA, Mentions: []protocol.AccountID{c.account(), c.account()}})
	w.check(err)
	w.settle()
	wantInRoom(t, "after a deletion by who may kick", id, nodes, two, "(deleted)", "@carol?")
	for _, n := range nodes {
		m := n.message(msg)
		if !slices.Equal(m.Mentions, []protocol.AccountID{c.account()}) || m.ReplyTo != (Ref{a.account(), ofA}) {
			t.Errorf("%s: mentions %v, answers %v", n.name, m.Mentions, m.ReplyTo)
		}
		if n.holds("Of bob") {
			t.Errorf("%s holds what was deleted", n.name)
		}
	}
	if got := a.room(id); got.Queued != 0 {
		t.Errorf("%d queued", got.Queued)
	}
}

// What a member's program sends without the right changes nothing for the others.
func TestActionsInRoomsThatBreakTheRules(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	ofA, ofB := a.says(id, "of alice"), b.says(id, "of bob")
	w.check(a.write(id, room.SetMemberRights{Account: b.account(), HasOwn: true, Own: room.Read | room.Send}))
	w.settle()
	at := uint64(millis(w.now))
	ref := func(by *node, id protocol.MsgID) *wire.Ref { return Ref{by.account(), id}.wire() }
	for what, act := range map[string]*wire.Action{
		"edit of another's":              {To: ref(a, ofA), AtMs: at, What: &wire.Action_Edit{Edit: &wire.Edited{Text: "forged"}}},
		"edit of another's as one's own": {To: ref(b, ofA), AtMs: at, What: &wire.Action_Edit{Edit: &wire.Edited{Text: "forged"}}},
		"deletion without the right":     {To: ref(a, ofA), AtMs: at, What: &wire.Action_Delete{Delete: &wire.Deleted{}}},
		"pin without the right":          {To: ref(b, ofB), AtMs: at, What: &wire.Action_Pin{Pin: true}},
		"reaction without the right":     {To: ref(a, ofA), AtMs: at, What: &wire.Action_React{React: "👎"}},
		"timer without the right":        {AtMs: at, What: &wire.Action_TimerMs{TimerMs: 1000}},
		"hidden here":                    {To: ref(a, ofA), AtMs: at, What: &wire.Action_Hide{Hide: true}},
		"too late":                       {To: ref(b, ofB), AtMs: at + uint64(25*time.Hour/time.Millisecond), What: &wire.Action_Edit{Edit: &wire.Edited{Text: "late"}}},
	} {
		b.doesInRoom(id, act)
		wantInRoom(t, what, id, []*node{a, c}, "of alice", "of bob")
	}
	if got := c.settings(Conversation(id)); got != (Settings{}) {
		t.Errorf("settings: %+v", got)
	}
	// without the right early: nobody does later what he might not when the message comes
	b.doesInRoom(id, &wire.Action{To: ref(c, protocol.MsgID{9}), AtMs: at, What: &wire.Action_Delete{Delete: &wire.Deleted{}}})
	w.check(c.trySay(id, protocol.MsgID{9}, "of carol"))
	w.settle()
	wantInRoom(t, "deleted in advance", id, nodes, "of alice", "of bob", "of carol")
}

// What a moderator did while he was one counts for who was away and reads it after he
// left; what a former one does counts for nobody.
func TestModeratorsActionsCountByTheLog(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol", "dave")
	a, b, c, d := nodes[0], nodes[1], nodes[2], nodes[3]
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	w.settle()
	first, second := c.says(id, "first"), c.says(id, "second")
	d.offline, d.away = true, true
	w.check(b.erase(first))
	w.settle()
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleMember}))
	w.settle()
	b.doesInRoom(id, &wire.Action{To: Ref{c.account(), second}.wire(), AtMs: uint64(millis(w.now)), What: &wire.Action_Delete{Delete: &wire.Deleted{}}})
	w.check(b.update(func(tx store.Tx) (Hint, error) { return b.e.LeaveRoom(tx, w.now, id) }))
	w.settle()
	d.offline, d.away = false, false
	w.pass(time.Hour)
	wantInRoom(t, "afterwards", id, []*node{a, c, d}, "(deleted)", "second")
}

// deletion seals the deletion of a message of somebody, and sends it to nobody.
func (n *node) deletion(id protocol.RoomID, of *node, msg protocol.MsgID) []byte {
	mid, at := protocol.NewMsgID(), uint64(millis(n.w.now))
	return n.forgeSaid(id, nil, &wire.RoomContent{MsgId: mid[:], SentMs: at, Body: &wire.RoomContent_Action{
		Action: &wire.Action{To: Ref{of.account(), msg}.wire(), AtMs: at, What: &wire.Action_Delete{Delete: &wire.Deleted{}}},
	}})
}

// Who was a moderator does nothing more with a log of when he was one: his demotion begins
// an epoch, in which nobody can name an older log, and he is not heard with the one before.
func TestFormerModeratorDeletesNothing(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	w.settle()
	msg := c.says(id, "of carol")
	b.says(id, "of bob")
	before := b.deletion(id, c, msg)
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleMember}))
	w.settle()
	if s := b.room(id).State; s.Epoch() != s.Seq() {
		t.Errorf("epoch %d at entry %d", s.Epoch(), s.Seq())
	}
	b.says(id, "member again")
	after := b.deletion(id, c, msg)
	for _, later := range []time.Duration{0, 2 * message.InFlight} {
		w.pass(later)
		for _, n := range []*node{a, c} {
			hear := func(b []byte) error {
				return n.update(func(tx store.Tx) (Hint, error) { return n.e.HearRoom(tx, w.now, id, b) })
			}
			if _, refused := errors.AsType[*message.Error](hear(before)); !refused {
				t.Errorf("%s hears what he sealed before, %v later", n.name, later)
			}
			w.check(hear(after))
		}
	}
	wantInRoom(t, "afterwards", id, nodes, "of carol", "of bob", "member again")
}

// A live action of who has a right that the log here does not show yet waits for the
// mailbox.
func TestLiveActionAheadOfTheLog(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	msg := c.says(id, "of carol")
	c.offline = true
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	w.settle()
	w.check(b.pin(msg, true))
	b.gossipAll(id)
	w.settle()
	wantInRoom(t, "while the log is not here", id, []*node{c}, "of carol")
	c.offline = false
	w.pass(time.Hour)
	wantInRoom(t, "when it is", id, nodes, "of carol(pinned)")
}

// Messages of a room disappear, and what was read on one device is read on the others.
func TestReadAndDisappearInRooms(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	w.check(a.setTimer(Conversation(id), time.Hour))
	w.settle()
	b.says(id, "soon gone")
	if got := a.room(id).Unread; got != 1 {
		t.Errorf("%d unread", got)
	}
	w.pass(30 * time.Minute)
	a.do(func(tx store.Tx) (Hint, error) { return a.e.MarkRoomRead(tx, w.now, id, 10) })
	if got := a.room(id).Unread; got != 0 {
		t.Errorf("%d unread after it was read", got)
	}
	w.pass(45 * time.Minute)
	if len(b.heard(id)) != 0 || b.holds("soon gone") || len(a.heard(id)) != 1 {
		t.Errorf("bob has %d, alice %d", len(b.heard(id)), len(a.heard(id)))
	}
	a.load()
	w.pass(30 * time.Minute)
	if len(a.heard(id)) != 0 || a.holds("soon gone") {
		t.Error("who has read it still has it")
	}
}

// Who comes into a room takes its timer from the first text of somebody who may set it.
func TestTimerOfARoomForWhoComesLater(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	w.check(a.setTimer(Conversation(id), time.Hour))
	w.settle()
	c := w.add("carol")
	w.befriend(a, c)
	a.invite(id, c)
	w.settle()
	c.join(id)
	w.settle()
	b.says(id, "welcome")
	if got := c.settings(Conversation(id)).Timer; got != 0 {
		t.Errorf("a member who may not set it sets the timer: %v", got)
	}
	a.says(id, "welcome")
	if got := c.settings(Conversation(id)).Timer; got != time.Hour {
		t.Errorf("the timer is %v", got)
	}
	w.check(a.setTimer(Conversation(id), 0))
	w.settle()
	if got := c.settings(Conversation(id)).Timer; got != 0 {
		t.Errorf("after it was switched off, the timer is %v", got)
	}
}

// TestRoomActionsAnyNetworkAnyCrash lets members react to, edit and delete what they
// wrote while the network loses and doubles, processes die and epochs end. After it
// heals all show the same.
func TestRoomActionsAnyNetworkAnyCrash(t *testing.T) {
	origin := newWorld(t)
	id, _ := roomOf(t, origin, "alice", "bob", "carol")
	rapid.Check(t, func(rt *rapid.T) {
		c := rapidRoomChaos(rt, origin.clone(rt), id)
		c.actAll()
		c.heal()
		want := c.looks(c.w.nodes[0])
		for _, n := range c.w.nodes[1:] {
			if got := c.looks(n); !maps.Equal(got, want) {
				rt.Fatalf("%s shows %q, alice %q", n.name, got, want)
			}
		}
	})
}

func (c *roomChaos) actAll() {
	c.trouble()
	emoji := []string{"👍", "🎉", ""}
	to := func(n *node, fn func(protocol.MsgID)) {
		if list := n.heard(c.id); len(list) > 0 {
			fn(list[c.draw(len(list), "message")].ID)
		}
	}
	actions := map[string]func(n *node){
		"say": c.say,
		"react": func(n *node) {
			to(n, func(id protocol.MsgID) { n.react(id, emoji[c.draw(len(emoji), "emoji")]) })
		},
		"edit": func(n *node) {
			to(n, func(id protocol.MsgID) { n.edit(id, emoji[c.draw(len(emoji), "text")]) })
		},
		"delete":      func(n *node) { to(n, func(id protocol.MsgID) { n.erase(id) }) },
		"pin":         func(n *node) { to(n, func(id protocol.MsgID) { n.pin(id, c.draw(2, "on") == 1) }) },
		"send a file": func(n *node) { n.draft(Conversation(c.id), Draft{File: aFile(c.t, "a", "abc")}) },
		"step":        func(n *node) { n.step() },
		"settle":      func(*node) { c.steps() },
		"offline":     func(n *node) { n.offline = !n.offline },
		"away":        func(n *node) { n.away = !n.away },
		"restart":     func(n *node) { n.load() },
		"rotate":      func(n *node) { n.write(c.id, room.Rotate{}) },
		"time":        func(*node) { c.w.now = c.w.now.Add(times[c.draw(len(times), "time")]) },
	}
	names := slices.Sorted(maps.Keys(actions))
	for range 5 + c.draw(16, "actions") {
		n := c.node("node")
		c.survive(n, func() { actions[names[c.draw(len(names), "action")]](n) })
	}
}

// looks is what a node shows, by message.
func (c *roomChaos) looks(n *node) map[protocol.MsgID]string {
	all := map[protocol.MsgID]string{}
	for _, m := range n.heard(c.id) {
		all[m.ID] = looks([]Message{m})[0]
	}
	return all
}
