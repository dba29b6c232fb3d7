package rendezvous

import (
	"net"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/protocol/invite"
)

// An office behind one address, and a whole server of people at once.
func TestConnectionsAreAdmitted(t *testing.T) {
	l := Limits{ConnsPerAddress: 100}.withDefaults()
	rm, err := resourceManager(l)
	if err != nil {
		t.Fatal(err)
	}
	defer rm.Close()
	office := ma.StringCast("/ip4/198.51.100.7/tcp/1")
	for i := range l.ConnsPerAddress {
		c, err := rm.OpenConnection(network.DirInbound, true, office)
		if err != nil {
			t.Fatalf("connection %d of one address: %v", i, err)
		}
		if err := c.SetPeer(peer.ID(string(rune(i)))); err != nil { // the handshake is over
			t.Fatal(err)
		}
	}
	if _, err := rm.OpenConnection(network.DirInbound, true, office); err == nil {
		t.Error("no limit per address")
	}
	for i := range 2000 {
		from, err := ma.NewMultiaddr("/ip4/" + net.IPv4(203, 0, byte(i>>8), byte(i)).String() + "/tcp/1")
		if err != nil {
			t.Fatal(err)
		}
		c, err := rm.OpenConnection(network.DirInbound, false, from)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if err := c.SetPeer(peer.ID(net.IPv4(203, 0, byte(i>>8), byte(i)).String())); err != nil {
			t.Fatal(err)
		}
	}
}

// The rendezvous dials nobody, whatever addresses it is told.
func TestItDialsNobody(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	victim := ma.StringCast("/ip4/127.0.0.1/tcp/" + port(listener.Addr()))
	stranger := newDevice(t, s, "stranger")
	stranger.host.Close()
	eventually(t, "the stranger is gone", func() bool {
		return s.host.Network().Connectedness(stranger.host.ID()) != network.Connected
	})
	if err := s.host.Connect(t.Context(), peer.AddrInfo{ID: stranger.host.ID(), Addrs: []ma.Multiaddr{victim}}); err == nil {
		t.Error("dialed a stranger")
	}
	g := &dialGate{}
	if g.InterceptPeerDial(alice.host.ID()) {
		t.Error("dials before there is a network")
	}
	n := s.host.Network()
	g.net.Store(&n)
	if !g.InterceptPeerDial(alice.host.ID()) || g.InterceptPeerDial(stranger.host.ID()) {
		t.Error("AutoNAT may dial back who is connected, and nobody else")
	}
	for text, ok := range map[string]bool{
		"/ip4/1.1.1.1/tcp/1": true, "/ip4/127.0.0.1/tcp/1": false, "/ip4/192.168.0.1/tcp/1": false, "/ip4/169.254.169.254/tcp/80": false,
	} {
		if g.InterceptAddrDial(alice.host.ID(), ma.StringCast(text)) != ok {
			t.Errorf("%s: want %v", text, ok)
		}
	}
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}

func TestAnnounce(t *testing.T) {
	got, err := parseAnnounce([]string{"example.org:4001", "198.51.100.7:443", "[2001:db8::1]:4001", "/dns4/example.net/tcp/443/wss"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/dns/example.org/tcp/4001", "/dns/example.org/udp/4001/quic-v1",
		"/ip4/198.51.100.7/tcp/443", "/ip4/198.51.100.7/udp/443/quic-v1",
		"/ip6/2001:db8::1/tcp/4001", "/ip6/2001:db8::1/udp/4001/quic-v1",
		"/dns4/example.net/tcp/443/wss",
	}
	if !slices.EqualFunc(got, want, func(m ma.Multiaddr, s string) bool { return m.String() == s }) {
		t.Errorf("announced %v", got)
	}
	for _, bad := range []string{"", "example.org", "/ip4/1.2.3", "example.org:port", "a/b:1"} {
		if got, err := parseAnnounce([]string{bad}); err == nil {
			t.Errorf("%q became %v", bad, got)
		}
	}
}

// Announced addresses come first, loopback last, and into an invite only when
// nothing else is there.
func TestAddrs(t *testing.T) {
	s := startServer(t, nil)
	if i := s.inviteAddrs(); len(i) != 1 || i[0] != s.Addrs()[0].String() {
		t.Errorf("loopback only: %v", i)
	}
	s = startServer(t, func(c *Config) { c.Announce = []string{"10.1.2.3:4001", "/ip4/1.1.1.1/tcp/1"} })
	if addrs := s.Addrs(); len(addrs) != 4 || addrs[2].String() != "/ip4/1.1.1.1/tcp/1" || addrs[0].String() != "/ip4/10.1.2.3/tcp/4001" || reach(addrs[3]) != 2 {
		t.Errorf("addresses %v", addrs)
	}
	if i := s.inviteAddrs(); len(i) != 3 || len(i) > invite.MaxAddrs {
		t.Errorf("in an invite: %v", i)
	}
}

func TestOnlyLoopback(t *testing.T) {
	for _, c := range []struct {
		listen []string
		want   bool
	}{
		{[]string{"/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"}, true},
		{[]string{"/ip4/127.0.0.1/tcp/0", "/ip4/0.0.0.0/tcp/0"}, false},
		{defaultListen, false},
	} {
		if onlyLoopback(c.listen) != c.want {
			t.Errorf("%v: want %v", c.listen, c.want)
		}
	}
}
