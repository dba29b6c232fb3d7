package node_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// While the rendezvous is away members go on talking; who was not there gets what was
// said from a member. When it is back everybody has the same, once.
func TestRoomAmongMembers(t *testing.T) {
	net := nodetest.New(t, 4)
	alice, bob, carol, dave := net.People[0], net.People[1], net.People[2], net.People[3]
	room := net.NewRoom("climbing", alice, bob, carol, dave)
	for _, p := range net.People { // so that everybody has everybody's keys
		p.SayIn(room, "hello")
		for _, other := range net.People {
			hear(net, other, room, p.Name+": hello")
		}
	}
	for _, p := range []*nodetest.Person{bob, carol, dave} {
		alice.Say(p, "so that we are connected")
		net.Wait("alice is connected without it", func() bool { return alice.Contact(p.Name).Path == api.Direct })
	}
	dave.Stop()
	net.Home.Stop()
	for _, p := range []*nodetest.Person{alice, bob, carol} {
		net.Wait(p.Name+" noticed", func() bool { return !p.Up() })
	}
	alice.SayIn(room, "one")
	hear(net, bob, room, "alice: one")
	hear(net, carol, room, "alice: one")
	bob.SayIn(room, "two")
	hear(net, alice, room, "bob: two")
	hear(net, carol, room, "bob: two") // who is connected to alice only

	dave.Start()
	hear(net, dave, room, "alice: one")
	hear(net, dave, room, "bob: two")
	dave.SayIn(room, "three")
	for _, p := range []*nodetest.Person{alice, bob, carol} {
		hear(net, p, room, "dave: three")
	}

	net.Home.Start()
	want := alice.TextsIn(room)
	slices.Sort(want)
	for _, p := range net.People {
		net.Wait("all that "+p.Name+" said is stored", func() bool { return p.Up() && p.InRoom(room).Queued == 0 })
		got := p.TextsIn(room)
		if slices.Sort(got); len(got) != 7 || !slices.Equal(got, want) {
			t.Errorf("%s sees %q, alice %q", p.Name, got, want)
		}
	}
}

// A contact who is not in the room is told nothing of it; what is no question, and what
// nobody in the room said, does nothing.
func TestRoomAmongMembersOnly(t *testing.T) {
	net := nodetest.New(t, 3)
	alice, bob, eve := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("climbing", alice, bob)
	net.Befriend(bob, eve)
	bob.SayIn(room, "hello")
	hear(net, alice, room, "bob: hello")
	for _, p := range []*nodetest.Person{alice, eve} {
		p.Say(bob, "so that we are connected")
		net.Wait("bob is connected without the rendezvous", func() bool { return p.Contact("bob").Path == api.Direct })
	}
	var id protocol.RoomID
	if err := id.UnmarshalText([]byte(room)); err != nil {
		t.Fatal(err)
	}
	ask := func(who *nodetest.Person, req *wire.Request) (*wire.RoomPage, protocol.Code) {
		t.Helper()
		page, err := who.Node.AskMember(t.Context(), bob.Node.Peer(), req)
		return page, protocol.CodeOf(err)
	}
	log := &wire.Request{Call: &wire.Request_ReadRoom{ReadRoom: &wire.ReadRoom{Room: id[:]}}}
	var device protocol.DeviceID
	status, err := bob.Status(t.Context())
	if err := errors.Join(err, device.UnmarshalText([]byte(status.Device))); err != nil {
		t.Fatal(err)
	}
	wants := &wire.Request{Call: &wire.Request_FillRoom{FillRoom: &wire.FillRoom{
		Room: id[:], Ranges: []*wire.RoomRange{{Device: device[:], First: 1, Last: 1 << 62}},
	}}}
	twice := &wire.Request{Call: &wire.Request_FillRoom{FillRoom: &wire.FillRoom{
		Room: id[:], Ranges: append(wants.GetFillRoom().GetRanges(), wants.GetFillRoom().GetRanges()...),
	}}}
	if page, code := ask(alice, log); code != protocol.OK || len(page.GetEntries()) < 3 {
		t.Errorf("a member is given %d entries, %v", len(page.GetEntries()), code)
	}
	page, code := ask(alice, wants)
	if code != protocol.OK || len(page.GetItems()) != 1 {
		t.Fatalf("a member is given %d messages, %v", len(page.GetItems()), code)
	}
	said := page.GetItems()[0].GetMessage()
	forged := slices.Clone(said)
	forged[len(forged)-1] ^= 1
	put := func(messages ...[]byte) *wire.Request {
		return &wire.Request{Call: &wire.Request_PutRoom{PutRoom: &wire.PutRoom{Room: id[:], Messages: messages}}}
	}
	for name, c := range map[string]struct {
		who  *nodetest.Person
		req  *wire.Request
		want protocol.Code
	}{
		"the log, by a stranger":      {eve, log, protocol.UnknownRoom},
		"messages, by a stranger":     {eve, wants, protocol.UnknownRoom},
		"of a room that is not":       {alice, &wire.Request{Call: &wire.Request_ReadRoom{ReadRoom: &wire.ReadRoom{Room: device[:]}}}, protocol.UnknownRoom},
		"nothing":                     {alice, &wire.Request{}, protocol.BadRequest},
		"another call":                {alice, &wire.Request{Call: &wire.Request_Heads{Heads: &wire.Heads{}}}, protocol.BadRequest},
		"no room":                     {alice, &wire.Request{Call: &wire.Request_FillRoom{FillRoom: &wire.FillRoom{Room: id[1:]}}}, protocol.BadRequest},
		"no device":                   {alice, &wire.Request{Call: &wire.Request_FillRoom{FillRoom: &wire.FillRoom{Room: id[:], Ranges: []*wire.RoomRange{{}}}}}, protocol.BadRequest},
		"messages twice":              {alice, twice, protocol.BadRequest},
		"too many messages":           {alice, put(make([][]byte, 65)...), protocol.BadRequest},
		"messages that are none":      {alice, put(nil, []byte("x")), protocol.OK},
		"a forged message":            {alice, put(forged), protocol.OK},
		"of a room that is not, told": {alice, &wire.Request{Call: &wire.Request_PutRoom{PutRoom: &wire.PutRoom{Room: device[:]}}}, protocol.UnknownRoom},
		"nothing, by a stranger":      {eve, put(), protocol.UnknownRoom},
		"a message, by a stranger":    {eve, put(said), protocol.UnknownRoom},
	} {
		if page, code := ask(c.who, c.req); code != c.want || len(page.GetItems())+len(page.GetEntries()) > 0 {
			t.Errorf("%s: %v, %v", name, code, page)
		}
	}
	if texts := bob.TextsIn(room); len(texts) != 1 {
		t.Errorf("bob sees %q", texts)
	}
	limited := false
	for range 100 {
		_, code := ask(eve, wants)
		limited = limited || code == protocol.RateLimited
	}
	if !limited {
		t.Error("somebody may ask without end")
	}
	if _, code := ask(alice, wants); code != protocol.OK {
		t.Errorf("another one is answered %v", code)
	}
}
