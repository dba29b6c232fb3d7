package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/parley-chat/parley/protocol/room"
)

// Three people in a room, of whom two are no contacts, read what each of them says.
func TestEveryoneInARoomReads(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	for i, n := range nodes {
		n.say(id, fmt.Sprint("one of ", i))
		n.say(id, fmt.Sprint("two of ", i))
		w.settle()
	}
	want := []string{"one of 0", "two of 0", "one of 1", "two of 1", "one of 2", "two of 2"}
	for _, n := range nodes {
		if got := texts(n.heard(id)); !slices.Equal(got, want) {
			t.Errorf("%s has %q", n.name, got)
		}
		for _, m := range n.heard(id) {
			if m.Mine && m.State != StateStored || !m.Mine && m.State != StateReceived {
				t.Errorf("%s: %q is %s", n.name, m.Text, m.State)
			}
		}
		if r := n.room(id); r.Name != "Climbing" || r.Queued != 0 {
			t.Errorf("%s: %q, %d queued", n.name, r.Name, r.Queued)
		}
	}
	w.pass(gapTime)
	w.checkEmpty()
	for _, n := range nodes { // nobody needs the seeds any more
		if rows := n.rows(tableRoomChain); len(rows) > 0 {
			t.Errorf("%s keeps %d seeds", n.name, len(rows))
		}
	}
}

// Who joins reads nothing older, who was removed nothing newer.
func TestNobodyReadsBeforeOrAfter(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	a.say(id, "before")
	w.settle()
	c := w.add("carol")
	w.befriend(a, c)
	a.invite(id, c)
	w.settle()
	c.join(id)
	w.settle()
	a.say(id, "with carol")
	w.settle()
	w.check(a.write(id, room.Remove{Account: b.account()}))
	w.settle()
	a.say(id, "without bob")
	w.settle()
	for n, want := range map[*node][]string{
		a: {"before", "with carol", "without bob"}, b: {"before", "with carol"}, c: {"with carol", "without bob"},
	} {
		if got := texts(n.heard(id)); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", n.name, got, want)
		}
	}
	if r := b.room(id); r.Stage != RoomOut || b.roomEvents("removed") != 1 {
		t.Errorf("bob: %s", r.Stage)
	}
}
