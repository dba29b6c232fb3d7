package node

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

func testPeer(t *testing.T) peer.ID {
	t.Helper()
	p, err := peer.IDFromBytes(key.NewHost().Public().PeerID())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func testGate(t *testing.T, home string) (g *gate, contact device) {
	t.Helper()
	g = newGate(peer.AddrInfo{ID: testPeer(t), Addrs: []ma.Multiaddr{ma.StringCast(home)}}, &interfaces{})
	contact = device{account: protocol.AccountID{1}, id: protocol.DeviceID{2}, peer: testPeer(t)}
	g.set([]device{contact})
	return g, contact
}

func TestGateDials(t *testing.T) {
	const (
		public   = "/ip4/1.2.3.4/tcp/4001"
		private  = "/ip4/192.168.250.1/tcp/4001"
		loopback = "/ip4/127.0.0.1/tcp/4001"
	)
	tests := []struct {
		home, addr string
		want       bool
	}{
		{public, "/ip4/8.8.8.8/udp/9000/quic-v1", true},
		{public, "/ip6/2607:f8b0::1/tcp/9000", true},
		{public, "/ip4/127.0.0.1/tcp/9000", false},
		{public, "/ip6/::1/tcp/9000", false},
		{private, "/ip4/127.0.0.1/tcp/9000", false},
		{loopback, "/ip4/127.0.0.1/tcp/9000", true},
		{public, "/ip4/192.168.251.7/tcp/9000", false},
		{private, "/ip4/192.168.251.7/tcp/9000", true},
		{public, "/ip4/169.254.169.254/tcp/80", false},
		{loopback, "/ip4/169.254.169.254/tcp/80", false},
		{public, "/ip6/fe80::1/tcp/9000", false},
		{public, "/ip4/0.0.0.0/tcp/9000", false},
		{public, "/ip6/::/tcp/9000", false},
		{public, "/ip4/224.0.0.251/udp/5353/quic-v1", false},
		{public, "/dns4/example.com/tcp/9000", false},
		{public, "/dnsaddr/example.com", false},
		{public, "/ip6/::ffff:127.0.0.1/tcp/9000", false},
		{public, "/ip6/::ffff:192.168.251.7/tcp/9000", false},
		{public, "/ip4/255.255.255.255/udp/9000/quic-v1", false},
		{public, "/ip4/0.1.2.3/tcp/9000", false},
		{public, "/ip4/240.0.0.1/tcp/9000", false},
		{public, "/ip6/64:ff9b::a00:1/tcp/9000", false},
		{public, "/ip6zone/eth0/ip6/fd00::1/tcp/9000", false},
	}
	for _, tt := range tests {
		g, contact := testGate(t, tt.home)
		if got := g.InterceptAddrDial(contact.peer, ma.StringCast(tt.addr)); got != tt.want {
			t.Errorf("home %s, dial %s: %v, want %v", tt.home, tt.addr, got, tt.want)
		}
	}
}

func TestGateDialsOneRelay(t *testing.T) {
	g, contact := testGate(t, "/ip4/1.2.3.4/tcp/4001")
	for addr, want := range map[string]bool{
		"/p2p/" + g.home.String() + "/p2p-circuit":                        true,
		"/p2p/" + testPeer(t).String() + "/p2p-circuit":                   false,
		"/ip4/9.9.9.9/tcp/1/p2p/" + g.home.String() + "/p2p-circuit":      false,
		"/ip4/9.9.9.9/tcp/1/p2p/" + testPeer(t).String() + "/p2p-circuit": false,
	} {
		if got := g.InterceptAddrDial(contact.peer, ma.StringCast(addr)); got != want {
			t.Errorf("dial %s: %v, want %v", addr, got, want)
		}
	}
}

// The rendezvous says which other relays there are: circuits go through these and
// no others, and their addresses are under the same rules as contacts'.
func TestGateKnowsRelays(t *testing.T) {
	g, contact := testGate(t, "/ip4/1.2.3.4/tcp/4001")
	relay, gone := testPeer(t), testPeer(t)
	g.setRelays(map[peer.ID][]ma.Multiaddr{gone: nil})
	g.setRelays(map[peer.ID][]ma.Multiaddr{relay: {ma.StringCast("/dns4/relay.example.org/tcp/4001"), ma.StringCast("/ip4/9.9.9.9/tcp/4001")}})
	for _, tt := range []struct {
		to   peer.ID
		addr string
		want bool
	}{
		{contact.peer, "/p2p/" + relay.String() + "/p2p-circuit", true},
		{contact.peer, "/p2p/" + gone.String() + "/p2p-circuit", false},
		{relay, "/ip4/9.9.9.9/tcp/4001", true},
		{relay, "/ip4/169.254.169.254/tcp/80", false},
		{relay, "/ip4/10.1.2.3/tcp/22", false},
		{relay, "/ip4/127.0.0.1/tcp/22", false},
		{gone, "/ip4/9.9.9.9/tcp/4001", false},
	} {
		if got := g.InterceptPeerDial(tt.to) && g.InterceptAddrDial(tt.to, ma.StringCast(tt.addr)); got != tt.want {
			t.Errorf("dial %s at %s: %v, want %v", tt.to, tt.addr, got, tt.want)
		}
	}
	if !g.isRelayName("relay.example.org") || g.isRelayName("9.9.9.9") || g.isRelayName("example.org") {
		t.Error("the names that may be resolved are not those in the relays' addresses")
	}
	if _, ok := g.deviceOf(relay); ok {
		t.Error("a relay is taken for a contact's device")
	}
}

func TestGateLimitsAddresses(t *testing.T) {
	g, contact := testGate(t, "/ip4/1.2.3.4/tcp/4001")
	dialed := 0
	for i := range 200 {
		if g.InterceptAddrDial(contact.peer, ma.StringCast(fmt.Sprintf("/ip4/8.8.8.%d/tcp/9000", i))) {
			dialed++
		}
	}
	if dialed > addrsPerPeer {
		t.Errorf("%d addresses of one contact were dialed", dialed)
	}
	if !g.InterceptAddrDial(contact.peer, ma.StringCast("/ip4/8.8.8.0/tcp/9000")) {
		t.Error("an address that was dialed before is refused")
	}
}

// The rendezvous can name new relays for ever, each with addresses of somebody
// else. Few are dialed, nothing is kept of those that are gone, and contacts are
// dialed as before.
func TestGateLimitsAddressesOfRelays(t *testing.T) {
	g, contact := testGate(t, "/ip4/1.2.3.4/tcp/4001")
	dials := 0
	for i := range 1000 {
		p := peer.ID(fmt.Sprint("relay", i))
		g.setRelays(map[peer.ID][]ma.Multiaddr{p: nil})
		for port := range protocol.MaxAddrs {
			if g.InterceptPeerDial(p) && g.InterceptAddrDial(p, ma.StringCast(fmt.Sprintf("/ip4/8.8.8.8/tcp/%d", 1000+port))) {
				dials++
			}
		}
		g.set([]device{contact})
	}
	if dials != relayAddrs || len(g.dialed) != 0 || len(g.toRelays.addrs) != relayAddrs {
		t.Errorf("%d dials let through, want %d; kept of %d peers, and %d addresses", dials, relayAddrs, len(g.dialed), len(g.toRelays.addrs))
	}
	if !g.InterceptAddrDial(contact.peer, ma.StringCast("/ip4/8.8.8.8/tcp/1000")) {
		t.Error("the contact is not dialed")
	}
}

// A certificate does not prove that its account has the host key it names.
func TestGateDisputedIdentity(t *testing.T) {
	g, bob := testGate(t, "/ip4/1.2.3.4/tcp/4001")
	mallory := device{account: protocol.AccountID{9}, id: protocol.DeviceID{9}, peer: bob.peer}
	home := device{account: protocol.AccountID{9}, id: protocol.DeviceID{8}, peer: g.home}
	g.set([]device{bob, mallory, home})
	for _, p := range []peer.ID{bob.peer, g.home} {
		if d, ok := g.deviceOf(p); ok {
			t.Errorf("taken for a device of %v", d.account)
		}
	}
	if !g.InterceptSecured(network.DirInbound, g.home, nil) {
		t.Error("the rendezvous was locked out")
	}
	g.set([]device{bob})
	if d, ok := g.deviceOf(bob.peer); !ok || d.account != bob.account {
		t.Error("bob is not known when nobody disputes him")
	}
}

// Who comes into a room with the identity of somebody who is in one with us gets nothing
// by it, and takes nothing.
func TestGateKeepsWhoWasInARoomFirst(t *testing.T) {
	g, bob := testGate(t, "/ip4/1.2.3.4/tcp/4001")
	carol := device{account: protocol.AccountID{7}, id: protocol.DeviceID{7}, peer: testPeer(t), mate: true}
	g.set([]device{bob, carol})
	mallory := device{account: protocol.AccountID{9}, id: protocol.DeviceID{9}, peer: carol.peer, mate: true}
	for range 2 {
		if gone := g.set([]device{bob, mallory, carol}); len(gone) != 0 {
			t.Errorf("%d are cut off", len(gone))
		}
		if d, ok := g.deviceOf(carol.peer); !ok || d.account != carol.account {
			t.Errorf("taken for a device of %v", d.account)
		}
	}
	if len(g.devicesOf(mallory.account)) != 0 {
		t.Error("the device is dialed")
	}
}

func TestGateLetsContactsIn(t *testing.T) {
	g, contact := testGate(t, "/ip4/1.2.3.4/tcp/4001")
	for p, want := range map[peer.ID]bool{contact.peer: true, g.home: true, testPeer(t): false} {
		if got := g.InterceptSecured(network.DirInbound, p, nil); got != want {
			t.Errorf("inbound: %v, want %v", got, want)
		}
		if got := g.InterceptPeerDial(p); got != want {
			t.Errorf("outbound: %v, want %v", got, want)
		}
	}
	if gone := g.set(nil); len(gone) != 1 || gone[0] != contact.peer {
		t.Errorf("gone: %v", gone)
	}
	if g.InterceptSecured(network.DirInbound, contact.peer, nil) {
		t.Error("a former contact is let in")
	}
}

// The rendezvous says where it is in libp2p's identify, too. Only the invite is
// believed.
func TestGateDialsHomeWhereTheInviteSays(t *testing.T) {
	g, _ := testGate(t, "/ip4/1.2.3.4/tcp/4001")
	for addr, want := range map[string]bool{
		"/ip4/1.2.3.4/udp/4001/quic-v1": true,
		"/ip4/127.0.0.1/tcp/22":         false,
		"/ip4/192.168.250.1/tcp/80":     false,
	} {
		if got := g.InterceptAddrDial(g.home, ma.StringCast(addr)); got != want {
			t.Errorf("dial %s: %v, want %v", addr, got, want)
		}
	}
	local, _ := testGate(t, "/ip4/192.168.250.1/tcp/4001")
	if !local.InterceptAddrDial(local.home, ma.StringCast("/ip4/192.168.250.1/udp/4001/quic-v1")) {
		t.Error("a rendezvous on a private address is not dialed")
	}
}
