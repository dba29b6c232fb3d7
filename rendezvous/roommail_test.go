package rendezvous

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func expectMessages(t testing.TB, page *wire.RoomPage, want ...[]byte) {
	t.Helper()
	if got := messagesOf(page); !slices.EqualFunc(got, want, bytes.Equal) || page.GetMore() {
		t.Fatalf("%d messages, more %v; want %d", len(got), page.GetMore(), len(want))
	}
}

// A message is stored once for all, told to who is online, and read by cursor, in the
// order in which it came; also after a restart.
func TestRoomMessages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice, bob, carol := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol")
	p := newParty(t, alice, bob)
	bobs := bob.link()
	a1, a2, b1 := p.message(alice, 1), p.message(alice, 2), p.message(bob, 1)
	codes, cursors := alice.say(p, a1, a2)
	expectCodes(t, codes, protocol.OK, protocol.OK)
	bobs.awaitRoom(p, p.s.Seq(), cursors[1])
	bob.say(p, b1)
	again, same := alice.say(p, a1, a2)
	expectCodes(t, again, protocol.OK, protocol.OK)
	if !slices.Equal(same, cursors) {
		t.Errorf("cursors %v, and again %v", cursors, same)
	}
	for _, h := range bobs.settled() {
		for _, r := range h.GetRooms() {
			if r.GetCursor() <= cursors[1] {
				t.Errorf("told again of %v", r)
			}
		}
	}
	expectMessages(t, bob.read(p, 9, 0), a1, a2, b1)
	expectMessages(t, bob.read(p, 9, cursors[0]), a2, b1)
	id := p.id()
	two := bob.must(readRequest(&wire.ReadRoom{Room: id[:], FromSeq: 9, Max: 2})).GetRoomPage()
	if len(two.GetItems()) != 2 || !two.GetMore() || two.GetItems()[0].GetStoredMs() != uint64(s.clock.Now().UnixMilli()) {
		t.Errorf("a page of two: %v", two)
	}

	p.do(alice, room.Invite{Account: carol.owner})
	joined := p.do(carol, room.Join{Chain: carol.chain.Bytes()})
	a3 := p.message(alice, 3)
	_, cursors = alice.say(p, a3)
	if joined.GetCursor() >= cursors[0] {
		t.Errorf("joined at %d, before a message at %d", joined.GetCursor(), cursors[0])
	}
	expectMessages(t, carol.read(p, 9, 0), a3)
	page := carol.must(fillRequest(id, rangeOf(alice, 1, 9))).GetRoomPage()
	expectMessages(t, page, a3)
	page = bob.must(fillRequest(id, rangeOf(bob, 1, 1), rangeOf(alice, 2, 4000))).GetRoomPage()
	expectMessages(t, page, b1, a2, a3)

	s.stopNow()
	s = startServer(t, func(c *Config) { c.Dir = dir })
	bob.server, bob.host = s, newPeer(t, s, bob.hosts)
	bob.link().awaitRoom(p, p.s.Seq(), cursors[0]) // after the welcome
	expectMessages(t, bob.read(p, 9, 0), a1, a2, b1, a3)
	b2 := p.message(bob, 2)
	_, later := bob.say(p, b2)
	expectMessages(t, bob.read(p, 9, cursors[0]), b2)
	if later[0] <= cursors[0] {
		t.Errorf("cursor %d after %d", later[0], cursors[0])
	}
	s.clock.add(31 * 24 * time.Hour)
	expectMessages(t, bob.read(p, 9, 0))
}

