package rendezvous

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"bob": true, "bob_2": true, strings.Repeat("a", 32): true, "parleyfan": true, "_x_": true,
		"": false, "ab": false, strings.Repeat("a", 33): false, "Bob": false, "b ob": false, "bob\n": false,
		"аlice": false, "al-ice": false, "admin": false, "parley": false, "__support_": false,
	} {
		if err := checkName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		} else if err != nil && protocol.CodeOf(err) != protocol.NameInvalid {
			t.Errorf("%q: code %v", name, protocol.CodeOf(err))
		}
	}
}

func TestRegisterTwiceIsIdempotent(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	alice.must(alice.registerRequest(nil))
	found := alice.must(lookupRequest("alice", nil)).GetFound()
	if found.GetName() != "alice" || !bytes.Equal(found.GetChain(), alice.chain.Bytes()) {
		t.Errorf("found %q", found.GetName())
	}
	byID := &wire.Request{Call: &wire.Request_Lookup{Lookup: &wire.Lookup{Account: alice.owner[:]}}}
	if got := alice.must(byID).GetFound(); got.GetName() != "alice" {
		t.Errorf("found %q by account", got.GetName())
	}
}

// The same name with other keys is refused and what was published stays, byte
// for byte; also after a restart.
func TestIM04_PublishedRecordIsNeverOverwritten(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice := member(t, s, "alice")
	bob := member(t, s, "bob")
	alice.publish(2)
	before := bob.must(lookupRequest("alice", nonce())).GetFound()

	mallory := newDevice(t, s, "alice")
	mallory.refused(protocol.NameTaken, mallory.registerRequest(nil))
	mallory.refused(protocol.NotMember, lookupRequest("alice", nil))

	s.stopNow()
	s = startServer(t, func(c *Config) { c.Dir = dir })
	carol := member(t, s, "carol")
	after := carol.must(lookupRequest("alice", nonce())).GetFound()
	if !bytes.Equal(before.GetChain(), after.GetChain()) ||
		!bytes.Equal(before.GetBundles()[0].GetSignedRecord(), after.GetBundles()[0].GetSignedRecord()) ||
		!bytes.Equal(before.GetBundles()[0].GetRsa(), after.GetBundles()[0].GetRsa()) {
		t.Error("the published record changed")
	}
	other := newDevice(t, s, "alice")
	other.refused(protocol.NameTaken, other.registerRequest(nil))
}

func TestIdentityPersists(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	first := s.PeerID()
	s.stopNow()
	if again := startServer(t, func(c *Config) { c.Dir = dir }).PeerID(); again != first {
		t.Errorf("identity %v became %v", first, again)
	}
}

func TestRegisterRefused(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")

	t.Run("account under another name", func(t *testing.T) {
		r := alice.registerRequest(nil)
		r.GetRegister().Name = "alice2"
		alice.refused(protocol.AccountExists, r)
	})
	t.Run("another device of a known account", func(t *testing.T) {
		d := newDevice(t, s, "alice")
		d.aik, d.rk = alice.aik, alice.rk
		d.certify(key.NewIdentity().Public(), d.cert.PeerID)
		if d.owner != alice.owner {
			t.Fatal("not the same account")
		}
		d.refused(protocol.BadRequest, d.registerRequest(nil))
		d.refused(protocol.NotMember, lookupRequest("alice", nil))
	})
	t.Run("name", func(t *testing.T) {
		d := newDevice(t, s, "admin")
		d.refused(protocol.NameInvalid, d.registerRequest(nil))
	})
	t.Run("chain of another device", func(t *testing.T) {
		d := newDevice(t, s, "dave")
		r := d.registerRequest(nil)
		r.GetRegister().Chain = newDevice(t, s, "dave").chain.Bytes()
		d.refused(protocol.BadRequest, r)
	})
	t.Run("flipped bit", func(t *testing.T) {
		d := newDevice(t, s, "dave")
		r := d.registerRequest(nil)
		r.GetRegister().Chain[len(r.GetRegister().Chain)-1] ^= 1
		d.refused(protocol.BadRequest, r)
	})
	t.Run("no device", func(t *testing.T) {
		d := newDevice(t, s, "dave")
		r := d.registerRequest(nil)
		r.GetRegister().Chain = nil
		d.refused(protocol.BadRequest, r)
	})
	t.Run("expired certificate", func(t *testing.T) {
		d := newDevice(t, s, "dave")
		s.clock.add(366 * 24 * time.Hour)
		defer s.clock.add(-366 * 24 * time.Hour)
		d.refused(protocol.BadRequest, d.registerRequest(nil))
	})
}

// A device's keys are its name, so a device id with other keys cannot be
// written down; a second account for a known libp2p identity can, and is
// refused.
func TestOTK13_KnownDeviceIsNotBoundAgain(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	records := alice.publish(3)

	imposter := newDevice(t, s, "mallory")
	imposter.certify(key.NewIdentity().Public(), alice.cert.PeerID)
	alice.refused(protocol.DeviceExists, imposter.registerRequest(nil))

	alice.must(alice.registerRequest(nil))
	bob := member(t, s, "bob")
	if got := bob.claim(alice); !bytes.Equal(got.GetOneTimeRecord(), records[0]) {
		t.Error("the published prekeys did not survive")
	}
}

