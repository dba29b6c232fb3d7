package node

import (
	"context"
	"errors"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// The last good addresses of each contact's device, so that contacts find each
// other while the rendezvous is away. The value is a wire.Place.
func placeRow(d protocol.DeviceID) []byte { return store.Key(rowPrefix, "place", d[:]) }

const placeAddrs = 8

// lastAddrs returns where the device was reached the last time; nothing when
// that is not known.
func (n *Node) lastAddrs(ctx context.Context, d protocol.DeviceID) []ma.Multiaddr {
	var place wire.Place
	err := n.kv.View(ctx, func(tx store.Tx) error {
		row, err := tx.Get(placeRow(d))
		if err != nil {
			return err
		}
		return proto.Unmarshal(row, &place)
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		n.log.Warn("last addresses not read", "err", err)
	}
	return parseAddrs(place.GetAddrs())
}

// keepAddrs remembers where c led, first, and what else the device says of
// itself, after a direct connection.
func (n *Node) keepAddrs(ctx context.Context, d device, c network.Conn) {
	var addrs []ma.Multiaddr
	if c.Stat().Direction == network.DirOutbound { // else the port is one that nobody listens on
		addrs = append(addrs, c.RemoteMultiaddr())
	}
	addrs = append(addrs, n.host.Peerstore().Addrs(d.peer)...)
	addrs = ma.Unique(ma.FilterAddrs(addrs, n.gate.mayDial, func(a ma.Multiaddr) bool { return !isRelayed(a) }))
	addrs = addrs[:min(len(addrs), placeAddrs)]
	place := &wire.Place{}
	for _, a := range addrs {
		place.Addrs = append(place.Addrs, a.Bytes())
	}
	if len(place.Addrs) == 0 || slices.EqualFunc(n.lastAddrs(ctx, d.id), addrs, ma.Multiaddr.Equal) {
		return
	}
	row, err := proto.Marshal(place)
	if err == nil {
		err = n.kv.Update(ctx, func(tx store.Tx) error { return tx.Set(placeRow(d.id), row) })
	}
	if err != nil && ctx.Err() == nil {
		n.log.Warn("addresses not kept", "err", err)
	}
}
