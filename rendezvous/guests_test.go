package rendezvous

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func (d *device) guestRequest(p *party) *wire.Request {
	id := p.id()
	return &wire.Request{Call: &wire.Request_RegisterGuest{RegisterGuest: &wire.RegisterGuest{Room: id[:], Chain: d.chain.Bytes()}}}
}

// letIn writes the guest into the room's log, as who checked its password does.
func (p *party) letIn(by, guest *device) {
	p.t.Helper()
	p.do(by, p.guestJoin(guest))
}

// visiting makes a guest who is in the room and has said hello.
func visiting(t testing.TB, ts *testServer, p *party, by *device, name string) *device {
	t.Helper()
	g := newGuest(t, ts, name)
	p.letIn(by, g)
	g.must(g.guestRequest(p))
	g.greet()
	return g
}

// Only the guest itself registers, and only by an entry of the log.
func TestGuestsRegister(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Open = false }) // a guest needs no invite
	token := make([]byte, 16)
	if err := s.store.CreateInvite(t.Context(), store.Invite{Hash: store.InviteHash(token), Uses: 1, Created: s.clock.Now(), Expires: s.clock.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	alice := newDevice(t, s, "alice")
	alice.must(alice.registerRequest(token))
	alice.greet()
	p := newGuestRoom(t, alice)
	bert, carl := newGuest(t, s, "bert"), newGuest(t, s, "carl")
	bert.refused(protocol.UnknownRoom, bert.guestRequest(p))
	p.letIn(alice, bert)
	carl.refused(protocol.UnknownRoom, carl.guestRequest(p))
	carl.refused(protocol.BadRequest, bert.guestRequest(p)) // somebody else's chain
	bert.must(bert.guestRequest(p))
	bert.must(bert.guestRequest(p))
	bert.refused(protocol.AccountExists, bert.registerRequest(token)) // no name for it later

	other := newGuestRoom(t, alice)
	bert.refused(protocol.UnknownRoom, bert.guestRequest(other))
	noRoom := bert.guestRequest(p)
	noRoom.GetRegisterGuest().Room = make([]byte, 32)
	bert.refused(protocol.UnknownRoom, noRoom)
	alice.refused(protocol.UnknownRoom, alice.guestRequest(p)) // a member is no guest
}

// A guest does in its rooms what it may, and nothing that concerns anybody else.
func TestGuestsAreServedTheirRoomsOnly(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	p := newGuestRoom(t, alice)
	bert := visiting(t, s, p, alice, "bert")

	if codes, _ := bert.say(p, p.message(bert, 1)); codes[0] != protocol.OK {
		t.Errorf("a guest's message: %v", codes)
	}
	if got := messagesOf(bert.read(p, 0, 0)); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
	lookup := func(l *wire.Lookup) *wire.Request {
		return &wire.Request{Call: &wire.Request_Lookup{Lookup: l}}
	}
	nonce := make([]byte, 16)
	if found := bert.must(lookup(&wire.Lookup{Account: alice.owner[:], Nonce: nonce})).GetFound(); len(found.GetChain()) == 0 {
		t.Error("a guest cannot write to a member")
	}
	if found := alice.must(lookup(&wire.Lookup{Account: bert.owner[:], Nonce: nonce})).GetFound(); string(found.GetChain()) != string(bert.chain.Bytes()) || found.GetLog() != nil {
		t.Errorf("a member finds %v", found)
	}
	bob.refused(protocol.UnknownAccount, lookup(&wire.Lookup{Account: bert.owner[:]}))
	bert.refused(protocol.UnknownAccount, lookup(&wire.Lookup{Account: bob.owner[:]}))
	bert.must(lookup(&wire.Lookup{Account: bert.owner[:]}))

	mail := func(kind wire.MailKind) *wire.Request {
		return &wire.Request{Call: &wire.Request_Put{Put: &wire.Put{Items: []*wire.PutItem{{Device: alice.id[:], Envelope: []byte("envelope"), Kind: kind}}}}}
	}
	if r := bert.must(mail(wire.MailKind_ROOM)).GetPutResults().GetResults(); protocol.Code(r[0].GetCode()) == protocol.NotContact {
		t.Errorf("mail to a member: %v", r)
	}
	_, own, err := room.NewRoom(s.clock.Now(), bert.author(), bert.chain)
	if err != nil {
		t.Fatal(err)
	}
	longer, err := bert.chain.Close(s.clock.Now(), bert.aik)
	if err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]*wire.Request{
		"a name":        lookup(&wire.Lookup{Name: "alice"}),
		"a letter":      mail(wire.MailKind_MESSAGE),
		"a request":     mail(wire.MailKind_REQUEST),
		"a list":        {Call: &wire.Request_SetContacts{SetContacts: &wire.SetContacts{}}},
		"an invite":     {Call: &wire.Request_CreateInvite{CreateInvite: &wire.CreateInvite{}}},
		"the log":       {Call: &wire.Request_ReadLog{ReadLog: &wire.ReadLog{}}},
		"an address":    {Call: &wire.Request_Where{Where: &wire.Where{Account: alice.owner[:]}}},
		"a room":        appendRequest(own),
		"another chain": {Call: &wire.Request_UpdateChain{UpdateChain: &wire.UpdateChain{Chain: longer.Bytes()}}},
		"no call":       {},
	} {
		if got := protocol.Code(bert.call(req).GetCode()); got != protocol.NotMember {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A guest that is removed is out with that entry: nothing of the room is served to it
// any more, no token, and it does not register again. Some days later it is forgotten.
func TestGST06_RemovedGuestIsOut(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	p := newGuestRoom(t, alice)
	bert, carl := visiting(t, s, p, alice, "bert"), visiting(t, s, p, alice, "carl")
	token := &wire.Request{Call: &wire.Request_GetToken{GetToken: &wire.GetToken{Audience: "relay"}}}
	bert.must(token)
	p.do(alice, room.Remove{Account: bert.owner})
	id := p.id()
	bert.refused(protocol.Banned, readRequest(&wire.ReadRoom{Room: id[:]}))
	bert.refused(protocol.Banned, putRoomRequest(id, p.message(alice, 1)))
	bert.refused(protocol.NotMember, token)
	bert.refused(protocol.UnknownRoom, bert.guestRequest(p))
	if page := carl.read(p, 0, 0); len(page.GetEntries()) != len(p.log) {
		t.Error("the other guest is out too")
	}

	s.clock.add(store.GuestMemory)
	if _, err := s.store.Sweep(t.Context(), s.clock.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Account(t.Context(), bert.owner); protocol.CodeOf(err) != protocol.UnknownAccount {
		t.Errorf("the guest is remembered: %v", err)
	}
	if _, err := s.store.Account(t.Context(), carl.owner); err != nil {
		t.Errorf("the guest that is in: %v", err)
	}
}

// A rendezvous that begins anew, a connection that ends, changed rights, and a clock that
// goes on: the guest comes back as it was, and asks nobody.
func TestGST02_GuestComesBackByItself(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice := member(t, s, "alice")
	p := newGuestRoom(t, alice)
	bert := visiting(t, s, p, alice, "bert")
	before, _ := p.s.Member(bert.owner)
	p.do(alice, room.SetMemberRights{Account: bert.owner, Muted: true})
	s.stopNow()

	again := startServer(t, func(c *Config) { c.Dir = dir })
	again.clock.add(25 * time.Hour) // nobody wrote that the guest expired
	bert.server = again
	bert.host = newPeer(t, again, bert.hosts)
	bert.greet()
	if page := bert.read(p, 0, 0); len(page.GetEntries()) != len(p.log) {
		t.Errorf("%d entries of %d", len(page.GetEntries()), len(p.log))
	}
	if after, ok := p.s.Member(bert.owner); !ok || after.Joined != before.Joined {
		t.Errorf("the guest became %+v", after)
	}
}
