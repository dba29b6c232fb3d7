package node_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
)

// hear waits until somebody sees a text in a room.
func hear(net *nodetest.Net, p *nodetest.Person, room, text string) {
	net.Wait(fmt.Sprintf("%s sees %q", p.Name, text), func() bool { return slices.Contains(p.TextsIn(room), text) })
}

// A room is made, others are invited, join, and talk.
func TestRoom(t *testing.T) {
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("climbing", alice, bob, carol)

	alice.SayIn(room, "who comes along?")
	for _, p := range []*nodetest.Person{bob, carol} {
		hear(net, p, room, "alice: who comes along?")
	}
	bob.SayIn("climbing", "I do")
	hear(net, alice, room, "bob: I do")
	hear(net, carol, room, "bob: I do") // who are no contacts

	members, err := carol.RoomMembers(t.Context(), room)
	if err != nil || len(members) != 3 || members[0].Name != "alice" || members[0].Role != "owner" {
		t.Errorf("members: %+v, %v", members, err)
	}
	log, err := bob.RoomLog(t.Context(), room, 0, 100)
	if err != nil || len(log) < 6 || log[0].Text != "alice made the room" {
		t.Errorf("log: %+v, %v", log, err)
	}
	for _, e := range log {
		t.Log(e.Text)
	}
	if r := bob.InRoom("#climbing"); r.Members != 3 || r.Role != "member" || r.By != "alice" || r.ID != room {
		t.Errorf("bob's room: %+v", r)
	}
	if _, err := bob.ChangeRoom(t.Context(), room, api.RoomKick, api.RoomRequest{Who: "carol"}); codeOf(err) != api.ErrRefused {
		t.Errorf("a member removes another: %v", err)
	}
}

// Five talk. Who is removed is told, sees nothing of what is said from then on, and
// everything again from the moment he is let in again.
func TestRoomWithoutTheRemoved(t *testing.T) {
	net := nodetest.New(t, 5)
	alice, dave := net.People[0], net.People[3]
	room := net.NewRoom("climbing", alice, net.People[1:]...)
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

// Who was away for long gets everything, each author's messages in order, over any
// number of changes.
func TestRoomAfterAbsence(t *testing.T) {
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("climbing", alice, bob, carol)
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
func TestRoomRace(t *testing.T) {
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("climbing", alice, bob, carol)
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