// What may not be said is not stored, and harms nothing else in its call.
func TestRoomMessagesRefused(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, carol := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol")
	p := newParty(t, alice, bob, carol)
	muted := p.message(carol, 1)
	p.do(alice, room.SetMemberRights{Account: carol.owner, Muted: true})
	old := p.message(bob, 1)
	p.do(alice, room.Rotate{})
	s.clock.add(time.Minute)
	inFlight := p.message(bob, 2)
	p.do(alice, room.Rotate{})
	s.clock.add(message.InFlight)

	at := func(change func(*message.Header)) []byte {
		h := message.Header{
			View:   message.View{Room: p.id(), Epoch: p.s.Epoch(), Seq: p.s.Seq(), Head: p.s.Head()},
			Device: bob.id, Chain: [32]byte{1}, Number: 50,
		}
		change(&h)
		return sealed(t, bob.dsk, h)
	}
	forged := p.message(bob, 60)
	forged[200] ^= 1
	good := p.message(bob, 3)
	for _, c := range []struct {
		name    string
		by      *device
		message []byte
		want    protocol.Code
	}{
		{"nothing", bob, nil, protocol.BadRequest},
		{"noise", bob, bytes.Repeat([]byte{1, 16}, 200), protocol.BadRequest},
		{"too large", bob, make([]byte, protocol.MaxEnvelope+1), protocol.BadRequest},
		{"of another room", bob, at(func(h *message.Header) { h.Room[0] ^= 1 }), protocol.BadRequest},
		{"forged", bob, forged, protocol.BadSignature},
		{"in another's name", bob, at(func(h *message.Header) { h.Device = alice.id }), protocol.BadSignature},
		{"in a stranger's name", bob, at(func(h *message.Header) { h.Device[0] ^= 1 }), protocol.StaleEpoch},
		{"of an epoch that is over", bob, old, protocol.StaleEpoch},
		{"of an epoch to come", bob, at(func(h *message.Header) { h.Epoch, h.Seq = h.Epoch+1, h.Seq+1 }), protocol.StaleEpoch},
		{"of no epoch", bob, at(func(h *message.Header) { h.Epoch = 2 }), protocol.StaleEpoch},
		{"of an epoch that is over, brought by another", alice, old, protocol.OK},
		{"of an epoch that ended just now", bob, inFlight, protocol.OK},
		{"muted", carol, p.message(carol, 1), protocol.StaleEpoch},
		{"before it was muted", carol, muted, protocol.StaleEpoch},
		{"before it was muted, brought by another", alice, muted, protocol.StaleEpoch},
		{"good", bob, good, protocol.OK},
		{"again", bob, good, protocol.OK},
		{"other bytes under its number", bob, at(func(h *message.Header) { h.Number, h.Chain = 3, [32]byte{2} }), protocol.BadRequest},
	} {
		next := p.message(alice, uint64(100+len(c.name)))
		codes, _ := c.by.say(p, c.message)
		expectCodes(t, codes, c.want)
		if t.Failed() {
			t.Fatalf("message %s", c.name)
		}
		codes, _ = alice.say(p, c.message, next)
		expectCodes(t, codes[1:], protocol.OK)
	}
	id := p.id()
	alice.refused(protocol.TooLarge, putRoomRequest(id))
	alice.refused(protocol.TooLarge, putRoomRequest(id, make([][]byte, maxPutItems+1)...))
	alice.refused(protocol.TooLarge, fillRequest(id, rangeOf(bob, 0, 1<<64-1)))
	alice.refused(protocol.TooLarge, fillRequest(id, rangeOf(bob, 1, maxFill), rangeOf(bob, 1, 1)))
	alice.refused(protocol.BadRequest, fillRequest(id, rangeOf(bob, 2, 1)))
}

// What a moderator sealed while he was one, and did not put there, is not stored when he is
// one no more: not from him, nor from another device of his, nor from anybody else.
func TestDemotedIsNotHeardWithWhatHeMight(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, carol := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol")
	p := newParty(t, alice, bob, carol)
	p.do(alice, room.SetRole{Account: bob.owner, Role: room.RoleModerator})
	before := p.message(bob, 1)
	p.do(alice, room.SetRole{Account: bob.owner, Role: room.RoleMember})
	for _, later := range []time.Duration{0, message.InFlight + time.Second} {
		s.clock.add(later)
		for _, d := range []*device{bob, carol} {
			codes, _ := d.say(p, before)
			expectCodes(t, codes, protocol.StaleEpoch)
		}
	}
	codes, _ := bob.say(p, p.message(bob, 2))
	expectCodes(t, codes, protocol.OK)
}

// TestGST03_MutedGuestIsNotHeard: what a muted guest sends the rendezvous does not store,
// whoever brings it, and it is heard again when it may.
func TestGST03_MutedGuestIsNotHeard(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	p := newGuestRoom(t, alice)
	guest := visiting(t, s, p, alice, "visitor")
	codes, _ := guest.say(p, p.message(guest, 1))
	expectCodes(t, codes, protocol.OK)
	before := p.message(guest, 2)
	for range 3 {
		p.do(alice, room.SetMemberRights{Account: guest.owner, Muted: true})
		for _, d := range []*device{guest, alice} {
			codes, _ := d.say(p, before, p.message(guest, 3))
			expectCodes(t, codes, protocol.StaleEpoch, protocol.StaleEpoch)
		}
		if len(guest.read(p, 0, 0).GetItems()) != 1 { // it still reads
			t.Error("the guest does not read")
		}
		p.do(alice, room.SetMemberRights{Account: guest.owner})
	}
	codes, _ = guest.say(p, p.message(guest, 3))
	expectCodes(t, codes, protocol.OK)
}

