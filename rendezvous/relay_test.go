package rendezvous

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	relayclient "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const echo = "/test/echo/1"

func (d *device) reserve() error {
	_, err := relayclient.Reserve(d.t.Context(), d.host, peer.AddrInfo{ID: d.server.PeerID(), Addrs: d.server.Addrs()})
	return err
}

// throughRelay connects to another device by the rendezvous alone.
func (d *device) throughRelay(to *device) error {
	circuit, err := ma.NewMultiaddr("/p2p/" + d.server.PeerID().String() + "/p2p-circuit")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	ctx = network.WithAllowLimitedConn(ctx, "test")
	d.host.Network().(*swarm.Swarm).Backoff().Clear(to.host.ID())
	return d.host.Connect(ctx, peer.AddrInfo{ID: to.host.ID(), Addrs: []ma.Multiaddr{circuit}})
}

// denied tells whether the relay refused, rather than anything going wrong.
func denied(err error) bool { return err != nil && strings.Contains(err.Error(), "PERMISSION_DENIED") }

// The relay serves members, and connects only to those who have accepted the
// caller.
func TestRelayGate(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, eve := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "eve")
	stranger := newDevice(t, s, "stranger")
	bob.setContacts(alice) // bob accepts alice; alice need not list bob
	eve.setContacts(bob)   // eve lists bob, who has not accepted eve

	if err := stranger.reserve(); !denied(err) {
		t.Errorf("a stranger's reservation: %v", err)
	}
	for _, d := range []*device{alice, bob} {
		if err := d.reserve(); err != nil {
			t.Fatalf("%s's reservation: %v", d.name, err)
		}
	}
	if n := s.relay.Reservations(); n != 2 {
		t.Errorf("%d reservations", n)
	}
	for name, d := range map[string]*device{"stranger": stranger, "not accepted": eve} {
		if err := d.throughRelay(bob); !denied(err) {
			t.Errorf("%s to bob: %v", name, err)
		}
	}
	if err := bob.throughRelay(alice); !denied(err) {
		t.Errorf("bob to alice, who has not accepted him: %v", err)
	}
	bob.host.SetStreamHandler(echo, func(s network.Stream) {
		io.Copy(s, s)
		s.Close()
	})
	if err := alice.throughRelay(bob); err != nil {
		t.Fatalf("alice to bob: %v", err)
	}
	stream, err := alice.host.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), bob.host.ID(), echo)
	if err != nil {
		t.Fatal(err)
	}
	stream.SetDeadline(time.Now().Add(patience))
	want := bytes.Repeat([]byte("parley"), 100_000) // over the library's 128 KiB
	go func() {
		stream.Write(want)
		stream.CloseWrite()
	}()
	if got, err := io.ReadAll(stream); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes came back: %v", len(got), len(want), err)
	}
	if !stream.Conn().Stat().Limited {
		t.Error("both ends must see that the connection is relayed")
	}
	if st, err := s.Status(t.Context()); err != nil || st.Circuits != 1 || st.Reservations != 2 {
		t.Errorf("status %+v, %v", st, err)
	}
}

// A copy of a device's store has its host key. As long as it says no hello it
// gets no reservation, opens no circuit, and is never what others reach in the
// device's place, however busy its connection looks and however new it is.
func TestSilentCopyGetsNoCircuits(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	alices := alice.link()
	for _, d := range []*device{alice, bob} {
		if err := d.reserve(); err != nil {
			t.Fatalf("%s's reservation: %v", d.name, err)
		}
	}
	thief := alice.copied()
	if err := thief.reserve(); !denied(err) {
		t.Errorf("the copy's reservation: %v", err)
	}
	if err := thief.throughRelay(bob); !denied(err) {
		t.Errorf("the copy to bob: %v", err)
	}
	for range 10 { // libp2p prefers the connection with the most streams
		stream := thief.open(protocol.CallProtocol)
		if _, err := stream.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(name string) network.StreamHandler {
		return func(s network.Stream) {
			io.WriteString(s, name)
			s.Close()
		}
	}
	alice.host.SetStreamHandler(echo, answer("alice"))
	thief.host.SetStreamHandler(echo, answer("thief"))
	if err := bob.throughRelay(alice); err != nil {
		t.Fatalf("bob to alice: %v", err)
	}
	stream, err := bob.host.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), alice.host.ID(), echo)
	if err != nil {
		t.Fatal(err)
	}
	stream.SetDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(stream); err != nil || string(got) != "alice" {
		t.Errorf("bob reached %q: %v", got, err)
	}
	alices.settled()

	bob.host.Network().ClosePeer(alice.host.ID())
	alice.host.Close() // the copy alone is left, and her reservation
	eventually(t, "the hello is forgotten", func() bool { return s.hellos.conn(alice.host.ID()) == nil })
	if err := bob.throughRelay(alice); err == nil {
		t.Error("bob reached the copy")
	}
}

// A revoked device is refused everything.
func TestRevokedDeviceIsRefused(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	alice.publish(3)
	if err := alice.reserve(); err != nil {
		t.Fatal(err)
	}
	alice.revoke()

	alice.refused(protocol.Revoked, lookupRequest("bob", nil))
	alice.refused(protocol.Revoked, alice.registerRequest(nil))
	if w := alice.dialLink(&wire.Beat{Hello: alice.hello(), Seq: 1}).welcome; protocol.Code(w.GetCode()) != protocol.Revoked {
		t.Errorf("link: %v", w)
	}
	if err := alice.reserve(); !denied(err) {
		t.Errorf("reservation of a revoked device: %v", err)
	}
	if err := bob.throughRelay(alice); !denied(err) {
		t.Errorf("bob to a revoked device: %v", err)
	}
	if err := bob.reserve(); err != nil {
		t.Fatal(err)
	}
	if err := alice.throughRelay(bob); !denied(err) {
		t.Errorf("a revoked device to bob: %v", err)
	}
	expectCodes(t, bob.put(item(alice, 0, []byte("x"))), protocol.Revoked)
	if found := bob.must(lookupRequest("alice", nonce())).GetFound(); len(found.GetBundles()) != 0 {
		t.Error("prekeys of a revoked device were given out")
	}
}

// revoke puts a chain that revokes the device into the store.
func (d *device) revoke() {
	d.t.Helper()
	now := d.server.clock.Now()
	chain, err := d.chain.RevokeDevice(now, d.aik, d.id, account.Lost, now)
	if err != nil {
		d.t.Fatal(err)
	}
	err = d.server.store.SetChain(d.t.Context(), store.ChainParams{
		Account: d.owner, Chain: chain.Bytes(), ChainSeq: chain.Seq(), ChainHead: chain.Head(),
		Revoked: []protocol.DeviceID{d.id}, Now: now,
	})
	if err != nil {
		d.t.Fatal(err)
	}
}
