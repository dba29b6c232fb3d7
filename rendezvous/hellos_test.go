package rendezvous

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
)

// copied is the device's store on another machine.
func (d *device) copied() *device {
	d.t.Helper()
	c := *d
	c.host = newPeer(d.t, d.server, d.hosts)
	return &c
}

func (d *device) helloOf(storeID byte, counter uint64) *wire.Beat {
	return &wire.Beat{Seq: 1, Hello: d.sign(&wire.Hello{
		MinVersion: 1, MaxVersion: 1, StoreId: bytes.Repeat([]byte{storeID}, 16), StoreCtr: counter, Start: make([]byte, 16),
	})}
}

func (d *device) lookupSelf() *wire.Request {
	return &wire.Request{Call: &wire.Request_Lookup{Lookup: &wire.Lookup{Account: d.owner[:]}}}
}

// memberCalls are all calls that only a device may make whose hello was
// welcomed.
func (d *device) memberCalls(other *device) []*wire.Request {
	claim := d.lookupSelf()
	claim.GetLookup().Nonce = nonce()
	return []*wire.Request{
		lookupRequest(d.name, nil),
		lookupRequest(other.name, nonce()),
		claim,
		uploadRequest(&wire.UploadPrekeys{OneTimeRecords: d.oneTimeRecords(1)}),
		{Call: &wire.Request_SetContacts{SetContacts: &wire.SetContacts{}}},
		{Call: &wire.Request_Put{Put: &wire.Put{Items: []*wire.PutItem{item(other, 0, []byte("forged"))}}}},
		{Call: &wire.Request_Fetch{Fetch: &wire.Fetch{}}},
		{Call: &wire.Request_Ack{Ack: &wire.Ack{}}},
		whereRequest(other),
		createInvite(1, 0),
		{Call: &wire.Request_Heads{Heads: &wire.Heads{}}},
		{Call: &wire.Request_ReadLog{ReadLog: &wire.ReadLog{}}},
		tokenRequest("relay"),
		relaysRequest(),
	}
}

// A stolen store has the host key, so it can connect as the device. As long as
// it says no hello, which would give it away, it can do nothing for which one
// has to be the device; and it uses up nothing that the device needs.
func TestSilentCopyDoesNothing(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.Calls = 1; c.Limits.Strangers = 100 })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	alices := alice.link()
	expectCodes(t, bob.put(item(alice, 0, []byte("sealed for alice"))), protocol.OK)

	thief := alice.copied()
	for _, req := range thief.memberCalls(bob) {
		thief.refused(protocol.HelloFirst, req)
	}
	phone := alice.newcomer()
	thief.refused(protocol.HelloFirst, updateRequest(alice.with(phone)))
	thief.pair("").mustBe(protocol.HelloFirst)
	thief.must(updateRequest(alice.chain)) // as a device repeats what made it a member
	thief.must(thief.registerRequest(nil))
	thief.must(thief.lookupSelf())
	thief.must(keySetRequest("")) // as anybody may

	mail := alice.fetch(0, 0).GetItems()
	if len(mail) != 1 || len(bob.fetch(0, 0).GetItems()) != 0 {
		t.Errorf("alice has %d envelopes", len(mail))
	}
	alices.settled()
	alice.recover() // whoever has the words is no mere copy
	thief.must(updateRequest(alice.chain))
	alices.awaitChanged(alice)
}

// Of two copies that are welcomed one after the other, only the newest is
// served, though the connections of both stand.
func TestNewestHelloCounts(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	other := alice.copied()
	first := alice.link()
	alice.must(lookupRequest("alice", nil))
	second := other.link() // the same start: a retry, as far as anybody can tell
	first.awaitBye(protocol.Replaced)
	alice.refused(protocol.HelloFirst, lookupRequest("alice", nil))
	other.must(lookupRequest("alice", nil))
	third := alice.link()
	second.awaitBye(protocol.Replaced)
	alice.must(lookupRequest("alice", nil))
	other.refused(protocol.HelloFirst, lookupRequest("alice", nil))
	third.settled()
}

// A hello counts while its connection lasts, also after the link, and no longer.
func TestHelloEndsWithItsConnection(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	l := alice.link()
	l.s.Close()
	l.awaitEnd()
	alice.must(lookupRequest("alice", nil))
	for _, c := range alice.host.Network().ConnsToPeer(s.PeerID()) {
		c.Close()
	}
	eventually(t, "the hello is forgotten", func() bool {
		s.hellos.mu.Lock()
		defer s.hellos.mu.Unlock()
		return len(s.hellos.welcomed) == 0
	})
	alice.reconnect()
	alice.refused(protocol.HelloFirst, lookupRequest("alice", nil))
	alice.greet()
	alice.must(lookupRequest("alice", nil))
}

