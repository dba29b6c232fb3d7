// Package p2p makes the libp2p host of a server of ours, a rendezvous or a relay
// that runs alone, so that both listen, are named and are bounded alike.
package p2p

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const autoNATInterval = time.Minute

// DefaultListen is where a server listens unless told otherwise.
func DefaultListen() []string {
	return []string{
		"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1",
		"/ip6/::/tcp/4001", "/ip6/::/udp/4001/quic-v1",
	}
}

// Config says what host to make. Identity, Agent and Limits are required.
type Config struct {
	Identity string         // file of the key that is the server's name; made at the first start
	Listen   []string       // multiaddrs; empty: DefaultListen
	Announce []ma.Multiaddr // further addresses to tell
	Agent    string         // what the server says it is
	Limits   Limits

	Dials peer.ID                 // the one peer that the server dials; empty: nobody
	Admit func(network.Conn) bool // asked of each connection that others open; nil: all may
}

// New makes the host and begins to listen, at every address asked for.
func New(cfg Config) (host.Host, error) {
	if len(cfg.Listen) == 0 {
		cfg.Listen = DefaultListen()
	}
	listen, err := parseListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	identity, err := loadIdentity(cfg.Identity)
	if err != nil {
		return nil, err
	}
	resources, err := resourceManager(cfg.Limits)
	if err != nil {
		return nil, err
	}
	conns, err := connManager(cfg.Limits)
	if err != nil {
		return nil, err
	}
	gate := &gate{dials: cfg.Dials, admit: cfg.Admit}
	options := []libp2p.Option{
		libp2p.Identity(identity),
		libp2p.ListenAddrs(listen...),
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()), // or two hosts share a port
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(websocket.New),
		libp2p.Security(tls.ID, tls.New), // before Noise: Go's TLS is hybrid post-quantum
		libp2p.Security(noise.ID, noise.New),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(conns),
		libp2p.ConnectionGater(gate),
		libp2p.DisableRelay(), // it never is the client of another relay
		libp2p.ForceReachabilityPublic(),
		libp2p.EnableNATService(), // tells nodes whether they can be reached
		libp2p.AutoNATServiceRateLimit(300, 10, autoNATInterval),
		libp2p.AddrsFactory(func(own []ma.Multiaddr) []ma.Multiaddr { return ma.Unique(slices.Concat(cfg.Announce, own)) }),
		libp2p.UserAgent(cfg.Agent),
		libp2p.DisableMetrics(),
	}
	if !onlyLoopback(cfg.Listen) {
		options = append(options, libp2p.NATPortMap()) // for a server at home
	}
	h, err := libp2p.New(options...)
	if err != nil {
		return nil, fmt.Errorf("start libp2p host: %w", err)
	}
	net := h.Network()
	if err := checkListening(listen, net.ListenAddresses()); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	gate.net.Store(&net)
	return h, nil
}

// gate keeps the server from dialing: it opens no connections but to the one
// peer that it was told, so nobody can make it probe a network by announcing
// addresses.
//
// The one exception is AutoNAT, which asks a throw-away identity behind this
// same gate to dial a peer back: that is let through to public addresses of
// peers that are connected right now. For the server itself the exception means
// nothing, as libp2p does not dial who is connected.
type gate struct {
	dials peer.ID
	admit func(network.Conn) bool
	net   atomic.Pointer[network.Network] // nil until the host runs
}

func (g *gate) InterceptPeerDial(p peer.ID) bool {
	if p == g.dials {
		return true
	}
	n := g.net.Load()
	return n != nil && (*n).Connectedness(p) == network.Connected
}

func (g *gate) InterceptAddrDial(p peer.ID, a ma.Multiaddr) bool {
	return p == g.dials || manet.IsPublicAddr(a)
}

func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

func (g *gate) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool { return true }

func (g *gate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	return g.admit == nil || c.Stat().Direction == network.DirOutbound || g.admit(c), 0
}

// ParseAnnounce reads the operator's idea of how the server is reached:
// multiaddrs, or host:port, which stands for TCP and QUIC on that port.
func ParseAnnounce(texts []string) ([]ma.Multiaddr, error) {
	var all []ma.Multiaddr
	for _, text := range texts {
		if m, err := ma.NewMultiaddr(text); err == nil {
			all = append(all, m)
			continue
		}
		name, port, err := net.SplitHostPort(text)
		if err != nil {
			return nil, fmt.Errorf("announce %q: neither a multiaddr nor host:port", text)
		}
		kind := "dns"
		if ip := net.ParseIP(name); ip != nil {
			kind = "ip6"
			if ip.To4() != nil {
				kind = "ip4"
			}
		}
		for _, transport := range []string{"tcp/" + port, "udp/" + port + "/quic-v1"} {
			m, err := ma.NewMultiaddr("/" + kind + "/" + name + "/" + transport)
			if err != nil {
				return nil, fmt.Errorf("announce %q: %w", text, err)
			}
			all = append(all, m)
		}
	}
	return all, nil
}

func onlyLoopback(listen []string) bool {
	for _, text := range listen {
		m, err := ma.NewMultiaddr(text)
		if err != nil || !manet.IsIPLoopback(m) {
			return false
		}
	}
	return true
}

// reach is 0 for a public address, 1 for a private one, 2 for one of this
// machine.
func reach(a ma.Multiaddr) int {
	switch {
	case manet.IsIPLoopback(a):
		return 2
	case manet.IsPublicAddr(a):
		return 0
	default:
		return 1
	}
}

// Addrs are the addresses to reach a host at: announced ones first, as given,
// then public, private and loopback ones.
func Addrs(h host.Host, announce []ma.Multiaddr) []ma.Multiaddr {
	found := slices.DeleteFunc(slices.Clone(h.Addrs()), func(a ma.Multiaddr) bool {
		return slices.ContainsFunc(announce, a.Equal)
	})
	slices.SortStableFunc(found, func(a, b ma.Multiaddr) int { return reach(a) - reach(b) })
	return slices.Concat(announce, found)
}

// IsCircuit tells whether an address leads over a relay.
func IsCircuit(m ma.Multiaddr) bool {
	_, err := m.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// Far leaves out addresses that only this machine reaches, unless there are no
// others.
func Far(addrs []ma.Multiaddr) []ma.Multiaddr {
	if far := slices.DeleteFunc(slices.Clone(addrs), manet.IsIPLoopback); len(far) > 0 {
		return far
	}
	return addrs
}
