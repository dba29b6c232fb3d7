package rendezvous

import (
	"net"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p"
	ma "github.com/multiformats/go-multiaddr"
)

// A port belongs to one host, and a rendezvous that does not get all of its
// addresses does not start.
func TestPortInUse(t *testing.T) {
	other, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics()) // with port reuse
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	reused, err := other.Network().ListenAddresses()[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := startServer(t, nil).Addrs()[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/"+tcp), libp2p.DisableRelay(), libp2p.DisableMetrics()); err == nil {
		h.Close()
		t.Error("another host shares the rendezvous's port")
	}
	for addr, want := range map[string]string{
		"/ip4/127.0.0.1/tcp/" + reused:                             "port " + reused + "/tcp is in use",
		"/ip4/127.0.0.1/tcp/" + tcp:                                "port " + tcp + "/tcp is in use",
		"/ip4/127.0.0.1/udp/" + port(udp.LocalAddr()) + "/quic-v1": "port " + port(udp.LocalAddr()) + "/udp is in use",
	} {
		s, err := New(t.Context(), Config{Dir: t.TempDir(), Listen: []string{"/ip4/127.0.0.1/tcp/0", addr}})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
	}
}