// A flood by one member ends at what is his, and the others are heard.
func TestRoomFlood(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(c *Config) { c.Limits = Limits{RoomCount: 400} })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	p := newParty(t, alice, bob)
	var flood [][]byte
	for i := range 200 {
		flood = append(flood, p.message(bob, uint64(i+1)))
	}
	codes, _ := bob.say(p, flood...)
	for i, code := range codes {
		if want := i < 100; want != (code == protocol.OK) || !want && code != protocol.SenderFull {
			t.Fatalf("message %d of the flood: %v", i, code)
		}
	}
	codes, _ = alice.say(p, flood[150]) // for the account that brings it
	expectCodes(t, codes, protocol.OK)
	id := p.id()
	eventually(t, "the flood is refused", func() bool {
		return bob.call(putRoomRequest(id, flood...)).GetCode() == uint32(protocol.RateLimited)
	})
	codes, _ = alice.say(p, p.message(alice, 1))
	expectCodes(t, codes, protocol.OK)
}

// Who races for ever for a place in the log is slowed down, and the others are not.
func TestRoomEntriesAreLimited(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	p := newParty(t, alice, bob)
	lost := p.write(bob, room.Leave{})
	p.do(alice, room.Rotate{})
	refused := 0
	for range 301 {
		if resp := bob.call(appendRequest(lost)); resp.GetCode() == uint32(protocol.RateLimited) && resp.GetRetryAfterMs() > 0 {
			refused++
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	p.do(alice, room.Rotate{})
	other := newParty(t, bob)
	other.do(bob, room.Rotate{})
}

// Who is in one room with somebody reaches his devices with what concerns rooms, and
// with nothing else.
func TestRoomMail(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, stranger := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "stranger")
	room1 := []byte("keys of a room")
	expectCodes(t, alice.put(item(bob, wire.MailKind_ROOM, room1)), protocol.NotContact)
	p := newParty(t, alice, bob)
	newParty(t, stranger)
	expectCodes(t, alice.put(item(bob, wire.MailKind_ROOM, room1), item(bob, wire.MailKind_MESSAGE, room1), item(stranger, wire.MailKind_ROOM, room1)),
		protocol.OK, protocol.NotContact, protocol.NotContact)
	if mail := bob.fetch(0, 0).GetItems(); len(mail) != 1 || !bytes.Equal(mail[0].GetEnvelope(), room1) {
		t.Errorf("bob's mail: %v", mail)
	}
	id := alice.owner
	found := bob.must(&wire.Request{Call: &wire.Request_Lookup{Lookup: &wire.Lookup{Account: id[:], Nonce: nonce()}}}).GetFound()
	if !bytes.Equal(found.GetChain(), alice.chain.Bytes()) {
		t.Errorf("a look-up of a co-member: %v", found)
	}
	p.do(bob, room.Leave{})
	expectCodes(t, alice.put(item(bob, wire.MailKind_ROOM, []byte("more"))), protocol.OK)
	expectCodes(t, bob.put(item(alice, wire.MailKind_ROOM, []byte("an answer"))), protocol.OK)
	s.clock.add(store.RoomMemory)
	s.sweepNow(t)
	expectCodes(t, bob.put(item(alice, wire.MailKind_ROOM, []byte("a late answer"))), protocol.NotContact)
	expectCodes(t, alice.put(item(bob, wire.MailKind_ROOM, []byte("a late question"))), protocol.NotContact)

	p.do(alice, room.Invite{Account: bob.owner})
	p.do(bob, room.Join{Chain: bob.chain.Bytes()})
	p.do(alice, room.Remove{Account: bob.owner})
	expectCodes(t, bob.put(item(alice, wire.MailKind_ROOM, []byte("I was removed"))), protocol.NotContact)
}

// A room that nobody is in is forgotten after a while; until then who left it may ask
// again whether he has.
func TestRoomForgotten(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	p := newParty(t, alice)
	first, leave := p.log[0], p.write(alice, room.Leave{})
	p.appended(alice, leave)
	s.clock.add(store.RoomMemory - time.Minute)
	s.sweepNow(t)
	p.appended(alice, leave)
	s.clock.add(time.Minute)
	s.sweepNow(t)
	alice.refused(protocol.UnknownRoom, appendRequest(leave))
	p.appended(alice, first) // a new room
}

func (ts *testServer) sweepNow(t *testing.T) {
	t.Helper()
	if _, err := ts.store.Sweep(t.Context(), ts.clock.Now()); err != nil {
		t.Fatal(err)
	}
}
