package node_test

import (
	"fmt"
	"slices"
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
