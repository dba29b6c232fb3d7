package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/store"
)

// The node's own rows, beside the engine's. They are sealed like all others.
const rowPrefix = 'N'

var portRow = store.Key(rowPrefix, "port") // 2 bytes, big-endian

// Our ports come from below the range that systems take for outgoing
// connections, so that the port is still free at the next start.
const (
	portFirst = 10_000
	portLast  = 32_000
	portTries = 50
)

// startListening begins to accept connections. Unless told otherwise it takes
// the same port every time, and the same for TCP and QUIC: routers then keep
// it, and contacts find us where they last did. Each node has its own, because
// of two nodes behind one router only one keeps a common one.
func (n *Node) startListening(ctx context.Context) error {
	addrs := n.listen
	if addrs == nil {
		port, err := n.port(ctx)
		if err != nil {
			return err
		}
		for _, format := range []string{"/ip4/0.0.0.0/tcp/%d", "/ip4/0.0.0.0/udp/%d/quic-v1", "/ip6/::/tcp/%d", "/ip6/::/udp/%d/quic-v1"} {
			addrs = append(addrs, ma.StringCast(fmt.Sprintf(format, port)))
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	if err := n.host.Network().Listen(addrs...); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// port returns the port of the last start, or a new one if that is taken.
func (n *Node) port(ctx context.Context) (int, error) {
	var row []byte
	err := n.kv.View(ctx, func(tx store.Tx) (err error) {
		row, err = tx.Get(portRow)
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read port: %w", err)
	}
	if len(row) == 2 && portFree(int(binary.BigEndian.Uint16(row))) {
		return int(binary.BigEndian.Uint16(row)), nil
	}
	for range portTries {
		port := portFirst + rand.IntN(portLast-portFirst)
		if !portFree(port) {
			continue
		}
		err := n.kv.Update(ctx, func(tx store.Tx) error {
			return tx.Set(portRow, binary.BigEndian.AppendUint16(nil, uint16(port)))
		})
		if err != nil {
			return 0, fmt.Errorf("keep port: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d", portFirst, portLast)
}

func portFree(port int) bool {
	where := fmt.Sprintf(":%d", port)
	l, err := net.Listen("tcp", where)
	if err != nil {
		return false
	}
	l.Close()
	p, err := net.ListenPacket("udp", where)
	if err != nil {
		return false
	}
	p.Close()
	return true
}

// ownAddrs returns where the host listens, as configured and per network.
func (n *Node) ownAddrs() (listen, interfaces []ma.Multiaddr) {
	interfaces, err := n.host.Network().InterfaceListenAddresses()
	if err != nil {
		interfaces = nil
	}
	return n.host.Network().ListenAddresses(), interfaces
}
