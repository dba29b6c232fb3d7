package rendezvous

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func (l *linkEnd) awaitBye(code protocol.Code) {
	l.t.Helper()
	bye := l.await("goodbye", func(h *wire.Hint) bool { return h.GetBye() != 0 })
	if got := protocol.Code(bye.GetBye()); got != code {
		l.t.Errorf("goodbye %v, want %v", got, code)
	}
	l.awaitEnd()
}

func (d *device) connected() bool {
	return d.host.Network().Connectedness(d.server.PeerID()) == network.Connected
}

func (d *device) reconnect() {
	d.t.Helper()
	if err := d.host.Connect(d.t.Context(), peer.AddrInfo{ID: d.server.PeerID(), Addrs: d.server.Addrs()}); err != nil {
		d.t.Fatal(err)
	}
}

// The half of KLC-09 that is the rendezvous's: when a revocation reaches it,
// the device is cut off at once, also in the middle of a relayed connection; its
// contacts are told; nobody reaches it and nothing of it is kept.
func TestKLC09_RevokedDeviceIsCutOff(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	phone := alice.second()
	phone.publish(3)
	expectCodes(t, bob.put(item(phone, 0, []byte("for the phone"))), protocol.OK)
	phones, alices, bobs := phone.link(), alice.link(), bob.link()
	if err := phone.reserve(); err != nil {
		t.Fatal(err)
	}
	phone.host.SetStreamHandler(echo, func(s network.Stream) { io.Copy(s, s) })
	if err := bob.throughRelay(phone); err != nil {
		t.Fatal(err)
	}
	circuit, err := bob.host.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), phone.host.ID(), echo)
	if err != nil {
		t.Fatal(err)
	}
	circuit.SetDeadline(time.Now().Add(patience))
	one := make([]byte, 1)
	if _, err := circuit.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(circuit, one); err != nil {
		t.Fatal(err)
	}

	// As a device does: first another account key, since the phone has this one.
	old := alice.aik
	alice.aik = key.NewAccount()
	alice.chain = alice.then(alice.chain.RotateAIK(s.clock.Now(), old, alice.aik))
	alice.update(alice.without(phone))

	phones.awaitBye(protocol.Revoked)
	bobs.awaitChanged(alice)
	alices.awaitChanged(alice)
	if _, err := io.ReadFull(circuit, one); err == nil {
		t.Error("the circuit still answers")
	} else if isTimeout(err) {
		t.Error("the circuit is still open")
	}
	eventually(t, "the connection ends", func() bool { return !phone.connected() })
	if s.presence.link(phone.id) != nil {
		t.Error("the phone is online")
	}
	eventually(t, "its reservation ends", func() bool { return s.relay.Reservations() == 0 })

	phone.reconnect()
	for _, req := range []*wire.Request{
		lookupRequest("bob", nil),
		phone.registerRequest(nil),
		{Call: &wire.Request_Fetch{Fetch: &wire.Fetch{}}},
		{Call: &wire.Request_Heads{Heads: &wire.Heads{}}},
		updateRequest(alice.chain),
		fetchRequest(phone, fetchBy{rk: &alice.rk, name: "alice"}),
	} {
		phone.refused(protocol.Revoked, req)
	}
	if w := phone.dialLink(&wire.Beat{Hello: phone.hello(), Seq: 1}).welcome; protocol.Code(w.GetCode()) != protocol.Revoked {
		t.Errorf("link: %v", w)
	}
	if j := phone.pair(""); protocol.Code(j.first.GetCode()) != protocol.Revoked {
		t.Errorf("pairing: %v", j.first)
	}
	if err := phone.reserve(); !denied(err) {
		t.Errorf("reservation: %v", err)
	}
	if err := phone.throughRelay(bob); !denied(err) {
		t.Errorf("circuit: %v", err)
	}
	expectCodes(t, bob.put(item(phone, 0, []byte("x"))), protocol.Revoked)
	if found := bob.must(lookupRequest("alice", nonce())).GetFound(); len(found.GetBundles()) != 0 {
		t.Error("prekeys of a revoked device were given out") // alice's other device has none
	}

	if _, err := s.store.Sweep(t.Context(), s.clock.Now()); err != nil {
		t.Fatal(err)
	}
	mail, err := s.store.MailboxUsage(t.Context(), phone.id)
	if err != nil || mail != (store.Usage{}) {
		t.Errorf("mail is kept: %+v, %v", mail, err)
	}
	counts, err := s.store.CountPrekeys(t.Context(), phone.id, s.clock.Now())
	if err != nil || counts.OneTime != 0 || counts.Signed != 0 {
		t.Errorf("prekeys are kept: %+v, %v", counts, err)
	}
	alices.settled() // the other device is as before
	alice.must(lookupRequest("bob", nil))
}

