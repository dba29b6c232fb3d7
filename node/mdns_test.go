package node

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/protocol"
)

func TestMDNSRoundTrip(t *testing.T) {
	q, err := mdnsQuery()
	if err != nil {
		t.Fatal(err)
	}
	if asks, found := readMDNS(q); !asks || len(found) != 0 {
		t.Errorf("own question: asks %v, found %v", asks, found)
	}
	self := testPeer(t)
	var addrs []ma.Multiaddr
	for i := range 30 {
		addrs = append(addrs, ma.StringCast(fmt.Sprintf("/ip4/192.168.1.%d/udp/9000/quic-v1", i)))
	}
	a, err := mdnsAnswer("abcdef", self, addrs)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) > 1500 {
		t.Errorf("an answer of %d bytes", len(a))
	}
	asks, found := readMDNS(a)
	if asks || len(found) != 1 || len(found[self]) != mdnsAddrs || !found[self][0].Equal(addrs[0]) {
		t.Errorf("own answer: asks %v, found %v", asks, found)
	}
}

func FuzzReadMDNS(f *testing.F) {
	q, err := mdnsQuery()
	if err != nil {
		f.Fatal(err)
	}
	id, err := peer.Decode("12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5")
	if err != nil {
		f.Fatal(err)
	}
	a, err := mdnsAnswer("abc", id, []ma.Multiaddr{ma.StringCast("/ip4/1.2.3.4/tcp/1")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Add(a)
	f.Fuzz(func(t *testing.T, packet []byte) {
		_, found := readMDNS(packet)
		for p, addrs := range found {
			if p.Validate() != nil || len(addrs) == 0 || len(addrs) > protocol.MaxAddrs {
				t.Errorf("found %q at %v", p, addrs)
			}
		}
	})
}
