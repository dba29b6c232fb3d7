package node_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
)

// hear waits until somebody sees a text in a room.
func hear(net *nodetest.Net, p *nodetest.Person, room, text string) {
	net.Wait(fmt.Sprintf("%s sees %q", p.Name, text), func() bool { return slices.Contains(p.TextsIn(room), text) })
}

// TestRooms is what people do in rooms, with one rendezvous and five of them.
func TestRooms(t *testing.T) {
	net := nodetest.New(t, 5)
	t.Run("talk", func(t *testing.T) { testTalkInRoom(t, net) })
	t.Run("removed", func(t *testing.T) { testRemoved(t, net) })
	t.Run("rights", func(t *testing.T) { testRights(t, net) })
	t.Run("names", func(t *testing.T) { testRoomNames(t, net) })
	t.Run("invitations", func(t *testing.T) { testInvitations(t, net) })
	t.Run("race", func(t *testing.T) { testRoomRace(t, net) })
	t.Run("absence", func(t *testing.T) { testAbsence(t, net) })
}

// A room is made, others are invited, join, and talk.
func testTalkInRoom(t *testing.T, net *nodetest.Net) {
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("talk", alice, bob, carol)
	alice.SayIn(room, "who comes along?")
	for _, p := range []*nodetest.Person{bob, carol} {
		hear(net, p, room, "alice: who comes along?")
	}
	bob.SayIn("talk", "I do")
	hear(net, alice, room, "bob: I do")
	hear(net, carol, room, "bob: I do") // who are no contacts

	members, err := carol.RoomMembers(t.Context(), room)
	if err != nil || len(members) != 3 || members[0].Name != "alice" || members[0].Role != "owner" {
		t.Errorf("members: %+v, %v", members, err)
	}
	log, err := bob.RoomLog(t.Context(), room, 0, 100)
	if err != nil || len(log) != 6 || log[0].Text != "alice made the room" || log[3].What != "join" {
		t.Errorf("log: %+v, %v", log, err)
	}
	if page, err := bob.RoomLog(t.Context(), room, 3, 2); err != nil || len(page) != 2 || page[0].Seq != 1 {
		t.Errorf("a page of the log: %+v, %v", page, err)
	}
	if r := bob.InRoom("#talk"); r.Members != 3 || r.Role != "member" || r.By != "alice" || r.ID != room || r.Unread != 1 {
		t.Errorf("bob's room: %+v", r)
	}
	last := bob.HistoryOf(room)
	if err := bob.MarkRead(t.Context(), api.ReadRequest{With: "#talk", UpTo: last[len(last)-1].Position}); err != nil {
		t.Error(err)
	}
	if r := bob.InRoom(room); r.Unread != 0 {
		t.Errorf("%d unread", r.Unread)
	}
	found := false
	for e, err := range bob.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Message != nil && e.Message.Text == "I do" {
			break
		}
		found = found || e.Kind == "room" && e.With == "#talk" && e.Room == room && e.Text == "carol joined"
	}
	if !found {
		t.Error("no event says that carol joined")
	}
}

// Five talk. Who is removed is told, sees nothing of what is said from then on, and
// everything again from the moment he is let in again.
func testRemoved(t *testing.T, net *nodetest.Net) {
	alice, dave := net.People[0], net.People[3]
	room := net.NewRoom("removed", alice, net.People[1:]...)
	for _, p := range net.People {
		p.SayIn(room, "hello of "+p.Name)
	}
	for _, p := range net.People {
		for _, q := range net.People {
			hear(net, p, room, q.Name+": hello of "+q.Name)
		}
	}
	alice.In(room, api.RoomKick, api.RoomRequest{Who: "dave"})
	net.Wait("dave is out", func() bool { return dave.InRoom(room).Stage == api.RoomOut })
	alice.SayIn(room, "not for dave")
	for _, p := range []*nodetest.Person{net.People[1], net.People[2], net.People[4]} {
		hear(net, p, room, "alice: not for dave")
	}
	if _, err := dave.Send(t.Context(), api.SendRequest{To: "#" + room, Text: "still here?"}); codeOf(err) != api.ErrNotAccepted {
		t.Errorf("who was removed writes: %v", err)
	}

	net.Enter(room, alice, dave)
	alice.SayIn(room, "welcome back")
	hear(net, dave, room, "alice: welcome back")
	if slices.Contains(dave.TextsIn(room), "alice: not for dave") {
		t.Error("dave sees what was said while he was out")
	}
	dave.SayIn(room, "thanks")
	hear(net, net.People[4], room, "dave: thanks")
}

