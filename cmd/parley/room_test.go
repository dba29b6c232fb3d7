package main

import (
	"testing"

	"github.com/parley-chat/parley/node/api"
)

func TestDescribeRoom(t *testing.T) {
	id := "abcdefghijklmnop"
	for want, r := range map[string]api.Room{
		"1 member": {Stage: api.RoomJoined, Role: "member", Members: 1},
		"3 members, you are owner, locked, 2 unread, 1 on their way":     {Stage: api.RoomJoined, Role: "owner", Members: 3, Locked: true, Unread: 2, Queued: 1},
		"2 members, DIFFERENT LOGS, nothing is sent: parley room fork x": {Name: "x", ID: id, Stage: api.RoomJoined, Members: 2, Forked: true},
		"alice invites you: parley room join climbing":                   {Name: "climbing", ID: id, Stage: api.RoomInvited, By: "alice"},
		"somebody invites you: parley room join abcdefgh":                {Name: "; rm -rf ~", ID: id, Stage: api.RoomInvited},
		"you are not in it":           {Stage: api.RoomOut},
		"your node asks to be let in": {Stage: api.RoomJoining},
	} {
		if got := describeRoom(r); got != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
	rooms := []api.Room{{Stage: api.RoomJoined, Unread: 2}, {Stage: api.RoomJoined, Unread: 1}, {Stage: api.RoomInvited}, {Stage: api.RoomOut, Unread: 9}}
	if got := describeRooms(rooms); got != "2, 3 unread; 1 invitation (parley room list)" {
		t.Errorf("%q", got)
	}
}

// TestArrived: a message to a room is where it was to go when the room's mailbox has it,
// one to a contact when a device of theirs has it.
func TestArrived(t *testing.T) {
	for _, m := range []struct {
		state           api.State
		contact, inRoom bool
	}{{api.Queued, false, false}, {api.Stored, false, true}, {api.Delivered, true, true}, {api.Read, true, true}, {api.Failed, false, false}} {
		if arrived(api.Message{State: m.state}) != m.contact || arrived(api.Message{State: m.state, Room: "id"}) != m.inRoom {
			t.Errorf("%s", m.state)
		}
	}
}
