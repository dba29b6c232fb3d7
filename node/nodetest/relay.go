package nodetest

import (
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/rendezvous/relay"
)

// Relay is a relay besides the rendezvous. It can be stopped and started again,
// at the same addresses.
type Relay struct {
	*relay.Server
	net    *Net
	config relay.ServerConfig
	stop   func()
}

// NewRelay starts a relay that the rendezvous approves of.
func (net *Net) NewRelay() *Relay {
	net.t.Helper()
	r := &Relay{net: net, config: relay.ServerConfig{
		Dir: filepath.Join(net.t.TempDir(), "relay"), Follow: peer.AddrInfo{ID: net.Home.PeerID(), Addrs: net.Home.Addrs()},
		Listen: Loopback, Log: Log(net.t, "relay"),
	}}
	net.t.Cleanup(r.Stop)
	r.Start()
	if err := net.Home.AddRelay(net.t.Context(), r.PeerID()); err != nil {
		net.t.Fatalf("approve of the relay: %v", err)
	}
	return r
}

// Start starts the relay.
func (r *Relay) Start() {
	r.net.t.Helper()
	s, err := relay.NewServer(r.net.t.Context(), r.config)
	if err != nil {
		r.net.t.Fatalf("make relay: %v", err)
	}
	r.Server = s
	r.config.Listen = nil
	for _, a := range s.Addrs() {
		r.config.Listen = append(r.config.Listen, a.String())
	}
	r.stop = run(r.net.t, "relay", s.Run)
}

// Stop stops it and waits; stopping what is stopped does nothing.
func (r *Relay) Stop() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}
