package rendezvous

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
)

func (p *party) seenRequest() *wire.Request {
	id := p.id()
	return &wire.Request{Call: &wire.Request_SeenGuests{SeenGuests: &wire.SeenGuests{Room: id[:]}}}
}

// seen is how long ago a guest was online, as the rendezvous tells by.
func (p *party) seen(by, guest *device) time.Duration {
	p.t.Helper()
	for _, g := range by.must(p.seenRequest()).GetGuestsSeen().GetGuests() {
		if protocol.AccountID(g.GetAccount()) == guest.owner {
			return time.Duration(g.GetAgoMs()) * time.Millisecond
		}
	}
	p.t.Fatalf("%s is not named", guest.name)
	return 0
}

// Who may admit is told when guests were last online; of one that did not come since the
// server began, that it may have been there until then.
func TestWhenGuestsWereSeen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	p := newGuestRoom(t, alice, bob)
	carl, dora := visiting(t, s, p, alice, "carl"), visiting(t, s, p, alice, "dora")
	link := dora.link()
	s.clock.add(2 * time.Hour)
	if ago := p.seen(alice, carl); ago != 2*time.Hour {
		t.Errorf("carl was seen %v ago", ago)
	}
	if ago := p.seen(alice, dora); ago != 0 {
		t.Errorf("dora, who is online, was seen %v ago", ago)
	}
	bob.refused(protocol.BadRequest, p.seenRequest())
	carl.refused(protocol.NotMember, p.seenRequest())
	stranger := member(t, s, "stranger")
	stranger.refused(protocol.UnknownRoom, p.seenRequest())
	if n := len(alice.must(p.seenRequest()).GetGuestsSeen().GetGuests()); n != 2 {
		t.Errorf("%d guests", n)
	}
	p.do(alice, room.Remove{Account: carl.owner})
	if n := len(alice.must(p.seenRequest()).GetGuestsSeen().GetGuests()); n != 1 {
		t.Errorf("%d guests", n)
	}
	link.s.Close()
	s.stopNow()

	again := startServer(t, func(c *Config) { c.Dir = dir })
	alice.server, alice.host = again, newPeer(t, again, alice.hosts)
	alice.greet()
	again.clock.add(time.Hour)
	if ago := p.seen(alice, dora); ago != time.Hour {
		t.Errorf("after a restart dora was seen %v ago", ago)
	}
}

// Of more guests than are remembered those that went first are said to have gone no earlier
// than they did.
func TestDeparturesAreBounded(t *testing.T) {
	at := func(i int) time.Time { return time.Unix(1_800_000_000+int64(i), 0) }
	d := newDepartures(at(0), 2)
	for i := range 6 {
		d.note(protocol.AccountID{byte(i)}, at(i+1)) // 2 and 3 are old, 4 and 5 young
	}
	d.note(protocol.AccountID{2}, at(7)) // 4 and 5 are old, 2 is young
	for i, want := range map[byte]time.Time{0: at(5), 3: at(5), 4: at(5), 5: at(6), 2: at(7), 9: at(5)} {
		if got := d.of(protocol.AccountID{i}); !got.Equal(want) {
			t.Errorf("guest %d went at %v, not %v", i, got, want)
		}
	}
	if len(d.young) > 2 || len(d.old) > 2 {
		t.Errorf("%d and %d are remembered", len(d.young), len(d.old))
	}
}
