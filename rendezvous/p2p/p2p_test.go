package p2p

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

var testLimits = Limits{Conns: 8192, PerAddress: 100, Circuits: 256}

// An office behind one address, and a whole server of people at once.
func TestConnectionsAreAdmitted(t *testing.T) {
	l := testLimits
	rm, err := resourceManager(l)
	if err != nil {
		t.Fatal(err)
	}
	defer rm.Close()
	office := ma.StringCast("/ip4/198.51.100.7/tcp/1")
	for i := range l.PerAddress {
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

// newHost makes a server on loopback.
func newHost(t *testing.T, change func(*Config)) host.Host {
	t.Helper()
	cfg := Config{Identity: filepath.Join(t.TempDir(), "key"), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Agent: "test", Limits: testLimits}
	if change != nil {
		change(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func addrInfo(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// A server dials the one peer that it was told, and nobody else.
func TestItDialsOne(t *testing.T) {
	home, other := newHost(t, nil), newHost(t, nil)
	h := newHost(t, func(c *Config) { c.Dials = home.ID() })
	if err := h.Connect(t.Context(), addrInfo(home)); err != nil {
		t.Error(err)
	}
	if err := h.Connect(t.Context(), addrInfo(other)); err == nil {
		t.Error("dialed a stranger")
	}
	if err := home.Connect(t.Context(), addrInfo(other)); err == nil {
		t.Error("dialed although it dials nobody")
	}
}

// AutoNAT may dial back who is connected, at public addresses, and nobody else.
func TestDialBack(t *testing.T) {
	home, stranger := newHost(t, nil), newHost(t, nil)
	h := newHost(t, func(c *Config) { c.Dials = home.ID() })
	if err := h.Connect(t.Context(), addrInfo(home)); err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	if g.InterceptPeerDial(home.ID()) {
		t.Error("dials before there is a network")
	}
	n := h.Network()
	g.net.Store(&n)
	if !g.InterceptPeerDial(home.ID()) || g.InterceptPeerDial(stranger.ID()) {
		t.Error("dials others than who is connected")
	}
	for text, ok := range map[string]bool{
		"/ip4/1.1.1.1/tcp/1": true, "/ip4/127.0.0.1/tcp/1": false, "/ip4/192.168.0.1/tcp/1": false, "/ip4/169.254.169.254/tcp/80": false,
	} {
		if g.InterceptAddrDial(home.ID(), ma.StringCast(text)) != ok {
			t.Errorf("%s: want %v", text, ok)
		}
	}
}

// Of the connections that others open, only those stay that are let in.
func TestAdmit(t *testing.T) {
	friend := newHost(t, nil)
	h := newHost(t, func(c *Config) {
		c.Dials = friend.ID()
		c.Admit = func(network.Conn) bool { return false }
	})
	guest := newHost(t, func(c *Config) { c.Dials = h.ID() })
	if err := h.Connect(t.Context(), addrInfo(friend)); err != nil {
		t.Errorf("its own connection: %v", err)
	}
	if err := guest.Connect(t.Context(), addrInfo(h)); err == nil {
		if _, err := guest.NewStream(t.Context(), h.ID(), "/test"); err == nil {
			t.Error("let in")
		}
	}
	if n := len(h.Network().ConnsToPeer(guest.ID())); n != 0 {
		t.Errorf("%d connections stayed", n)
	}
}

// The name lives as long as the file, which nobody else may read.
func TestIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	first := newHost(t, func(c *Config) { c.Identity = path })
	second := newHost(t, func(c *Config) { c.Identity = path })
	if first.ID() != second.ID() {
		t.Error("another name at the second start")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Identity: path, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Limits: testLimits}); err == nil {
		t.Error("a damaged key was taken, or replaced")
	}
}

func TestAnnounce(t *testing.T) {
	got, err := ParseAnnounce([]string{"example.org:4001", "198.51.100.7:443", "[2001:db8::1]:4001", "/dns4/example.net/tcp/443/wss"})
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
		if got, err := ParseAnnounce([]string{bad}); err == nil {
			t.Errorf("%q became %v", bad, got)
		}
	}
}

func TestOnlyLoopback(t *testing.T) {
	for _, c := range []struct {
		listen []string
		want   bool
	}{
		{[]string{"/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"}, true},
		{[]string{"/ip4/127.0.0.1/tcp/0", "/ip4/0.0.0.0/tcp/0"}, false},
		{DefaultListen(), false},
	} {
		if onlyLoopback(c.listen) != c.want {
			t.Errorf("%v: want %v", c.listen, c.want)
		}
	}
}

func TestCheckListening(t *testing.T) {
	listening := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/4001"), ma.StringCast("/ip4/127.0.0.1/udp/4002/quic-v1")}
	for text, ok := range map[string]bool{
		"/ip4/127.0.0.1/tcp/4001": true, "/ip4/127.0.0.1/tcp/0": true, "/ip4/127.0.0.1/udp/0/quic-v1": true,
		"/ip4/127.0.0.1/tcp/4002": false, "/ip4/127.0.0.1/tcp/4001/ws": false, "/ip4/0.0.0.0/tcp/4001": false,
	} {
		if err := checkListening([]ma.Multiaddr{ma.StringCast(text)}, listening); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestSite(t *testing.T) {
	for text, want := range map[string]string{
		"198.51.100.7":         "198.51.100.7/32",
		"::ffff:198.51.100.7":  "198.51.100.7/32",
		"2001:db8:1:2ff::1":    "2001:db8:1:200::/56",
		"2001:db8:1:200:9::99": "2001:db8:1:200::/56",
	} {
		if got := siteOf(net.ParseIP(text)).String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