func TestLookupRefused(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	alice.refused(protocol.UnknownAccount, lookupRequest("nobody_here", nil))
	alice.refused(protocol.UnknownAccount, lookupRequest("Not A Name", nil))
	unknown := key.Hash("test")
	for name, l := range map[string]*wire.Lookup{
		"nothing":      {},
		"both":         {Name: "alice", Account: alice.owner[:]},
		"short nonce":  {Name: "alice", Nonce: []byte{1}},
		"long account": {Account: make([]byte, 33)},
	} {
		t.Run(name, func(t *testing.T) {
			alice.refused(protocol.BadRequest, &wire.Request{Call: &wire.Request_Lookup{Lookup: l}})
		})
	}
	alice.refused(protocol.UnknownAccount, &wire.Request{Call: &wire.Request_Lookup{Lookup: &wire.Lookup{Account: unknown[:]}}})
}

// Peers that are not registered can register and nothing else.
func TestStrangersMayOnlyRegister(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	stranger := newDevice(t, s, "stranger")
	for _, req := range []*wire.Request{
		lookupRequest("alice", nil),
		uploadRequest(&wire.UploadPrekeys{}),
		{Call: &wire.Request_SetContacts{SetContacts: &wire.SetContacts{}}},
		{Call: &wire.Request_Put{Put: &wire.Put{Items: []*wire.PutItem{{Device: alice.id[:], Envelope: []byte("x"), Kind: wire.MailKind_REQUEST}}}}},
		{Call: &wire.Request_Fetch{Fetch: &wire.Fetch{}}},
		{Call: &wire.Request_Ack{Ack: &wire.Ack{}}},
		{Call: &wire.Request_Where{Where: &wire.Where{Account: alice.owner[:]}}},
		{Call: &wire.Request_CreateInvite{CreateInvite: &wire.CreateInvite{}}},
		{Call: &wire.Request_Heads{Heads: &wire.Heads{}}},
		{},
	} {
		stranger.refused(protocol.NotMember, req)
	}
	if l := stranger.dialLink(&wire.Beat{Hello: stranger.hello(), Seq: 1}); protocol.Code(l.welcome.GetCode()) != protocol.NotMember {
		t.Errorf("link of a stranger: %v", l.welcome)
	}
	alice.refused(protocol.BadRequest, &wire.Request{}) // no call at all
}

func TestStrangersAreLimited(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.Strangers = 5 })
	stranger := newDevice(t, s, "stranger")
	for range 5 {
		stranger.refused(protocol.NotMember, lookupRequest("alice", nil))
	}
	resp := stranger.refused(protocol.RateLimited, lookupRequest("alice", nil))
	wait := time.Duration(resp.GetRetryAfterMs()) * time.Millisecond
	if wait <= 0 || wait > time.Minute {
		t.Errorf("retry after %v", wait)
	}
	s.clock.add(wait)
	stranger.refused(protocol.NotMember, lookupRequest("alice", nil))
}

func TestMembersAreLimited(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.Calls = 1 })
	alice := member(t, s, "alice")
	for range 5 {
		alice.must(lookupRequest("alice", nil))
	}
	alice.refused(protocol.RateLimited, lookupRequest("alice", nil))
	member(t, s, "bob").must(lookupRequest("alice", nil)) // each device has its own
	s.clock.add(time.Second)
	alice.must(lookupRequest("alice", nil))
}

func TestSetContacts(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	many := make([][]byte, protocol.MaxContacts+1)
	for i := range many {
		many[i] = alice.owner[:]
	}
	alice.refused(protocol.TooLarge, &wire.Request{Call: &wire.Request_SetContacts{SetContacts: &wire.SetContacts{Accounts: many}}})
	alice.refused(protocol.BadRequest, &wire.Request{Call: &wire.Request_SetContacts{SetContacts: &wire.SetContacts{Accounts: [][]byte{{1}}}}})

	bob := member(t, s, "bob")
	set := &wire.SetContacts{Accounts: [][]byte{bob.owner[:], alice.owner[:]}}
	got := alice.must(&wire.Request{Call: &wire.Request_SetContacts{SetContacts: set}}).GetContactsSet()
	if w := alice.link().welcome; !bytes.Equal(w.GetContactsDigest(), got.GetDigest()) || len(got.GetDigest()) != 32 {
		t.Error("the welcome has another digest than the call")
	}
}

// A list that is here already costs nothing; changes are limited.
func TestSetContactsIsLimited(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	for i := range 30 {
		alice.setContacts([]*device{bob, alice}[i%2])
	}
	for range 40 {
		alice.setContacts(alice)
	}
	change := &wire.Request{Call: &wire.Request_SetContacts{SetContacts: &wire.SetContacts{}}}
	wait := alice.refused(protocol.RateLimited, change).GetRetryAfterMs()
	if wait == 0 {
		t.Error("no time to come back")
	}
	alice.setContacts(alice)
	s.clock.add(time.Duration(wait) * time.Millisecond)
	alice.must(change)
}
