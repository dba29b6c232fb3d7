package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
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

// Who joins gets the keys of everything that the room is called and its members are,
// however many there are; and only once.
func TestNewcomersGetAllKeysOfTexts(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	w.befriend(a, b)
	id := a.createRoom("Climbing")
	w.settle()
	for i := range maxRoomGive {
		n := w.add(fmt.Sprint("member", i))
		n.away, n.offline = true, true
		k := room.NewStateKey()
		name, err := k.SealName(id, n.name)
		w.check(err)
		a.enter(id, room.Invite{Account: n.account()})
		n.enter(id, room.Join{Chain: n.chain().Bytes(), Name: name})
		a.do(func(tx store.Tx) (Hint, error) {
			return Hint{}, tx.Set(keyRoomKey(id, k.ID()), (&roomKeyRow{key: k.Bytes()}).encode())
		})
	}
	w.settle()
	a.invite(id, b)
	w.settle()
	b.join(id)
	w.settle()
	given := 0
	a.tap = func(to *node, _ []byte) {
		if to == b {
			given++
		}
	}
	for epoch, want := range []int{2, 1} {
		given = 0
		w.check(a.write(id, room.Rotate{}))
		a.say(id, "hello")
		w.settle()
		if given != want {
			t.Errorf("%d: %d contents", epoch, given)
		}
	}
	if r := b.room(id); r.Name != "Climbing" {
		t.Errorf("the room is called %q", r.Name)
	}
	for _, m := range b.room(id).State.Members() {
		var name string
		b.view(func(tx store.Tx) (err error) {
			name, err = b.e.RoomAuthorName(tx, id, m.Account)
			return err
		})
		if name == "" && !m.Name.IsZero() {
			t.Errorf("the name of who came with entry %d is not known", m.Joined)
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

// Who is blocked says nothing to us alone, and goes on in the rooms that both are in:
// else each would miss what the other says there, also after the block.
func TestBlockedInARoom(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b := nodes[0], nodes[1]
	w.check(b.relation(a, block))
	w.settle()
	w.check(a.write(id, room.Rotate{})) // new keys have to go from each to each
	w.settle()
	a.send(b, "alone")
	a.say(id, "of alice")
	b.say(id, "of bob")
	w.settle()
	w.check(b.relation(a, unblock))
	w.settle()
	a.say(id, "after it")
	w.settle()
	for _, n := range nodes {
		if got := slices.Sorted(slices.Values(texts(n.heard(id)))); !slices.Equal(got, []string{"after it", "of alice", "of bob"}) {
			t.Errorf("%s has %q", n.name, got)
		}
	}
	if got := texts(b.history(a)); len(got) > 0 {
		t.Errorf("bob has %q of somebody he blocked", got)
	}
}

// Who turned an invitation down may change his mind while it stands.
func TestJoinAfterAll(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	w.befriend(a, b)
	id := a.createRoom("Climbing")
	w.settle()
	a.invite(id, b)
	w.settle()
	b.do(func(tx store.Tx) (Hint, error) { return b.e.LeaveRoom(tx, w.now, id) })
	w.settle()
	b.join(id)
	w.settle()
	if r := b.room(id); r.Stage != RoomJoined {
		t.Errorf("bob: %q", r.Stage)
	}
}

// Who was told falsely that he is out, and asks to join, is in again as soon as the room
// is served, also if nothing is new in its log.
func TestJoinWhereOneIsIn(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	b := nodes[1]
	b.do(func(tx store.Tx) (Hint, error) {
		return b.e.RoomTurnedAway(tx, w.now, id, protocol.Refuse(protocol.Banned, ""))
	})
	b.join(id)
	w.settle()
	if r := b.room(id); r.Stage != RoomJoined || r.Joining {
		t.Errorf("bob: %q, joining %v", r.Stage, r.Joining)
	}
}

// Who turned an invitation down can be invited again.
func TestInviteAgain(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	w.befriend(a, b)
	id := a.createRoom("Climbing")
	w.settle()
	for range 2 {
		a.invite(id, b)
		w.settle()
		if r := b.room(id); r.Stage != RoomInvited {
			t.Fatalf("bob: %q", r.Stage)
		}
		b.do(func(tx store.Tx) (Hint, error) { return b.e.LeaveRoom(tx, w.now, id) })
		w.settle()
	}
	a.invite(id, b)
	w.settle()
	b.join(id)
	w.settle()
	if r := b.room(id); r.Stage != RoomJoined || b.roomEvents("invited") != 3 {
		t.Errorf("bob: %q, invited %d times", r.Stage, b.roomEvents("invited"))
	}
}

// Who comes in again reads on at once: what was said meanwhile is not waited for.
func TestRoomAfterReturn(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.say(id, "before")
	w.settle()
	w.check(a.write(id, room.Remove{Account: b.account()}))
	w.settle()
	a.say(id, "without bob")
	w.settle()
	a.invite(id, b)
	w.settle()
	if r := b.room(id); r.Stage != RoomInvited || r.By != a.account() {
		t.Fatalf("bob: %s", r.Stage)
	}
	b.join(id)
	w.settle()
	a.say(id, "with bob")
	w.settle()
	for n, want := range map[*node][]string{b: {"before", "with bob"}, c: {"before", "without bob", "with bob"}} {
		if got := texts(n.heard(id)); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", n.name, got, want)
		}
	}
}

// Who was removed is told so by the rendezvous, which shows him no log any more: he
// writes nothing that would wait for ever.
func TestTurnedAwayWritesNothing(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	b := nodes[1]
	b.do(func(tx store.Tx) (Hint, error) {
		return b.e.RoomTurnedAway(tx, w.now, id, protocol.Refuse(protocol.Banned, ""))
	})
	err := b.update(func(tx store.Tx) (Hint, error) {
		return b.e.ComposeDraft(tx, w.now, Conversation(id), protocol.NewMsgID(), Draft{Text: "x"})
	})
	if !errors.Is(err, ErrNotInRoom) {
		t.Errorf("%v", err)
	}
	if r := b.room(id); r.Stage != RoomOut || r.Queued > 0 {
		t.Errorf("%q, %d queued", r.Stage, r.Queued)
	}
}

// Who was called banned and is in the room by its log comes back when the rendezvous serves
// it again; who was banned does not.
func TestTurnedAwayComesBack(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	read := func() {
		b.do(func(tx store.Tx) (Hint, error) { return b.e.TakeRoom(tx, w.now, id, RoomPage{}) })
	}
	b.turnedAway(id, protocol.Banned)
	if p := b.roomPlan(id); p.Follow || !p.Doubt || b.room(id).Stage != RoomOut {
		t.Errorf("called banned: %+v, %q", p, b.room(id).Stage)
	}
	b.turnedAway(id, protocol.Banned) // asked again, and still
	if n := b.roomEvents(RoomWasRemoved); n != 1 {
		t.Errorf("told %d times", n)
	}
	read()
	a.says(id, "hello")
	b.says(id, "still here")
	if r := b.room(id); r.Stage != RoomJoined || len(a.heard(id)) != 2 || len(b.heard(id)) != 2 {
		t.Errorf("afterwards: %q, %q", r.Stage, texts(b.heard(id)))
	}
	b.do(func(tx store.Tx) (Hint, error) { return b.e.LeaveRoom(tx, w.now, id) })
	w.settle()
	read()
	if p := b.roomPlan(id); p.Doubt || b.room(id).Stage != RoomOut {
		t.Errorf("bob, who left: %+v, %q", p, b.room(id).Stage)
	}
}

// All devices of an account are in its rooms: those it has, and one that is added
// later, from then on.
func TestRoomOnAllDevices(t *testing.T) {
	w, alices, bobs := crowd(t, 2, 2)
	a, b := alices[0], bobs[0]
	id := a.createRoom("Climbing")
	w.settle()
	a.invite(id, b)
	w.settle()
	bobs[1].join(id)
	w.settle()
	all := slices.Concat(alices, bobs)
	var want []string
	for i, n := range all {
		want = append(want, fmt.Sprint("from ", i))
		n.say(id, want[i])
		w.settle()
	}
	for i, n := range all {
		if got := texts(n.heard(id)); !slices.Equal(got, want) {
			t.Errorf("device %d has %q", i, got)
		}
		if n.room(id).Name != "Climbing" {
			t.Errorf("device %d calls it %q", i, n.room(id).Name)
		}
	}
	third := w.link(a)
	w.settle()
	b.say(id, "for three")
	w.settle()
	third.say(id, "of the third")
	w.settle()
	if got := texts(third.heard(id)); !slices.Equal(got, []string{"for three", "of the third"}) {
		t.Errorf("the new device has %q", got)
	}
	for i, n := range all {
		if got := texts(n.heard(id)); !slices.Equal(got[len(want):], []string{"for three", "of the third"}) {
			t.Errorf("device %d has %q", i, got)
		}
	}
}

// A moderator changes somebody's rights again and again while that one writes:
// nothing is lost, nothing comes twice, and it stays who it is.
func TestGST01_RightsChangeUnderTraffic(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	before, _ := a.room(id).State.Member(b.account())
	var want []string
	for i := range 100 {
		rights := room.Access
		if i%2 == 0 {
			rights = room.Read | room.Send
		}
		want = append(want, fmt.Sprint("text ", i))
		b.say(id, want[i])
		if i%3 == 0 { // now and then it is sealed before the change is known, and refused after
			b.sendRoom(id)
		}
		w.check(a.write(id, room.SetMemberRights{Account: b.account(), HasOwn: true, Own: rights}))
		if i%7 == 0 {
			w.settle()
		}
	}
	w.settle()
	w.pass(gapTime)
	for _, n := range nodes {
		if got := texts(n.heard(id)); !slices.Equal(got, want) {
			t.Errorf("%s has %d of %d: %q", n.name, len(got), len(want), got)
		}
	}
	after, _ := c.room(id).State.Member(b.account())
	if after.Account != before.Account || after.Joined != before.Joined || b.roomEvents("removed") != 0 {
		t.Error("the member is another")
	}
}

// With the rendezvous away members who reach each other go on talking, and all are at
// one afterwards.
func TestRoomWithoutRendezvous(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	for _, n := range nodes { // all have all chains
		n.say(id, n.name)
		w.settle()
	}
	for _, n := range nodes {
		n.offline = true
	}
	c.away = true
	a.say(id, "anybody there?")
	a.gossipAll(id)
	b.say(id, "here")
	b.gossipAll(id)
	if got := texts(a.heard(id)); got[len(got)-1] != "here" {
		t.Fatalf("alice has %q", got)
	}
	if got := texts(b.heard(id)); !slices.Contains(got, "anybody there?") {
		t.Fatalf("bob has %q", got)
	}
	for _, n := range nodes {
		n.offline, n.away = false, false
	}
	w.pass(gapTime)
	for _, n := range nodes {
		if got := texts(n.heard(id)); len(got) != 5 {
			t.Errorf("%s has %q", n.name, got)
		}
	}
}

// An entry that lost its race is written again; a removal goes before what waits.
func TestEntriesAreWrittenAgain(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	w.settle()
	a.offline, b.offline = true, true
	w.check(b.write(id, room.Lock{On: true}))
	w.check(b.write(id, room.Rotate{}))
	w.check(a.write(id, room.Rotate{}))
	w.check(a.write(id, room.Remove{Account: c.account()}))
	a.offline = false
	w.settle()
	b.offline = false
	w.pass(gapTime)
	state := a.room(id).State
	if _, in := state.Member(c.account()); in || !state.Locked() || state.Head() != b.room(id).State.Head() {
		t.Errorf("carol is in: %v; locked: %v", in, state.Locked())
	}
	log := w.home.rooms[id].log
	first, err := room.ParseEntry(log[len(log)-4])
	w.check(err)
	if first.Op.Kind() != room.KindRemove {
		t.Errorf("%v came before the removal", first.Op.Kind())
	}
	if len(a.rows(tableRoomEntry))+len(b.rows(tableRoomEntry)) != 0 {
		t.Error("entries still wait")
	}
}

// Somebody met in a room, with whom there is a session, is not forgotten with the
// room: what still comes from there is refused, and no error.
func TestMateIsNotForgotten(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	c.say(id, "hello")
	w.settle()
	w.check(a.write(id, room.Remove{Account: c.account()}))
	w.settle()
	w.pass(3 * 24 * time.Hour)
	keys := &wire.RoomKeys{Room: make([]byte, 32)}
	if code := forgeContent(w, c, b, &wire.Content{Body: &wire.Content_RoomKeys{RoomKeys: keys}}); code != protocol.NotContact {
		t.Errorf("keys of no room: %v", code)
	}
	if code := forgeContent(w, c, b, &wire.Content{Body: &wire.Content_Receipt{Receipt: &wire.Receipt{}}}); code != protocol.NotContact {
		t.Errorf("a receipt: %v", code)
	}
	var list []Contact
	b.view(func(tx store.Tx) (err error) {
		list, err = b.e.Contacts(tx)
		return err
	})
	if len(list) != 1 {
		t.Errorf("%d contacts", len(list))
	}
}

// Keys of rooms stand in ephemeral rows and nowhere else, also while they wait for
// somebody who is away.
func TestKLC04_RoomKeysAreInEphemeralRows(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	b.away, a.offline = true, true
	a.say(id, "text")
	a.gossipAll(id)
	secrets := map[string][]byte{}
	for _, row := range a.rows(tableRoomChain) {
		var r roomChainRow
		w.check(r.decode(row.Value))
		secrets["seed"] = r.distribution[len(r.distribution)-32:]
	}
	for _, row := range a.rows(tableRoomKey) {
		var r roomKeyRow
		w.check(r.decode(row.Value))
		secrets["key of texts"] = r.key
	}
	secrets["link"] = a.makeLink(id, 1, time.Hour).Link.Key.Bytes()
	if len(secrets) != 3 {
		t.Fatalf("%d secrets", len(secrets))
	}
	for table := range 256 {
		for _, row := range a.rows(byte(table)) {
			for what, secret := range secrets {
				if bytes.Contains(row.Value, secret) && !Ephemeral(row.Key) {
					t.Errorf("the %s is in a row of table %c", what, table)
				}
			}
		}
	}
	if queued, waiting := a.counts(); queued+waiting == 0 {
		t.Error("nothing is queued")
	}
}

// Keys for who left meanwhile are given up when they are refused, and not tried again
// for weeks.
func TestKeysForWhoLeftAreGivenUp(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	b.say(id, "hello") // so that there are sessions
	w.settle()
	w.check(a.write(id, room.Rotate{}))
	w.settle()
	b.away, b.offline = true, true
	b.say(id, "with new keys")
	b.gossipAll(id)
	w.check(a.write(id, room.Remove{Account: c.account()}))
	w.settle()
	if queued, _ := b.counts(); queued != 2 {
		t.Fatalf("%d contents are queued", queued)
	}
	b.away, b.offline = false, false
	w.pass(time.Hour)
	if queued, waiting := b.counts(); queued+waiting != 0 {
		t.Errorf("%d queued, %d waiting", queued, waiting)
	}
	if got := texts(a.heard(id)); !slices.Equal(got, []string{"hello", "with new keys"}) {
		t.Errorf("alice has %q", got)
	}
}
