package node

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
	"github.com/libp2p/go-libp2p/x/rate"

	"github.com/parley-chat/parley/protocol"
)

// What one node lets others use of it.
const (
	maxConns        = 512 // connections in all
	maxPerAddress   = 256 // connections from one address: the relay's counts for everybody behind it
	maxInboundMsg   = 256 // streams of incoming messages, of all peers
	maxPeerMsg      = 4   // of one peer: one in use, others being replaced
	maxQuestions    = 32  // streams of devices that ask for a prekey, and as many that ask of a room
	maxFileStreams  = 64  // streams of devices that want pieces of files, of which few are answered at a time
	maxPeerFiles    = 8   // of one device
	maxMemory       = 256 << 20
	connsLow        = 128 // above connsHigh the connection manager closes idle ones down to connsLow
	connsHigh       = 192
	connGrace       = time.Minute
	newConnsPerSec  = 20
	maxHalfOpen     = 64
	maxPeerStreams  = 128
	maxPeerMemory   = 64 << 20
	maxInboundBytes = maxInboundMsg * protocol.MaxFrame
)

// resourceManager replaces libp2p's limits. Its defaults let 8 connections per
// IPv4 address in, and then one per 5 seconds; as relayed connections count
// against the relay's address, only 8 contacts could reach a node through its
// rendezvous.
func resourceManager() (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)

	system := &limits.SystemBaseLimit
	system.Conns, system.ConnsInbound, system.ConnsOutbound = maxConns, maxConns/2, maxConns/2
	system.Streams, system.StreamsInbound, system.StreamsOutbound = 16*maxConns, 8*maxConns, 8*maxConns
	system.Memory, system.FD = maxMemory, maxConns
	limits.TransientBaseLimit.Conns = 2 * maxHalfOpen
	limits.TransientBaseLimit.ConnsInbound = maxHalfOpen
	limits.PeerBaseLimit.Streams = 2 * maxPeerStreams
	limits.PeerBaseLimit.StreamsInbound = maxPeerStreams
	limits.PeerBaseLimit.StreamsOutbound = maxPeerStreams
	limits.PeerBaseLimit.Memory = maxPeerMemory

	limits.AddProtocolLimit(protocol.MsgProtocol, rcmgr.BaseLimit{
		Streams: 2 * maxInboundMsg, StreamsInbound: maxInboundMsg, StreamsOutbound: maxInboundMsg, Memory: maxInboundBytes,
	}, rcmgr.BaseLimitIncrease{})
	limits.AddProtocolPeerLimit(protocol.MsgProtocol, rcmgr.BaseLimit{
		Streams: 2 * maxPeerMsg, StreamsInbound: maxPeerMsg, StreamsOutbound: maxPeerMsg, Memory: maxPeerMemory,
	}, rcmgr.BaseLimitIncrease{})

	for _, id := range []libp2pprotocol.ID{protocol.PrekeyProtocol, protocol.RoomProtocol} {
		limits.AddProtocolLimit(id, rcmgr.BaseLimit{
			Streams: 2 * maxQuestions, StreamsInbound: maxQuestions, StreamsOutbound: maxQuestions, Memory: maxQuestions * protocol.MaxFrame,
		}, rcmgr.BaseLimitIncrease{})
	}
	limits.AddProtocolPeerLimit(protocol.PrekeyProtocol, rcmgr.BaseLimit{
		Streams: 2, StreamsInbound: 1, StreamsOutbound: 1, Memory: 2 * protocol.MaxFrame,
	}, rcmgr.BaseLimitIncrease{})
	limits.AddProtocolPeerLimit(protocol.RoomProtocol, rcmgr.BaseLimit{ // several rooms, and one question after the other
		Streams: 8, StreamsInbound: 4, StreamsOutbound: 4, Memory: 8 * protocol.MaxFrame,
	}, rcmgr.BaseLimitIncrease{})

	limits.AddProtocolLimit(protocol.FileProtocol, rcmgr.BaseLimit{
		Streams: 2 * maxFileStreams, StreamsInbound: maxFileStreams, StreamsOutbound: maxFileStreams, Memory: maxFileStreams * protocol.MaxFrame,
	}, rcmgr.BaseLimitIncrease{})
	limits.AddProtocolPeerLimit(protocol.FileProtocol, rcmgr.BaseLimit{ // two requests of each of several files
		Streams: 2 * maxPeerFiles, StreamsInbound: maxPeerFiles, StreamsOutbound: maxPeerFiles, Memory: maxPeerMemory,
	}, rcmgr.BaseLimitIncrease{})

	limits.AddProtocolLimit(protocol.KnockProtocol, rcmgr.BaseLimit{
		Streams: 4 * maxKnocks, StreamsInbound: 2 * maxKnocks, StreamsOutbound: 2, Memory: 4 * maxKnocks * protocol.MaxFrame,
	}, rcmgr.BaseLimitIncrease{})

	perSubnet := rate.Limit{RPS: newConnsPerSec, Burst: maxPerAddress}
	arrivals := &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{ // no limit on this machine
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perSubnet}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: perSubnet}},
			GracePeriod:      time.Minute,
		},
	}
	m, err := rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(limits.Scale(0, 0)), // fixed: the same on every machine
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: maxPerAddress}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: maxPerAddress}}),
		rcmgr.WithConnRateLimiters(arrivals),
		rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, fmt.Errorf("set libp2p limits: %w", err)
	}
	return m, nil
}

// connManager closes idle connections long before the hard limit.
func connManager() (connmgr.ConnManager, error) {
	m, err := basicconnmgr.NewConnManager(connsLow, connsHigh, basicconnmgr.WithGracePeriod(connGrace))
	if err != nil {
		return nil, fmt.Errorf("make connection manager: %w", err)
	}
	return m, nil
}
