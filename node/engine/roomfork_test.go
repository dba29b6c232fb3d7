package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// split is a room of four whose rendezvous shows alice and bob one log, and carol and
// dave another, from the next entry on.
type split struct {
	*world
	id         protocol.RoomID
	a, b, c, d *node
	left, here *roomHome // of alice and bob, of carol and dave
}

func newSplit(t *testing.T, before ...func(*split)) *split {
	w := newWorld(t)
	s := &split{world: w}
	var nodes []*node
	s.id, nodes = roomOf(t, w, "alice", "bob", "carol", "dave")
	s.a, s.b, s.c, s.d = nodes[0], nodes[1], nodes[2], nodes[3]
	for _, n := range nodes {
		n.say(s.id, "hello of "+n.name)
		w.settle()
	}
	for _, fn := range before {
		fn(s)
		w.settle()
	}
	s.left = w.home.rooms[s.id]
	s.here = s.left.clone()
	return s
}

// on shows one of the logs to some nodes while the others are away.
func (s *split) on(h *roomHome, fn func(), nodes ...*node) {
	s.t.Helper()
	for _, n := range []*node{s.a, s.b, s.c, s.d} {
		n.away = !slices.Contains(nodes, n)
		n.offline = n.away
	}
	s.home.rooms[s.id] = h
	fn()
	s.settle()
}

// everybody is where all are connected, and the rendezvous shows this log.
func (s *split) everybody(h *roomHome, fn func()) {
	s.t.Helper()
	s.on(h, func() {}, s.a, s.b, s.c, s.d)
	for _, n := range []*node{s.a, s.b, s.c, s.d} {
		n.connect()
		n.hint.Rooms = addOnce(n.hint.Rooms, s.id)
	}
	fn()
	for range 10 {
		s.pass(time.Minute)
	}
}

func (s *split) merge(by *node, theirs bool) error {
	return by.update(func(tx store.Tx) (Hint, error) { return by.e.KeepRoomLog(tx, s.now, s.id, theirs) })
}

func (s *split) fork(n *node) (f RoomFork, err error) {
	err = n.update(func(tx store.Tx) (h Hint, err error) {
		f, h, err = n.e.RoomFork(tx, s.now, s.id)
		return h, err
	})
	return f, err
}

// same checks that all have one log, and that all who are in talk.
func (s *split) same(nodes ...*node) {
	s.t.Helper()
	head := nodes[0].room(s.id).State.Head()
	for _, n := range nodes {
		if r := n.room(s.id); r.Forked || r.State.Head() != head {
			s.t.Fatalf("%s: alarm %v, head of entry %d is another", n.name, r.Forked, r.State.Seq())
		}
	}
	for _, n := range nodes {
		n.say(s.id, "after the merge, of "+n.name)
		s.pass(time.Minute)
	}
	for _, n := range nodes {
		for _, other := range nodes {
			if got := texts(n.heard(s.id)); !slices.Contains(got, "after the merge, of "+other.name) {
				s.t.Fatalf("%s has %q", n.name, got)
			}
		}
	}
}

