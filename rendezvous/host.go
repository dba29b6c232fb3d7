package rendezvous

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
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

const (
	identityFile    = "identity.key"
	autoNATInterval = time.Minute
)

// defaultListen is where a rendezvous listens unless told otherwise.
var defaultListen = []string{
	"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1",
	"/ip6/::/tcp/4001", "/ip6/::/udp/4001/quic-v1",
}

// newHost makes the libp2p host and begins to listen, at every address asked
// for.
func newHost(cfg Config, announce []ma.Multiaddr) (host.Host, error) {
	listen, err := parseListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	identity, err := loadIdentity(cfg.Dir)
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
	gate := &dialGate{}
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
		libp2p.AddrsFactory(func(own []ma.Multiaddr) []ma.Multiaddr { return ma.Unique(slices.Concat(announce, own)) }),
		libp2p.UserAgent("parley-rendezvous"),
		libp2p.DisableMetrics(),
	}
	if !onlyLoopback(cfg.Listen) {
		options = append(options, libp2p.NATPortMap()) // for a rendezvous at home
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

// dialGate keeps the rendezvous from dialing: it never opens connections, so
// nobody can make it probe a network by announcing addresses.
//
// The one exception is AutoNAT, which asks a throw-away identity behind this
// same gate to dial a peer back: that is let through to public addresses of
// peers that are connected right now. For the rendezvous itself the exception
// means nothing, as libp2p does not dial who is connected.
type dialGate struct {
	net atomic.Pointer[network.Network] // nil until the host runs
}

func (g *dialGate) InterceptPeerDial(p peer.ID) bool {
	n := g.net.Load()
	return n != nil && (*n).Connectedness(p) == network.Connected
}

func (g *dialGate) InterceptAddrDial(_ peer.ID, a ma.Multiaddr) bool { return manet.IsPublicAddr(a) }

func (g *dialGate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

func (g *dialGate) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return true
}

func (g *dialGate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// prepareDir makes the data directory private to its owner.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory private: %w", err)
	}
	return nil
}

// loadIdentity reads the key that is this rendezvous's name, and makes it at
// the first start.
func loadIdentity(dir string) (crypto.PrivKey, error) {
	path := filepath.Join(dir, identityFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newIdentity(dir, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, fmt.Errorf("make identity private: %w", err)
	}
	k, err := crypto.UnmarshalPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("read identity: %s holds no key: %w", path, err)
	}
	return k, nil
}

// newIdentity stores the key durably under its final name, or not at all: a
// server that comes back under another name is lost to its users.
func newIdentity(dir, path string) (crypto.PrivKey, error) {
	k, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	b, err := crypto.MarshalPrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("encode identity: %w", err)
	}
	if err := writeDurably(dir, path, b); err != nil {
		return nil, fmt.Errorf("store identity: %w", err)
	}
	return k, nil
}

func writeDurably(dir, path string, b []byte) error {
	f, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// parseAnnounce reads the operator's idea of how the rendezvous is reached:
// multiaddrs, or host:port, which stands for TCP and QUIC on that port.
func parseAnnounce(texts []string) ([]ma.Multiaddr, error) {
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