// What somebody may is changed, and holds for everybody.
func testRights(t *testing.T, net *nodetest.Net) {
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("rights", alice, bob, carol)
	sees := func(p *nodetest.Person, what string, is func(api.Room) bool) {
		t.Helper()
		net.Wait(p.Name+" sees "+what, func() bool { return is(p.InRoom(room)) })
	}
	if _, err := bob.ChangeRoom(t.Context(), room, api.RoomKick, api.RoomRequest{Who: "alice"}); codeOf(err) != api.ErrRefused {
		t.Errorf("a member removes the owner: %v", err)
	}
	alice.In(room, api.RoomMute, api.RoomRequest{Who: "bob"})
	sees(bob, "that he is mute", func(r api.Room) bool { return !slices.Contains(r.Rights, "send") })
	if _, err := bob.Send(t.Context(), api.SendRequest{To: "#" + room, Text: "?"}); codeOf(err) != api.ErrRefused {
		t.Errorf("who is mute writes: %v", err)
	}
	alice.In(room, api.RoomUnmute, api.RoomRequest{Who: "bob"})
	alice.In(room, api.RoomRights, api.RoomRequest{Who: "bob", Add: []string{"kick", "rename"}, Remove: []string{"react"}})
	sees(bob, "his rights", func(r api.Room) bool {
		return slices.Equal(r.Rights, []string{"read", "send", "files", "kick", "rename"})
	})
	bob.In(room, api.RoomTopic, api.RoomRequest{Text: "of bob"})
	sees(carol, "the topic", func(r api.Room) bool { return r.Topic == "of bob" && r.Name == "rights" })
	alice.In(room, api.RoomRights, api.RoomRequest{Role: "member", Add: []string{"admit"}})
	sees(carol, "what members may", func(r api.Room) bool { return slices.Contains(r.Rights, "admit") })
	alice.In(room, api.RoomPromote, api.RoomRequest{Who: "carol"})
	sees(carol, "her role", func(r api.Room) bool { return r.Role == "moderator" })
	carol.In(room, api.RoomLock, api.RoomRequest{On: true})
	sees(bob, "the lock", func(r api.Room) bool { return r.Locked })
	alice.In(room, api.RoomDemote, api.RoomRequest{Who: "carol"})
	sees(carol, "her role", func(r api.Room) bool { return r.Role == "member" })

	for what, c := range map[string]struct {
		verb string
		r    api.RoomRequest
		code string
	}{
		"nothing of that name":    {"dance", api.RoomRequest{Who: "bob"}, api.ErrNotFound},
		"nobody of that name":     {api.RoomKick, api.RoomRequest{Who: "nobody"}, api.ErrNotFound},
		"somebody outside":        {api.RoomMute, api.RoomRequest{Who: "dave"}, api.ErrNotFound},
		"no right":                {api.RoomRights, api.RoomRequest{Who: "bob", Add: []string{"fly"}}, api.ErrBadInput},
		"no change":               {api.RoomRights, api.RoomRequest{Who: "bob"}, api.ErrBadInput},
		"no role":                 {api.RoomRights, api.RoomRequest{Add: []string{"kick"}}, api.ErrBadInput},
		"less than a member":      {api.RoomDemote, api.RoomRequest{Who: "carol"}, api.ErrConflict},
		"what is so":              {api.RoomLock, api.RoomRequest{On: true}, api.ErrConflict},
		"a name too long":         {api.RoomRename, api.RoomRequest{Text: strings.Repeat("x", 65)}, api.ErrBadInput},
		"the last owner":          {api.RoomDemote, api.RoomRequest{Who: "alice"}, api.ErrConflict},
		"the last owner leaves":   {api.RoomLeave, api.RoomRequest{}, api.ErrConflict},
		"somebody who is invited": {api.RoomInvite, api.RoomRequest{Who: "bob"}, api.ErrConflict},
	} {
		if _, err := alice.ChangeRoom(t.Context(), room, c.verb, c.r); codeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", what, err, c.code)
		}
	}
}

