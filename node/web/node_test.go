package web_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/node/web"
)

// serve gives a person a local API, and returns a client of it. The API ends
// with the test, or when it is asked to go down: then down is closed.
func serve(t *testing.T, p *nodetest.Person) (client *api.Client, down chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	down, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- web.Serve(ctx, p.Node, p.Config.Dir, func() { close(down); cancel() })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve ended with %v", err)
		}
	})
	for {
		client, err := api.Dial(p.Config.Dir)
		if err == nil {
			t.Cleanup(client.Close)
			return client, down
		}
		if !errors.Is(err, api.ErrNotRunning) || t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

// refused checks that err is a refusal with a code.
func refused(t *testing.T, what string, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != code || e.Text == "" {
		t.Errorf("%s: %#v, want %s", what, err, code)
	}
}

// TestEveryRequest uses every method of the client, against real nodes.
func TestEveryRequest(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, downA := serve(t, net.People[0])
	bob, _ := serve(t, net.People[1])
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	me, err := alice.Whoami(ctx)
	must(err)
	if me.Name != "alice" || me.Account == "" {
		t.Errorf("whoami: %+v", me)
	}
	s, err := alice.Status(ctx)
	must(err)
	if s.Name != "alice" || s.Dir != net.People[0].Config.Dir || s.PID == 0 {
		t.Errorf("status: %+v", s)
	}
	none, err := alice.Contacts(ctx)
	must(err)
	if none == nil || len(none) != 0 {
		t.Errorf("no contacts: %#v", none)
	}

	alarms, err := alice.Alarms(ctx)
	must(err)
	if alarms == nil || len(alarms) != 0 {
		t.Errorf("alarms: %#v", alarms)
	}
	_, err = alice.AcceptLog(ctx, api.AcceptRequest{N: 1})
	refused(t, "accept a log that nobody doubts", err, api.ErrNotFound)

	_, err = alice.Add(ctx, api.AddRequest{Name: "nobody"})
	refused(t, "add nobody", err, api.ErrNotFound)
	k, err := alice.Add(ctx, api.AddRequest{Name: "bob", Note: "hi"})
	must(err)
	if k.Name != "bob" || k.Relation != api.Requested {
		t.Errorf("added: %+v", k)
	}
	net.Wait("bob sees the request", func() bool {
		all, err := bob.Contacts(ctx)
		must(err)
		return len(all) == 1 && all[0].Relation == api.Incoming && all[0].Note == "hi"
	})
	_, err = bob.Accept(ctx, "alice")
	must(err)
	net.Wait("alice sees the answer", func() bool {
		all, err := alice.Contacts(ctx)
		must(err)
		return len(all) == 1 && all[0].Relation == api.Accepted
	})

	events := make(chan api.Event)
	listening, leave := context.WithCancel(ctx)
	left := make(chan struct{})
	go func() {
		defer close(left)
		for e, err := range bob.Events(listening, 0) {
			if err == nil && e.Kind == "message" {
				events <- e
			}
		}
	}()
	m, err := alice.Send(ctx, api.SendRequest{To: "bob", Text: "hello\n\u202e"})
	must(err)
	e := <-events
	if e.Message == nil || e.Message.Text != "hello\n\u202e" || e.With != "alice" {
		t.Errorf("event: %+v", e)
	}
	leave()
	<-left
	changed, err := bob.ChangeMessage(ctx, m.ID, api.MessageReact, api.MessageRequest{Emoji: "👍"})
	must(err)
	if len(changed.Reactions) != 1 || !changed.Reactions[0].Mine {
		t.Errorf("after a reaction: %+v", changed)
	}
	_, err = bob.ChangeMessage(ctx, m.ID, api.MessageReact, api.MessageRequest{Emoji: "fine"})
	refused(t, "react with a word", err, api.ErrBadInput)
	_, err = bob.ChangeMessage(ctx, m.ID, api.MessagePin, api.MessageRequest{})
	must(err)
	pins, err := bob.Pinned(ctx, "alice")
	must(err)
	if len(pins) != 1 || pins[0].ID != m.ID {
		t.Errorf("pinned: %+v", pins)
	}
	_, err = bob.SetTimer(ctx, api.TimerRequest{With: "alice", Lasts: 86400})
	must(err)
	until := time.Now().Add(time.Hour)
	_, err = bob.Mute(ctx, api.MuteRequest{With: "alice", Until: &until})
	must(err)
	set, err := bob.Conversation(ctx, "alice")
	must(err)
	if set.Lasts != 86400 || set.QuietUntil == nil || !set.QuietUntil.Equal(until.Truncate(time.Millisecond)) {
		t.Errorf("settings: %+v", set)
	}
	must(bob.MarkRead(ctx, api.ReadRequest{With: "alice", UpTo: e.Message.Position}))
	net.Wait("alice sees that it was read", func() bool {
		tr, err := alice.Trace(ctx, m.ID[:8])
		must(err)
		return tr.Message.State == api.Read && len(tr.Steps) > 1
	})
	page, err := bob.History(ctx, "alice", 0, 10)
	must(err)
	if len(page) != 1 || page[0].ID != m.ID {
		t.Errorf("history: %+v", page)
	}
	page, err = bob.History(ctx, "alice", page[0].Position, 10)
	must(err)
	if page == nil || len(page) != 0 {
		t.Errorf("history before the first: %#v", page)
	}
	_, err = alice.History(ctx, "nobody", 0, 10)
	refused(t, "history with nobody", err, api.ErrNotFound)
	_, err = alice.Trace(ctx, "zzzzzzzz")
	refused(t, "trace of nothing", err, api.ErrNotFound)

	safetyA, err := alice.Safety(ctx, "bob")
	must(err)
	safetyB, err := bob.Safety(ctx, "alice")
	must(err)
	if safetyA.Number != safetyB.Number || len(safetyA.Number) < 60 || safetyA.Verified {
		t.Errorf("safety numbers: %+v, %+v", safetyA, safetyB)
	}
	must(alice.SetVerified(ctx, "bob", true))
	if safetyA, err = alice.Safety(ctx, "bob"); err != nil || !safetyA.Verified {
		t.Errorf("verified: %+v, %v", safetyA, err)
	}
	for pong, err := range alice.Ping(ctx, "bob") {
		must(err)
		if pong.Problem == "" {
			break
		}
	}
	i, err := alice.Invite(ctx, api.InviteRequest{Uses: 2})
	must(err)
	if i.Uses != 2 || i.Link == "" {
		t.Errorf("invite: %+v", i)
	}
	room, err := alice.CreateRoom(ctx, api.CreateRoomRequest{Name: "a room/?", Topic: "of two"})
	must(err)
	if room.Name != "a room/?" || room.Topic != "of two" || room.Stage != api.RoomJoined || room.Role != "owner" {
		t.Errorf("room: %+v", room)
	}
	_, err = alice.ChangeRoom(ctx, "a room/?", api.RoomInvite, api.RoomRequest{Who: "bob"})
	must(err)
	net.Wait("bob is invited", func() bool {
		all, err := bob.Rooms(ctx)
		must(err)
		return len(all) == 1 && all[0].Stage == api.RoomInvited
	})
	joined, err := bob.ChangeRoom(ctx, room.ID, api.RoomJoin, api.RoomRequest{})
	must(err)
	if joined.Stage != api.RoomJoined {
		t.Errorf("joined: %+v", joined)
	}
	members, err := bob.RoomMembers(ctx, room.ID)
	must(err)
	if len(members) != 2 || members[0].Role != "owner" || !members[1].Self {
		t.Errorf("members: %+v", members)
	}
	member, err := bob.RoomMember(ctx, room.ID, "alice")
	must(err)
	if member.Account != me.Account || member.Role != "owner" {
		t.Errorf("alice in the room: %+v", member)
	}
	_, err = bob.RoomMember(ctx, room.ID, "a/b")
	refused(t, "a member whom nobody knows", err, api.ErrNotFound)
	log, err := bob.RoomLog(ctx, room.ID, 0, 2)
	must(err)
	if len(log) != 2 || log[1].What != "join" {
		t.Errorf("log: %+v", log)
	}
	said, err := bob.Send(ctx, api.SendRequest{To: "#" + room.ID, Text: "in a room"})
	must(err)
	if said.Room != room.ID || said.From != "bob" {
		t.Errorf("said: %+v", said)
	}
	if r, err := bob.Room(ctx, "#"+room.ID[:8]); err != nil || r.ID != room.ID {
		t.Errorf("room by the beginning of its id: %+v, %v", r, err)
	}
	_, err = bob.ChangeRoom(ctx, room.ID, "dance", api.RoomRequest{Who: "alice"})
	refused(t, "what nobody does in a room", err, api.ErrNotFound)
	_, err = bob.Room(ctx, "nothing")
	refused(t, "no room", err, api.ErrNotFound)

	_, err = alice.Block(ctx, "bob")
	must(err)
	_, err = alice.Unblock(ctx, "bob")
	must(err)
	_, err = alice.Remove(ctx, "bob")
	must(err)
	_, err = alice.Decline(ctx, "nobody")
	refused(t, "decline nobody", err, api.ErrNotFound)

	var end error
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		for _, err := range alice.NewEvents(ctx) {
			if err != nil {
				end = err
			}
		}
	}()
	must(alice.Down(ctx))
	<-downA
	<-waiting
	if !errors.Is(end, api.ErrNotRunning) {
		t.Errorf("a stream of a node that goes down ends with %v", end)
	}
}