// A hello on a connection that has ended leaves nothing behind.
func TestHelloOnAnEndedConnection(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	conns := s.host.Network().ConnsToPeer(alice.host.ID())
	h := newHellos()
	for _, c := range conns {
		c.Close()
		h.welcome(c)
		h.refuse(c, true)
		if h.isWelcome(c) || h.mayRead(c) || len(h.welcomed)+len(h.copies) != 0 {
			t.Error("it counts")
		}
	}
	if len(conns) == 0 {
		t.Error("no connection")
	}
}

// A store that was refused as a copy becomes another device. Before, it reads
// once what waits, and can do nothing else; after some times not even that.
func TestRefusedCopyReadsOnce(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.Strangers = 200 })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	alice.dialLink(alice.helloOf(0, 7))
	for i := range 5 {
		expectCodes(t, bob.put(item(alice, 0, fmt.Appendf(nil, "message %d", i))), protocol.OK)
	}
	fetch := func(after uint64) *wire.Request {
		return &wire.Request{Call: &wire.Request_Fetch{Fetch: &wire.Fetch{After: after, Max: 2}}}
	}
	hellos := []func(*device) *wire.Beat{
		func(d *device) *wire.Beat { return d.helloOf(0, 6) },
		func(d *device) *wire.Beat { return d.helloOf(9, 8) },
	}
	for n := range 5 {
		copied := alice.copied()
		copied.dialLink(hellos[n%2](copied))
		for _, req := range copied.memberCalls(bob) {
			if _, ok := req.Call.(*wire.Request_Fetch); !ok {
				copied.refused(protocol.HelloFirst, req)
			}
		}
		copied.must(copied.lookupSelf())
		read, after, more := 0, uint64(0), true
		for more {
			mail := copied.must(fetch(after)).GetMail()
			read, more = read+len(mail.GetItems()), mail.GetMore()
			after = mail.GetItems()[len(mail.GetItems())-1].GetCursor()
		}
		if read != 5 {
			t.Errorf("%d envelopes", read)
		}
		copied.refused(protocol.HelloFirst, fetch(after))
		copied.host.Close()
	}
	copied := alice.copied()
	copied.dialLink(copied.helloOf(9, 8))
	copied.refused(protocol.HelloFirst, fetch(0))
	s.clock.add(5 * time.Hour)
	copied.dialLink(copied.helloOf(9, 8))
	copied.must(fetch(0))
	if items := alice.fetch(0, 0).GetItems(); len(items) != 5 { // as before
		t.Errorf("the device has %d envelopes", len(items))
	}
	// A refused hello ends an earlier welcome of the same connection.
	alice.dialLink(alice.helloOf(0, 6))
	alice.refused(protocol.HelloFirst, lookupRequest("alice", nil))
	if n := len(s.host.Network().ConnsToPeer(alice.host.ID())); n == 0 || alice.host.Network().Connectedness(s.PeerID()) != network.Connected {
		t.Error("the connection ended")
	}
}

// Whoever has no more than a device's host key cannot use up the links that the
// device may open. What he says is counted for where he says it, and bounded.
func TestUnsignedHellosCostTheDeviceNothing(t *testing.T) {
	const hellos = 100
	s := startServer(t, func(c *Config) { c.Limits.ConnsPerAddress = hellos })
	alice := member(t, s, "alice")
	thief := alice.copied()
	thief.dsk = key.NewDevice()
	said := func() protocol.Code {
		return protocol.Code(thief.dialLink(&wire.Beat{Hello: thief.hello(), Seq: 1}).welcome.GetCode())
	}
	for n := range hellos - 2 { // alice said one when she became a member, and says one more
		if got := said(); got != protocol.BadSignature {
			t.Fatalf("hello %d: %v", n, got)
		}
	}
	alice.link().settled()
	if got := said(); got != protocol.RateLimited {
		t.Errorf("one hello too many: %v", got)
	}
	s.clock.add(time.Minute)
	if got := said(); got != protocol.BadSignature {
		t.Errorf("a minute later: %v", got)
	}
}

// A device opens only so many links, however well signed.
func TestTooManyLinks(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	for range linksBurst - 1 {
		alice.link().s.Close()
	}
	w := alice.dialLink(alice.helloOf(0, 9)).welcome
	if protocol.Code(w.GetCode()) != protocol.RateLimited || w.GetRetryAfterMs() == 0 {
		t.Errorf("welcome %v", w)
	}
	s.clock.add(time.Minute)
	alice.link() // the refused hello was not taken note of
}