// Rooms are named by name or id; a name that two have is refused with what to choose
// from. Nobody makes two of one name; the name of an invitation is for joining.
func testRoomNames(t *testing.T, net *nodetest.Net) {
	alice, bob := net.People[0], net.People[1]
	first, second := net.NewRoom("Same", alice), net.NewRoom("Same", bob)
	if _, err := alice.CreateRoom(t.Context(), api.CreateRoomRequest{Name: "sAME"}); codeOf(err) != api.ErrConflict {
		t.Errorf("alice makes another: %v", err)
	}
	bob.In(second, api.RoomInvite, api.RoomRequest{Who: "alice"})
	net.Wait("alice is invited", func() bool { return alice.InRoom(second).Name == "Same" })
	if r := alice.InRoom("Same"); r.ID != first {
		t.Error("an invitation takes the name of the room that alice is in")
	}
	if r := alice.In("#same", api.RoomJoin, api.RoomRequest{}); r.ID != second {
		t.Error("alice joins the room that she is in")
	}
	if _, err := alice.Room(t.Context(), "#Same"); codeOf(err) != api.ErrConflict || !strings.Contains(err.Error(), first[:8]) {
		t.Errorf("a name of two rooms: %v", err)
	}
	for _, name := range []string{second, "#" + second, second[:6], "#" + second[:10]} {
		if r := alice.InRoom(name); r.ID != second {
			t.Errorf("%q is %q", name, r.ID)
		}
	}
	alice.In(first, api.RoomLeave, api.RoomRequest{})
	for _, name := range []string{"Same", "#same"} {
		if r := alice.InRoom(name); r.ID != second {
			t.Errorf("%q is %q", name, r.ID)
		}
	}
	_, err := alice.Room(t.Context(), second[:5])
	if codeOf(err) != api.ErrNotFound {
		t.Errorf("too little of an id: %v", err)
	}
	if _, err := alice.Send(t.Context(), api.SendRequest{To: "#nothing", Text: "?"}); codeOf(err) != api.ErrNotFound {
		t.Errorf("no room: %v", err)
	}
}

// An invitation is turned down, or taken back; who left comes again by another.
func testInvitations(t *testing.T, net *nodetest.Net) {
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("invitations", alice, bob)
	stage := func(p *nodetest.Person, want string) {
		t.Helper()
		net.Wait(p.Name+" is "+want, func() bool { return p.InRoom(room).Stage == want })
	}
	alice.In(room, api.RoomInvite, api.RoomRequest{Who: "carol"})
	stage(carol, api.RoomInvited)
	if _, err := carol.Send(t.Context(), api.SendRequest{To: "#" + room, Text: "?"}); codeOf(err) != api.ErrNotAccepted {
		t.Errorf("who is only invited writes: %v", err)
	}
	carol.In(room, api.RoomLeave, api.RoomRequest{})
	stage(carol, api.RoomOut)
	members, err := alice.RoomMembers(t.Context(), room)
	if err != nil || len(members) != 3 || members[2].Role != api.RoomInvited || members[2].Name != "carol" || members[2].By != "alice" {
		t.Errorf("members: %+v, %v", members, err)
	}
	alice.In(room, api.RoomUninvite, api.RoomRequest{Who: "carol"})
	net.Enter(room, alice, carol)

	alice.In(room, api.RoomInvite, api.RoomRequest{Who: "dave"})
	stage(net.People[3], api.RoomInvited)
	alice.In(room, api.RoomUninvite, api.RoomRequest{Who: "dave"})
	_, err = net.People[3].ChangeRoom(t.Context(), room, api.RoomJoin, api.RoomRequest{})
	if code := codeOf(err); code != api.ErrRefused && code != api.ErrNotFound { // if dave has heard of it
		t.Errorf("who is not invited any more joins: %v", err)
	}

	bob.In(room, api.RoomLeave, api.RoomRequest{})
	stage(bob, api.RoomOut)
	net.Wait("alice knows that bob left", func() bool { return !alice.Knows(room, bob) })
	net.Enter(room, alice, bob)
	bob.SayIn(room, "here again")
	hear(net, carol, room, "bob: here again")
}

// Who was away for long gets everything, each author's messages in order, over any
// number of changes.
func testAbsence(t *testing.T, net *nodetest.Net) {
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("absence", alice, bob, carol)
	carol.SayIn(room, "bye")
	hear(net, bob, room, "carol: bye")
	carol.Stop()
	var want []string
	for i := range 60 {
		alice.SayIn(room, fmt.Sprint(i))
		want = append(want, fmt.Sprint("alice: ", i))
		if i%20 == 10 {
			alice.In(room, api.RoomRotate, api.RoomRequest{})
		}
	}
	alice.In(room, api.RoomRename, api.RoomRequest{Text: "bouldering"})
	hear(net, bob, room, "alice: 59")
	carol.Start()
	hear(net, carol, room, "alice: 59")
	if got := carol.TextsIn(room); !slices.Equal(got[len(got)-len(want):], want) {
		t.Errorf("carol sees %q", got)
	}
	net.Wait("carol knows the new name", func() bool { return carol.InRoom("#bouldering").ID == room })
}

