package node_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
)

func codeOf(err error) string {
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		return ""
	}
	return e.Code
}

// hostKey returns the libp2p identity of somebody whose node does not run.
func hostKey(t *testing.T, p *nodetest.Person) key.HostPrivate {
	t.Helper()
	var k key.HostPrivate
	err := p.WithStore(func(tx store.Tx) error {
		e, err := engine.Load(tx)
		if err == nil {
			k = e.Identity().Host
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// bareHost is a libp2p host without a node, for misbehaving.
func bareHost(t *testing.T, k key.HostPrivate) host.Host {
	t.Helper()
	std, err := crypto.UnmarshalEd25519PrivateKey(append(k.Seed(), k.Public().PeerID()[6:]...))
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Identity(std), libp2p.NoListenAddrs, libp2p.Transport(tcp.NewTCPTransport),
		libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// where returns how to dial somebody's node.
func where(t *testing.T, p *nodetest.Person) peer.AddrInfo {
	t.Helper()
	s, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.Decode(s.PeerID)
	if err != nil {
		t.Fatal(err)
	}
	info := peer.AddrInfo{ID: id}
	for _, a := range s.Listen {
		info.Addrs = append(info.Addrs, ma.StringCast(a))
	}
	return info
}

// alive tells whether a stream can be opened and answered on a connection to p.
func alive(t *testing.T, h host.Host, p peer.ID) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(network.WithNoDial(t.Context(), "test"), 3*time.Second)
	defer cancel()
	s, err := h.NewStream(ctx, p, "/ipfs/ping/1.0.0")
	if err != nil {
		return false
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(3 * time.Second))
	b := make([]byte, 32)
	if _, err := s.Write(b); err != nil {
		return false
	}
	_, err = s.Read(b)
	return err == nil
}
