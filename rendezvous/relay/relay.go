// Package relay lets two members of a rendezvous reach each other through it
// when neither can be reached directly: circuit relay v2 with our limits and a
// gate. It must not know how membership is stored, so that it can run alone, as
// Server does.
// What passes through is sealed between the two ends; the relay sees bytes.
package relay

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/rendezvous/p2p"
)

// BufferSize is the bytes of buffer per circuit and direction. The library's
// 2 KiB cost more than half of the throughput; 64 KiB is where it levels off.
const BufferSize = 64 << 10

// Gate says who may use the relay. It is asked at each reservation and at each
// circuit, from many goroutines, and must answer quickly. When it cannot tell,
// it answers no.
type Gate interface {
	// Conn is the connection on which p has shown to be itself, nil when there
	// is none. Circuits from and to p, and its reservation, use this one only: a
	// peer may have others, made by whoever stole its key.
	Conn(p peer.ID) network.Conn

	// Member tells whether p is a registered device that has not been revoked.
	Member(p peer.ID) bool

	// MayConnect tells whether src and dst are members and dst has accepted src.
	MayConnect(src, dst peer.ID) bool
}

// Limits bound what the relay gives away. Zero means the default.
type Limits struct {
	Bytes        int64         // per circuit and direction; default 256 MiB
	Duration     time.Duration // per circuit; default 12 h
	Reservations int           // in all; default 4,096
	PerAddress   int           // reservations from one IP address; an office is one address; default 512
	Circuits     int           // open circuits of one peer, at either end; default 256
}

// WithDefaults puts the default where there is zero.
func (l Limits) WithDefaults() Limits {
	l.Bytes = cmp.Or(l.Bytes, 256<<20)
	l.Duration = cmp.Or(l.Duration, 12*time.Hour)
	l.Reservations = cmp.Or(l.Reservations, 4096)
	l.PerAddress = cmp.Or(l.PerAddress, 512)
	l.Circuits = cmp.Or(l.Circuits, 256)
	return l
}

// Relay is a running relay service.
type Relay struct {
	service *relayv2.Relay
	use     *use
}

// New starts the relay service on h. Close it before h.
//
// Circuits are limited, if generously, rather than unlimited: both ends then
// know that the connection is relayed and look for a better one.
func New(h host.Host, g Gate, l Limits) (*Relay, error) {
	l = l.WithDefaults()
	resources := relayv2.DefaultResources()
	resources.Limit = &relayv2.RelayLimit{Duration: l.Duration, Data: l.Bytes}
	resources.MaxReservations = l.Reservations
	resources.MaxReservationsPerIP = l.PerAddress
	resources.MaxReservationsPerASN = l.Reservations
	resources.MaxCircuits = l.Circuits
	resources.BufferSize = BufferSize

	u := &use{}
	service, err := relayv2.New(oneWay{h, g},
		relayv2.WithResources(resources),
		relayv2.WithACL(acl{g}),
		relayv2.WithMetricsTracer(u),
		relayv2.WithReservationAddressFilter(anyAddress))
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	return &Relay{service: service, use: u}, nil
}

// Close refuses new reservations and circuits. Open circuits end with the host.
func (r *Relay) Close() error { return r.service.Close() }

// Reservations and Circuits tell how many there are now.
func (r *Relay) Reservations() int { return int(r.use.reservations.Load()) }
func (r *Relay) Circuits() int     { return int(r.use.circuits.Load()) }

// anyAddress puts private addresses of the relay into reservations too: a
// group may have nothing but its LAN.
func anyAddress(ma.Multiaddr) bool { return true }

// acl puts a Gate where the library asks for an ACLFilter.
type acl struct{ gate Gate }

func (a acl) AllowReserve(p peer.ID, from ma.Multiaddr) bool {
	return a.isWay(p, from) && a.gate.Member(p)
}

func (a acl) AllowConnect(src peer.ID, from ma.Multiaddr, dst peer.ID) bool {
	return a.isWay(src, from) && a.gate.MayConnect(src, dst)
}

// isWay tells whether the connection of p from an address is the one to use. An
// address with its port is of one connection.
func (a acl) isWay(p peer.ID, from ma.Multiaddr) bool {
	c := a.gate.Conn(p)
	return c != nil && c.RemoteMultiaddr().Equal(from)
}

// oneWay is a host whose streams take the connection that the gate names, where
// libp2p would take the one with the most streams.
type oneWay struct {
	host.Host
	gate Gate
}

func (w oneWay) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	c := w.gate.Conn(p)
	if c == nil {
		return nil, network.ErrNoConn
	}
	return p2p.OpenStream(ctx, c, ids...)
}

// use counts what is in use; the library tells a MetricsTracer.
type use struct{ reservations, circuits atomic.Int64 }

func (u *use) ReservationAllowed(renewal bool) {
	if !renewal {
		u.reservations.Add(1)
	}
}
func (u *use) ReservationClosed(n int)             { u.reservations.Add(int64(-n)) }
func (u *use) ConnectionOpened()                   { u.circuits.Add(1) }
func (u *use) ConnectionClosed(time.Duration)      { u.circuits.Add(-1) }
func (u *use) RelayStatus(bool)                    {}
func (u *use) ConnectionRequestHandled(pb.Status)  {}
func (u *use) ReservationRequestHandled(pb.Status) {}
func (u *use) BytesTransferred(int)                {}
