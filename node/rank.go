package node

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
)

// tcpLead is how long TCP is tried alone in a local network: enough for a
// handshake there, and hardly felt where TCP is refused.
const tcpLead = 50 * time.Millisecond

// ranker says in which order addresses are dialed: as libp2p has it, QUIC first,
// but TCP first on this machine and in a network that it is on. There is no router
// between whose mapping of a QUIC port a hole could be punched with, and much data
// goes over TCP three times as fast for a third of the CPU.
func ranker(onLink func(netip.Addr) bool) network.DialRanker {
	return func(addrs []ma.Multiaddr) []network.AddrDelay {
		var near, rest []ma.Multiaddr
		for _, a := range addrs {
			ip, ok := ipOf(a)
			if ok && (ip.IsLoopback() || onLink(ip)) && transportOf(a) == "tcp" && !isRelayed(a) {
				near = append(near, a)
			} else {
				rest = append(rest, a)
			}
		}
		ranked := swarm.DefaultDialRanker(near)
		for _, r := range swarm.DefaultDialRanker(rest) {
			if len(near) > 0 {
				r.Delay += tcpLead
			}
			ranked = append(ranked, r)
		}
		return ranked
	}
}
