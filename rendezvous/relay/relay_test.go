package relay

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// list is a gate: members, and who accepts whom. Every connection is good.
type list struct {
	host    host.Host // set by start
	members map[peer.ID]bool
	accepts map[[2]peer.ID]bool // {source, destination}
}

func (l *list) Member(p peer.ID) bool            { return l.members[p] }
func (l *list) MayConnect(src, dst peer.ID) bool { return l.accepts[[2]peer.ID{src, dst}] }

func (l *list) Conn(p peer.ID) network.Conn {
	if conns := l.host.Network().ConnsToPeer(p); len(conns) > 0 {
		return conns[0]
	}
	return nil
}

func newHost(t *testing.T, listen ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append(listen, libp2p.Transport(tcp.NewTCPTransport), libp2p.DisableMetrics())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func newPeer(t *testing.T, relay peer.AddrInfo) host.Host {
	t.Helper()
	h := newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay())
	if err := h.Connect(t.Context(), relay); err != nil {
		t.Fatal(err)
	}
	return h
}

var small = Limits{Bytes: 1 << 20, Duration: time.Minute, Reservations: 2, PerAddress: 10, Circuits: 4}

func start(t *testing.T, g *list, l Limits) (*Relay, peer.AddrInfo) {
	t.Helper()
	h := newHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	g.host = h
	r, err := New(h, g, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
}

// status is what a refused reservation was refused with.
func status(t *testing.T, err error) pb.Status {
	t.Helper()
	e, ok := errors.AsType[client.ReservationError](err)
	if !ok {
		t.Fatalf("no refusal: %v", err)
	}
	return e.Status
}

func TestReservations(t *testing.T) {
	gate := &list{members: map[peer.ID]bool{}}
	r, info := start(t, gate, small)
	stranger := newPeer(t, info)
	var members []host.Host
	for range small.Reservations + 1 {
		h := newPeer(t, info)
		gate.members[h.ID()] = true
		members = append(members, h)
	}

	if _, err := client.Reserve(t.Context(), stranger, info); status(t, err) != pb.Status_PERMISSION_DENIED {
		t.Errorf("a stranger: %v", err)
	}
	for i, h := range members[:small.Reservations] {
		v, err := client.Reserve(t.Context(), h, info)
		if err != nil {
			t.Fatalf("member %d: %v", i, err)
		}
		if v.LimitDuration != small.Duration || v.LimitData != uint64(small.Bytes) {
			t.Errorf("limits %v and %d bytes", v.LimitDuration, v.LimitData)
		}
		if len(v.Addrs) == 0 {
			t.Error("a reservation without the relay's private address is of no use on a LAN")
		}
	}
	if _, err := client.Reserve(t.Context(), members[0], info); err != nil {
		t.Errorf("renewal: %v", err)
	}
	if _, err := client.Reserve(t.Context(), members[small.Reservations], info); status(t, err) != pb.Status_RESERVATION_REFUSED {
		t.Errorf("over the limit: %v", err)
	}
	if r.Reservations() != small.Reservations || r.Circuits() != 0 {
		t.Errorf("%d reservations, %d circuits", r.Reservations(), r.Circuits())
	}
}

func TestCircuits(t *testing.T) {
	gate := &list{members: map[peer.ID]bool{}, accepts: map[[2]peer.ID]bool{}}
	r, info := start(t, gate, small)
	src, dst := newPeer(t, info), newPeer(t, info)
	gate.members[src.ID()], gate.members[dst.ID()] = true, true
	if _, err := client.Reserve(t.Context(), dst, info); err != nil {
		t.Fatal(err)
	}
	dial := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		circuit := info.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + info.ID.String() + "/p2p-circuit"))
		src.Network().(*swarm.Swarm).Backoff().Clear(dst.ID())
		return src.Connect(network.WithAllowLimitedConn(ctx, "test"), peer.AddrInfo{ID: dst.ID(), Addrs: []ma.Multiaddr{circuit}})
	}
	if err := dial(); err == nil || !strings.Contains(err.Error(), "PERMISSION_DENIED") {
		t.Fatalf("without being accepted: %v", err)
	}
	gate.accepts[[2]peer.ID{src.ID(), dst.ID()}] = true
	if err := dial(); err != nil {
		t.Fatal(err)
	}
	if r.Circuits() != 1 {
		t.Errorf("%d circuits", r.Circuits())
	}
	if !src.Network().ConnsToPeer(dst.ID())[0].Stat().Limited {
		t.Error("the connection does not look relayed")
	}
}
