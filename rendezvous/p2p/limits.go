package p2p

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	libp2pprotocol "github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	basicconnmgr "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/x/rate"

	"github.com/parley-chat/parley/protocol"
)

// Limits bound the connections of a server. All must be set.
type Limits struct {
	Conns      int // in all
	PerAddress int // of one IPv4 address or IPv6 /56, so of one office
	Circuits   int // open relay circuits of one peer
}

// resourceManager replaces libp2p's limits by ours. Its defaults admit 8
// connections per address, then one new per 5 s, and on a 1 GiB machine 64 in
// all: a server would turn its own users away. Loopback is exempt from the
// limits per address, so tests on one machine never meet them.
func resourceManager(l Limits) (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)

	limits.SystemBaseLimit.Conns, limits.SystemBaseLimit.ConnsInbound = 2*l.Conns, l.Conns
	limits.SystemBaseLimit.Streams = 16 * l.Conns
	limits.SystemBaseLimit.StreamsInbound, limits.SystemBaseLimit.StreamsOutbound = 8*l.Conns, 8*l.Conns
	// Each yamux stream books its 256 KiB window whether it is used or not.
	limits.SystemBaseLimit.Memory = int64(l.Conns) << 20
	limits.TransientBaseLimit.Conns, limits.TransientBaseLimit.ConnsInbound = 1024, 512 // half-open handshakes
	limits.TransientBaseLimit.Memory = 256 << 20
	limits.PeerBaseLimit.Streams, limits.PeerBaseLimit.Memory = 4*l.Circuits+64, 128<<20
	limits.PeerBaseLimit.StreamsInbound, limits.PeerBaseLimit.StreamsOutbound = 2*l.Circuits+64, 2*l.Circuits+64

	// Everybody comes at once after a restart: identify and ping must not be
	// what turns them away.
	everybody := rcmgr.BaseLimit{Streams: 2 * l.Conns, StreamsInbound: l.Conns, StreamsOutbound: l.Conns, Memory: 256 << 20}
	for _, service := range []string{identify.ServiceName, ping.ServiceName} {
		limits.AddServiceLimit(service, everybody, rcmgr.BaseLimitIncrease{})
	}
	for _, id := range []libp2pprotocol.ID{identify.ID, identify.IDPush, ping.ID, protocol.LinkProtocol, protocol.CallProtocol, protocol.PairProtocol, protocol.TokenProtocol, protocol.TopicProtocol} {
		limits.AddProtocolLimit(id, everybody, rcmgr.BaseLimitIncrease{})
	}
	// One link, and a second one while the first is being replaced; calls of
	// one device wait for each other beyond 32.
	limits.AddProtocolPeerLimit(protocol.LinkProtocol, rcmgr.BaseLimit{Streams: 4, StreamsInbound: 4, Memory: 4 << 20}, rcmgr.BaseLimitIncrease{})
	limits.AddProtocolPeerLimit(protocol.CallProtocol, rcmgr.BaseLimit{Streams: 32, StreamsInbound: 32, StreamsOutbound: 4, Memory: 32 << 20}, rcmgr.BaseLimitIncrease{})
	// A pairing is one stream, and a second one while the first gives up.
	limits.AddProtocolPeerLimit(protocol.PairProtocol, rcmgr.BaseLimit{Streams: 4, StreamsInbound: 4, Memory: 4 << 20}, rcmgr.BaseLimitIncrease{})

	// Three transfers of a device, several streams each, and some that replace others.
	// Each holds a buffer as long as it lasts.
	limits.AddProtocolLimit(protocol.BlobProtocol, rcmgr.BaseLimit{Streams: 1024, StreamsInbound: 1024, Memory: 256 << 20}, rcmgr.BaseLimitIncrease{})
	limits.AddProtocolPeerLimit(protocol.BlobProtocol, rcmgr.BaseLimit{Streams: 16, StreamsInbound: 16, Memory: 16 << 20}, rcmgr.BaseLimitIncrease{})

	// The same of who follows, of a token shown again, and of topics.
	for _, id := range []libp2pprotocol.ID{protocol.FollowProtocol, protocol.TokenProtocol, protocol.TopicProtocol} {
		limits.AddProtocolPeerLimit(id, rcmgr.BaseLimit{Streams: 4, StreamsInbound: 4, StreamsOutbound: 4, Memory: 4 << 20}, rcmgr.BaseLimitIncrease{})
	}

	// A circuit is one stream from the one end, one to the other, and two
	// buffers of relay.BufferSize.
	circuits := rcmgr.BaseLimit{Streams: 16384, StreamsInbound: 16384, StreamsOutbound: 16384, Memory: 256 << 20}
	perPeer := rcmgr.BaseLimit{Streams: 4 * l.Circuits, StreamsInbound: 2 * l.Circuits, StreamsOutbound: 2 * l.Circuits, Memory: 64 << 20}
	limits.AddServiceLimit(relayv2.ServiceName, circuits, rcmgr.BaseLimitIncrease{})
	limits.AddServicePeerLimit(relayv2.ServiceName, perPeer, rcmgr.BaseLimitIncrease{})
	for _, id := range []libp2pprotocol.ID{circuit.ProtoIDv2Hop, circuit.ProtoIDv2Stop} {
		limits.AddProtocolLimit(id, circuits, rcmgr.BaseLimitIncrease{})
		limits.AddProtocolPeerLimit(id, perPeer, rcmgr.BaseLimitIncrease{})
	}

	// New connections per address: everybody in one office at once, then 20 a
	// second.
	burst := rate.Limit{RPS: 20, Burst: l.PerAddress}
	newConns := &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, // no limit
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: burst}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: burst}},
			GracePeriod:      time.Minute,
		},
	}
	m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.AutoScale()),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: l.PerAddress}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: l.PerAddress}}),
		rcmgr.WithConnRateLimiters(newConns),
		rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, fmt.Errorf("set libp2p limits: %w", err)
	}
	return m, nil
}

// connManager trims idle strangers before the hard limit of connections is
// reached; connections that matter are protected by who uses them.
func connManager(l Limits) (connmgr.ConnManager, error) {
	m, err := basicconnmgr.NewConnManager(l.Conns*3/4, l.Conns*7/8, basicconnmgr.WithGracePeriod(time.Minute))
	if err != nil {
		return nil, fmt.Errorf("make connection manager: %w", err)
	}
	return m, nil
}