// The rendezvous shows two logs. Who hears of it sees both, stops writing, and an owner
// says which goes on: all change over to it by themselves, and what was removed in
// either is out.
func TestForkIsMerged(t *testing.T) {
	s := newSplit(t, func(s *split) {
		s.check(s.a.write(s.id, room.SetRole{Account: s.c.account(), Role: room.RoleModerator}))
	})
	banned := protocol.AccountID{1}
	s.on(s.left, func() { s.check(s.a.write(s.id, room.Rotate{})) }, s.a, s.b)
	s.on(s.here, func() {
		s.c.say(s.id, "on the other log")
		s.check(s.c.write(s.id, room.Ban{Account: banned}))
	}, s.c, s.d)
	s.everybody(s.left, func() { s.d.say(s.id, "of dave"); s.d.gossipAll(s.id) })
	f, err := s.fork(s.a)
	s.check(err)
	if f.Fork == nil || f.By != s.d.account() || !f.Stands || f.Fork.Check() != nil || f.Fork.Theirs[0].Op.Kind() != room.KindBan {
		t.Fatalf("alice sees %+v", f)
	}
	if _, err := room.ParseFork(f.Fork.Marshal()); err != nil {
		t.Errorf("the evidence does not hold: %v", err)
	}
	if err := s.a.trySay(s.id, protocol.NewMsgID(), "x"); !errors.Is(err, ErrRoomFork) {
		t.Errorf("alice writes on: %v", err)
	}
	s.check(s.merge(s.b, false))
	if s.b.room(s.id).Forked || !s.a.room(s.id).Forked {
		t.Error("a member goes on with his log for others too, or not at all")
	}
	if err := s.merge(s.b, false); !errors.Is(err, room.ErrForbidden) {
		t.Errorf("a member merges: %v", err)
	}
	s.check(s.merge(s.a, false))
	s.everybody(s.left, func() {})
	s.same(s.a, s.b, s.c, s.d)
	if s.c.roomEvents(RoomWasMerged) != 1 || s.d.roomEvents(RoomWasMerged) != 1 || s.a.roomEvents(RoomWasMerged) != 0 {
		t.Error("not told who changed over, or told who did not")
	}
	for _, n := range []*node{s.a, s.b, s.d} {
		if _, err := s.fork(n); !errors.Is(err, ErrNoFork) {
			t.Errorf("%s after the merge: %v", n.name, err)
		}
	}
	if err := s.merge(s.a, false); !errors.Is(err, ErrNoFork) {
		t.Errorf("merged twice: %v", err)
	}
	if !s.b.room(s.id).State.Barred(banned) {
		t.Error("a removal was lost")
	}
}

// Where the rendezvous goes on with the other log, as after an old backup was put back,
// an owner changes over to that one, and all with him.
func TestForkIsMergedIntoTheirs(t *testing.T) {
	s := newSplit(t, func(s *split) {
		s.check(s.a.write(s.id, room.SetRole{Account: s.c.account(), Role: room.RoleModerator}))
	})
	s.on(s.left, func() {
		s.check(s.a.write(s.id, room.Rotate{}))
		s.b.say(s.id, "of bob")
	}, s.a, s.b)
	s.on(s.here, func() {
		s.c.say(s.id, "on the other log")
		s.check(s.c.write(s.id, room.Lock{On: true}))
	}, s.c, s.d)
	s.everybody(s.here, func() { s.d.say(s.id, "of dave"); s.d.gossipAll(s.id) })
	if f, err := s.fork(s.a); err != nil || f.Fork == nil {
		t.Fatalf("alice does not see the other log: %v", err)
	}
	if err := s.merge(s.b, true); !errors.Is(err, room.ErrForbidden) {
		t.Errorf("a member changes over by himself: %v", err)
	}
	before := s.d.room(s.id).State.Seq()
	s.check(s.merge(s.a, true))
	s.everybody(s.here, func() {})
	s.same(s.a, s.b, s.c, s.d)
	if s.a.roomEvents(RoomWasMerged) != 1 || s.b.roomEvents(RoomWasMerged) != 1 || s.d.roomEvents(RoomWasMerged) != 0 {
		t.Error("not told who changed over, or told who did not")
	}
	if hash, _ := s.d.room(s.id).State.At(before); s.a.room(s.id).State.Seq() <= before || hash == ([32]byte{}) {
		t.Error("the merge is not in the log")
	}
}

// One moderator ends no fork, two do.
func TestTwoModeratorsMerge(t *testing.T) {
	s := newSplit(t, func(s *split) {
		for _, n := range []*node{s.b, s.c} {
			s.check(s.a.write(s.id, room.SetRole{Account: n.account(), Role: room.RoleModerator}))
		}
	})
	s.on(s.left, func() { s.check(s.b.write(s.id, room.Rotate{})) }, s.b, s.c)
	s.on(s.here, func() { s.check(s.a.write(s.id, room.Lock{On: true})) }, s.a, s.d)
	s.everybody(s.left, func() { s.b.say(s.id, "with new keys") })
	s.check(s.merge(s.b, false))
	s.everybody(s.left, func() {})
	if s.d.roomEvents(RoomWasMerged) != 0 || !s.d.room(s.id).Forked {
		t.Fatal("dave follows one moderator")
	}
	s.check(s.merge(s.c, false))
	s.everybody(s.left, func() {})
	s.same(s.a, s.b, s.c, s.d)
}