// Of changes at the same time none is lost, and all see the same log.
func testRoomRace(t *testing.T, net *nodetest.Net) {
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("race", alice, bob, carol)
	alice.In(room, api.RoomPromote, api.RoomRequest{Who: "bob"})
	net.Wait("bob is a moderator", func() bool { return bob.InRoom(room).Role == "moderator" })
	var both sync.WaitGroup
	for _, p := range []*nodetest.Person{alice, bob} {
		both.Go(func() {
			for range 5 {
				if _, err := p.ChangeRoom(t.Context(), room, api.RoomRotate, api.RoomRequest{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	logOf := func(p *nodetest.Person) (list []string) {
		log, err := p.RoomLog(t.Context(), room, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range log {
			list = append(list, e.What)
		}
		return list
	}
	var log []string
	net.Wait("all see all of it", func() bool {
		log = logOf(carol)
		return slices.Equal(log, logOf(alice)) && slices.Equal(log, logOf(bob)) && alice.InRoom(room).Pending+bob.InRoom(room).Pending == 0
	})
	rotations := 0
	for _, what := range log {
		if what == "rotate" {
			rotations++
		}
	}
	if rotations != 10 {
		t.Errorf("%d of 10 changes are in the log", rotations)
	}
}

// While the rendezvous is away members who are connected hear each other, and
// afterwards everybody has everything, once.
func TestRoomWithoutRendezvous(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("climbing", alice, bob, carol)
	alice.SayIn(room, "before")
	hear(net, bob, room, "alice: before")
	hear(net, carol, room, "alice: before")
	alice.Say(bob, "so that we are connected")
	net.Wait("alice and bob are connected without it", func() bool { return alice.Contact("bob").Path == api.Direct })

	net.Home.Stop()
	net.Wait("alice noticed", func() bool { return !alice.Up() })
	alice.SayIn(room, "meanwhile")
	hear(net, bob, room, "alice: meanwhile")
	alice.In(room, api.RoomTopic, api.RoomRequest{Text: "ropes"})
	if r := alice.InRoom(room); r.Topic != "ropes" || r.Pending != 1 || r.Queued != 1 {
		t.Errorf("alice's room: %+v", r)
	}
	alice.In(room, api.RoomPromote, api.RoomRequest{Who: "bob"})
	if m, err := alice.RoomMember(t.Context(), room, "bob"); err != nil || m.Role != "moderator" {
		t.Errorf("bob, whom alice promoted, and would make an owner now: %+v, %v", m, err)
	}
	if l, err := alice.MakeRoomLink(t.Context(), room, api.RoomLinkRequest{}); err != nil || !l.Pending || l.Link == "" {
		t.Errorf("a link that nobody comes in by yet: %+v, %v", l, err)
	}
	net.Home.Start()
	hear(net, carol, room, "alice: meanwhile")
	for _, p := range net.People {
		net.Wait(p.Name+" sees the topic", func() bool { return p.InRoom(room).Topic == "ropes" })
		if texts := p.TextsIn(room); len(texts) != 2 {
			t.Errorf("%s sees %q", p.Name, texts)
		}
	}
	net.Wait("nothing waits", func() bool { r := alice.InRoom(room); return r.Pending+r.Queued == 0 })
}

// A rendezvous that was restored from a backup is given back what it lost of a room,
// also the room itself.
func TestRoomSetBack(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	old := net.NewRoom("old", alice, bob)
	alice.SayIn(old, "kept")
	hear(net, bob, old, "alice: kept")
	var young string
	net.Home.SetBack(func() {
		net.Wait("both are back", func() bool { return alice.Up() && bob.Up() })
		alice.In(old, api.RoomRename, api.RoomRequest{Text: "renamed"})
		for range 5 {
			alice.SayIn(old, "lost at the rendezvous")
		}
		net.Wait("bob hears it", func() bool { return len(bob.TextsIn(old)) == 6 })
		young = net.NewRoom("young", alice, bob)
	})
	bob.SayIn(old, "after")
	hear(net, alice, old, "bob: after")
	alice.SayIn(old, "after that")
	hear(net, bob, old, "alice: after that")
	bob.SayIn(young, "here too")
	hear(net, alice, young, "bob: here too")
	alice.In(old, api.RoomRename, api.RoomRequest{Text: "again"})
	net.Wait("bob sees the name", func() bool { return bob.InRoom("#again").ID == old })
}
