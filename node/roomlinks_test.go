package node_test

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
)

// Somebody joins by a link whom nobody in the room knows, while nobody of the room is
// online; later all talk. The link is good as often as it says, and until it is taken
// back.
func TestRoomLink(t *testing.T) {
	net := nodetest.New(t, 4)
	alice, bob, carol, dave := net.People[0], net.People[1], net.People[2], net.People[3]
	room := net.NewRoom("climbing", alice)
	link, err := alice.MakeRoomLink(t.Context(), room, api.RoomLinkRequest{Uses: 2})
	if err != nil || link.Pending || link.Uses != 2 || time.Until(link.Expires) < 6*24*time.Hour {
		t.Fatalf("the link: %+v, %v", link, err)
	}
	alice.SayIn(room, "before")
	net.Wait("it is in the mailbox", func() bool { return alice.InRoom(room).Queued == 0 })
	alice.Stop()

	now, err := bob.JoinRoomByLink(t.Context(), api.JoinLinkRequest{Link: link.Link})
	if err != nil || now.Stage != api.RoomJoined || now.Members != 2 {
		t.Fatalf("bob joins: %+v, %v", now, err)
	}
	alice.Start()
	net.Wait("bob knows what the room is called", func() bool { return bob.InRoom(room).Name == "climbing" })
	bob.SayIn(room, "hello")
	hear(net, alice, room, "bob: hello")
	alice.SayIn(room, "welcome")
	net.Wait("bob hears alice", func() bool { return len(bob.TextsIn(room)) == 2 })

	if c, err := alice.Add(t.Context(), api.AddRequest{Name: bob.Whoami().Account}); err != nil || c.Name != "bob" {
		t.Errorf("alice asks whom she met in the room: %+v, %v", c, err)
	}
	if _, err := alice.Add(t.Context(), api.AddRequest{Name: protocol.AccountID{1}.String()}); codeOf(err) != api.ErrNotFound {
		t.Errorf("alice asks an account without a name: %v", err)
	}

	links, err := alice.RoomLinks(t.Context(), room)
	if err != nil || len(links) != 1 || links[0].Uses != 1 || links[0].Link != link.Link {
		t.Errorf("alice's links: %+v, %v", links, err)
	}
	if _, err := alice.EndRoomLink(t.Context(), room, link.ID[:6]); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*nodetest.Person{carol, dave} {
		now, err := p.JoinRoomByLink(t.Context(), api.JoinLinkRequest{Link: link.Link})
		if codeOf(err) != api.ErrRefused {
			t.Errorf("%s joins by a link that was taken back: %+v, %v", p.Name, now, err)
		}
	}
	if links, err := alice.RoomLinks(t.Context(), room); err != nil || len(links) != 0 {
		t.Errorf("links: %+v, %v", links, err)
	}
	for text, want := range map[string]string{"parley://join#x": api.ErrBadInput, link.Link[:40]: api.ErrBadInput} {
		if _, err := carol.JoinRoomByLink(t.Context(), api.JoinLinkRequest{Link: text}); codeOf(err) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := bob.MakeRoomLink(t.Context(), room, api.RoomLinkRequest{}); codeOf(err) != api.ErrRefused {
		t.Errorf("a member who may not admit makes a link: %v", err)
	}
}

// A device that is linked later is in the rooms, with their history, and writes there.
func TestRoomsOnALinkedDevice(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	room := net.NewRoom("climbing", alice, bob)
	alice.SayIn(room, "one")
	hear(net, bob, room, "alice: one")
	bob.SayIn(room, "two")
	hear(net, alice, room, "bob: two")
	phone := alice.Link("phone", true)
	hear(net, phone, room, "alice: one")
	hear(net, phone, room, "bob: two")
	net.Wait("the phone is in the room", func() bool {
		r := phone.InRoom(room)
		return r.Stage == api.RoomJoined && r.Name == "climbing" && r.Role == "owner"
	})
	phone.SayIn(room, "three")
	hear(net, bob, room, "alice: three")
	hear(net, alice, room, "alice: three")
	if _, err := phone.RoomFork(t.Context(), room); codeOf(err) != api.ErrNotFound {
		t.Errorf("a fork that is none: %v", err)
	}
}

// A backup brings the rooms back: those one is in, with what was said, and those that are
// over. With the words alone the account is in its rooms again, and lost devices are not.
func TestRoomsComeBack(t *testing.T) {
	net, alice, bob, words := friends(t)
	room := net.NewRoom("climbing", bob, alice)
	left := net.NewRoom("diving", bob, alice)
	for _, id := range []string{room, left} {
		bob.SayIn(id, "hello")
		hear(net, alice, id, "bob: hello")
	}
	alice.In(left, api.RoomLeave, api.RoomRequest{})
	net.Wait("alice is out", func() bool { return alice.InRoom(left).Stage == api.RoomOut })
	b, _ := backupOf(t, alice, words)
	alice.Stop()
	rk := parseWords(t, words)
	second, params := machine(t, net, "second")
	params.Words, params.Backup = &rk, b
	enter(t, net, second, params)
	net.Wait("alice is in the room", func() bool { return second.InRoom("climbing").Stage == api.RoomJoined })
	for _, id := range []string{room, left} {
		if got := second.TextsIn(id); !slices.Equal(got, []string{"bob: hello"}) {
			t.Errorf("what was said in %s: %q", second.InRoom(id).Name, got)
		}
	}
	if r := second.InRoom("diving"); r.Stage != api.RoomOut {
		t.Errorf("the room that alice left: %+v", r)
	}
	second.SayIn(room, "back again")
	hear(net, bob, room, "alice: back again")
	bob.SayIn(room, "welcome") // who had verified her has to look before her new device gets his keys
	if err := bob.SetVerified(t.Context(), "alice", true); err != nil {
		t.Fatal(err)
	}
	hear(net, second, room, "bob: welcome")
}