// The removed cannot undo his removal: what he merges nobody adopts who saw it.
func TestRemovedMergesNothing(t *testing.T) {
	s := newSplit(t, func(s *split) {
		s.check(s.a.write(s.id, room.SetRole{Account: s.c.account(), Role: room.RoleModerator}))
	})
	s.on(s.left, func() { s.check(s.a.write(s.id, room.Remove{Account: s.c.account()})) }, s.a, s.b)
	s.on(s.here, func() { s.check(s.c.write(s.id, room.Rotate{})) }, s.c, s.d)
	s.everybody(s.left, func() { s.a.say(s.id, "of alice") })
	if f, err := s.fork(s.d); err != nil || f.Fork == nil {
		t.Fatalf("dave sees no fork: %v", err)
	}
	if _, err := s.fork(s.c); err == nil {
		s.check(s.merge(s.c, false))
	}
	s.everybody(s.here, func() {})
	for _, n := range []*node{s.a, s.b} {
		if _, in := n.room(s.id).State.Member(s.c.account()); in {
			t.Errorf("%s has carol back", n.name)
		}
	}
}

// A fork is found by the keys alone, where nobody hears anybody live: they name an
// epoch that the other log does not get to.
func TestForkIsFoundByKeys(t *testing.T) {
	s := newSplit(t)
	s.on(s.left, func() {
		for range 3 {
			s.check(s.a.write(s.id, room.Rotate{}))
		}
	}, s.a, s.b)
	s.on(s.here, func() { s.check(s.d.write(s.id, room.Leave{})) }, s.d)
	s.c.load()
	s.on(s.here, func() {}, s.c)
	s.everybody(s.left, func() { s.a.say(s.id, "with new keys") })
	for _, n := range []*node{s.a, s.c} {
		if f, err := s.fork(n); err != nil || f.Fork == nil || !f.Stands {
			t.Errorf("%s: %+v, %v", n.name, f, err)
		}
	}
	s.check(s.merge(s.a, false))
	s.everybody(s.left, func() {})
	s.same(s.a, s.b, s.c)
}

// What a member makes up of another log does no harm: it is shown, if it is one, and
// neither taken nor kept without bounds.
func TestMadeUpLogs(t *testing.T) {
	s := newSplit(t)
	by := room.Author{Account: s.c.account(), Device: s.c.device(), Key: s.c.e.id.DSK}
	state := s.left.state
	_, leaves, err := state.Write(s.now, by, room.Leave{})
	s.check(err)
	before := s.a.room(s.id).State.Head()
	forged := leaves.Bytes()
	forged[len(forged)-1] ^= 1
	for name, raw := range map[string][][]byte{
		"nothing": {}, "no entry": {[]byte("x")}, "forged": {forged}, "one that follows": {leaves.Bytes()},
		"the first": {s.left.log[0]}, "what is known": s.left.log, "gap": {leaves.Bytes(), leaves.Bytes()},
	} {
		s.a.do(func(tx store.Tx) (Hint, error) {
			w, err := s.a.e.begin(tx, s.now)
			if err != nil {
				return Hint{}, err
			}
			r, err := w.room(s.id)
			if err != nil {
				return Hint{}, err
			}
			if end, err := w.takeBranch(r, s.c.device(), raw); end != 0 || err != nil {
				t.Errorf("%s: taken to entry %d, %v", name, end, err)
			}
			return w.end()
		})
	}
	if s.a.room(s.id).State.Head() != before || len(s.a.rows(tableRoomBranch)) != 0 {
		t.Error("something changed")
	}
}
