package rendezvous

import (
	"net"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/parley-chat/parley/protocol/invite"
)

// The rendezvous dials nobody, whatever addresses it is told.
func TestItDialsNobody(t *testing.T) {
	s := startServer(t, nil)
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
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}

// Announced addresses come first, loopback last, and into an invite only when
// nothing else is there.
func TestAddrs(t *testing.T) {
	s := startServer(t, nil)
	if i := s.inviteAddrs(); len(i) != 1 || i[0] != s.Addrs()[0].String() {
		t.Errorf("loopback only: %v", i)
	}
	s = startServer(t, func(c *Config) { c.Announce = []string{"10.1.2.3:4001", "/ip4/1.1.1.1/tcp/1"} })
	if addrs := s.Addrs(); len(addrs) != 4 || addrs[2].String() != "/ip4/1.1.1.1/tcp/1" || addrs[0].String() != "/ip4/10.1.2.3/tcp/4001" || !manet.IsIPLoopback(addrs[3]) {
		t.Errorf("addresses %v", addrs)
	}
	if i := s.inviteAddrs(); len(i) != 3 || len(i) > invite.MaxAddrs {
		t.Errorf("in an invite: %v", i)
	}
}