// A chain that ends the account ends all its devices, the one that sends it
// too, which is answered first.
func TestKLC13_ClosedAccountIsCutOff(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	phone := alice.second()
	alices, phones, bobs := alice.link(), phone.link(), bob.link()
	alice.update(alice.then(alice.chain.Close(s.clock.Now(), alice.aik)))
	alices.awaitBye(protocol.Revoked)
	phones.awaitBye(protocol.Revoked)
	bobs.awaitChanged(alice)
	eventually(t, "the connections end", func() bool { return !alice.connected() && !phone.connected() })
	alice.reconnect()
	alice.refused(protocol.Revoked, updateRequest(alice.chain))
	expectCodes(t, bob.put(item(alice, 0, []byte("x")), item(phone, 0, []byte("x"))), protocol.Revoked, protocol.Revoked)
	alice.certify(key.NewIdentity().Public(), key.NewHost().Public().PeerID()) // another account
	bob.refused(protocol.BadRequest, alice.registerRequest(nil))               // from a member's connection
}

// The last device of an account revokes itself: nothing of it is kept, and the
// recovery key alone brings the account back.
func TestKLC13_LastDeviceIsCutOff(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	expectCodes(t, bob.put(item(alice, 0, []byte("for alice"))), protocol.OK)
	alices, bobs := alice.link(), bob.link()
	alice.update(alice.without(alice))
	alices.awaitBye(protocol.Revoked)
	bobs.awaitChanged(alice)
	expectCodes(t, bob.put(item(alice, 0, []byte("x"))), protocol.Revoked)
	if _, err := s.store.Sweep(t.Context(), s.clock.Now()); err != nil {
		t.Fatal(err)
	}
	if mail, err := s.store.MailboxUsage(t.Context(), alice.id); err != nil || mail != (store.Usage{}) {
		t.Errorf("mail is kept: %+v, %v", mail, err)
	}
	found := bob.must(lookupRequest("alice", nonce())).GetFound()
	if len(found.GetBundles()) != 0 || !bytes.Equal(found.GetChain(), alice.chain.Bytes()) {
		t.Error("the directory does not tell that nobody is there")
	}

	aik := key.NewAccount()
	alice.chain = alice.then(alice.chain.RecoverAIK(s.clock.Now(), alice.rk, aik))
	alice.aik = aik
	alice.second().link()
	bobs.awaitChanged(alice)
}

// hookedStore calls hook once, when a link has passed all checks and is about
// to go online.
type hookedStore struct {
	store.Rendezvous
	mu   sync.Mutex
	hook func()
}

func (s *hookedStore) Watchers(ctx context.Context, id protocol.AccountID) ([]protocol.AccountID, error) {
	s.mu.Lock()
	hook := s.hook
	s.hook = nil
	s.mu.Unlock()
	if hook != nil {
		hook()
	}
	return s.Rendezvous.Watchers(ctx, id)
}

// A revocation that comes while a link begins finds no link to end: the link
// must not outlive it.
func TestRevocationWhileALinkBegins(t *testing.T) {
	t.Parallel()
	hooked := &hookedStore{}
	s := startServer(t, func(c *Config) {
		c.wrap = func(s store.Rendezvous) store.Rendezvous { hooked.Rendezvous = s; return hooked }
	})
	alice := member(t, s, "alice")
	phone := alice.second()
	chain := alice.without(phone)
	hooked.mu.Lock()
	hooked.hook = func() { alice.must(updateRequest(chain)) }
	hooked.mu.Unlock()
	if w := phone.dialLink(&wire.Beat{Hello: phone.hello(), Seq: 1}).welcome; protocol.Code(w.GetCode()) != protocol.Revoked {
		t.Errorf("link: %v", w)
	}
	if s.presence.link(phone.id) != nil {
		t.Error("the phone is online")
	}
}
