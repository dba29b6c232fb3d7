package node

import (
	"net/netip"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// TestRanker: in a network that this machine is on TCP is dialed first, anywhere else
// QUIC.
func TestRanker(t *testing.T) {
	const relayed = "/ip4/192.168.1.9/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp/p2p-circuit"
	rank := ranker(netip.MustParsePrefix("192.168.1.0/24").Contains)
	for _, c := range []struct{ first, second string }{
		{"/ip4/192.168.1.2/tcp/9000", "/ip4/192.168.1.2/udp/9000/quic-v1"},
		{"/ip4/192.168.1.2/tcp/9000", "/ip4/10.0.0.2/udp/9000/quic-v1"},
		{"/ip4/127.0.0.1/tcp/9000", "/ip4/127.0.0.1/udp/9000/quic-v1"},
		{"/ip6/::1/tcp/9000", "/ip6/::1/udp/9000/quic-v1"},
		{"/ip4/192.168.1.2/tcp/9000", relayed},
		{"/ip4/10.0.0.2/udp/9000/quic-v1", "/ip4/10.0.0.2/tcp/9000"}, // behind a router
		{"/ip4/8.8.8.8/udp/9000/quic-v1", "/ip4/8.8.8.8/tcp/9000"},
	} {
		for _, addrs := range [][]ma.Multiaddr{
			{ma.StringCast(c.first), ma.StringCast(c.second)},
			{ma.StringCast(c.second), ma.StringCast(c.first)},
		} {
			delay := map[string]time.Duration{}
			for _, r := range rank(addrs) {
				delay[r.Addr.String()] = r.Delay
			}
			if len(delay) != 2 || delay[c.first] != 0 || delay[c.second] == 0 {
				t.Errorf("%s is not dialed at once and before %s: %v", c.first, c.second, delay)
			}
		}
	}
}
