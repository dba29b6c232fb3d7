package node

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
	manet "github.com/multiformats/go-multiaddr/net"
)

// directDialTimeout is how long a hole punch tries a plain dial first. Where a
// firewall drops silently that time is lost; libp2p's 10 s are too many.
const directDialTimeout = 3 * time.Second

// A node has one observer of its address, the rendezvous; libp2p wants four
// before it believes. What is believed is announced only once AutoNAT has
// found it reachable, see announce. Set before any host exists: libp2p reads
// it without a lock.
func init() { observedaddrs.ActivationThresh = 1 }

// hostParams are what newHost needs to know.
type hostParams struct {
	seed      []byte // the device's Ed25519 host key
	agent     string
	mapPorts  bool // ask the router to forward our port
	gate      *gate
	home      peer.AddrInfo
	announce  func([]ma.Multiaddr) []ma.Multiaddr
	punches   holepunch.EventTracer
	punchWith holepunch.AddrFilter
}

// newHost makes the libp2p host. It does not listen yet. Of libp2p's defaults
// it leaves out WebRTC, WebTransport, WebSocket and metrics.
func newHost(p hostParams) (host.Host, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(p.seed))
	if err != nil {
		return nil, fmt.Errorf("read host key: %w", err)
	}
	resources, err := resourceManager()
	if err != nil {
		return nil, err
	}
	conns, err := connManager()
	if err != nil {
		return nil, err
	}
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.NoListenAddrs, // Run listens
		libp2p.EnableRelay(), // as a client
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(quic.NewTransport),
		libp2p.Security(tls.ID, tls.New), // before Noise: Go's TLS is hybrid post-quantum
		libp2p.Security(noise.ID, noise.New),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(conns),
		libp2p.ConnectionGater(p.gate),
		libp2p.MultiaddrResolver(newResolver(p.gate, p.home)),
		libp2p.SwarmOpts(swarm.WithDialRanker(ranker(p.gate.interfaces.onLink))),
		libp2p.EnableHolePunching(
			holepunch.WithAddrFilter(p.punchWith),
			holepunch.WithTracer(p.punches),
			holepunch.DirectDialTimeout(directDialTimeout)),
		libp2p.AddrsFactory(p.announce),
		libp2p.UserAgent(p.agent),
		libp2p.DisableMetrics(),
	}
	if p.mapPorts {
		options = append(options, libp2p.NATPortMap())
	}
	h, err := libp2p.New(options...)
	if err != nil {
		return nil, fmt.Errorf("start libp2p host: %w", err)
	}
	h.ConnManager().Protect(p.home.ID, "rendezvous")
	return h, nil
}

// clearBackoff lets p be dialed again at once. After a failure libp2p answers
// every dial with an error for 5 s, and then for longer each time.
func clearBackoff(h host.Host, p peer.ID) {
	if s, ok := h.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(p)
	}
}

// announced decides which of the host's addresses others are told.
//
// Public addresses are left out while AutoNAT says that nobody gets through to
// them: contacts would wait for them before they punch. While AutoNAT has not
// said anything, those are kept that this machine itself has.
func announced(own []ma.Multiaddr, reachability network.Reachability, ifs *interfaces, near reach) []ma.Multiaddr {
	return slices.DeleteFunc(slices.Clone(own), func(a ma.Multiaddr) bool {
		switch {
		case isRelayed(a):
			return true
		case manet.IsIPLoopback(a):
			return near != thisMachine
		case !manet.IsPublicAddr(a) || reachability == network.ReachabilityPublic:
			return false
		case reachability == network.ReachabilityPrivate:
			return true
		default:
			ip, ok := ipOf(a)
			return !ok || !ifs.own(ip)
		}
	})
}

// resolver resolves the names in the invite's addresses of the rendezvous and in
// those of its relays, and no others: a contact's address must not make us ask a
// name server.
type resolver struct {
	swarm.ResolverFromMaDNS
	gate  *gate
	names map[string]bool
}

func newResolver(g *gate, home peer.AddrInfo) resolver {
	r := resolver{swarm.ResolverFromMaDNS{Resolver: madns.DefaultResolver}, g, map[string]bool{}}
	for _, a := range home.Addrs {
		if first, _ := ma.SplitFirst(a); first != nil {
			r.names[first.Value()] = true
		}
	}
	return r
}

func (r resolver) ResolveDNSAddr(context.Context, peer.ID, ma.Multiaddr, int, int) ([]ma.Multiaddr, error) {
	return nil, nil // an address list in DNS: not used
}

func (r resolver) ResolveDNSComponent(ctx context.Context, a ma.Multiaddr, limit int) ([]ma.Multiaddr, error) {
	first, _ := ma.SplitFirst(a)
	if first == nil || !r.names[first.Value()] && !r.gate.isRelayName(first.Value()) {
		return nil, nil
	}
	addrs, err := r.ResolverFromMaDNS.ResolveDNSComponent(ctx, a, limit)
	if r.names[first.Value()] {
		r.gate.learnHome(addrs)
	}
	return addrs, err
}
