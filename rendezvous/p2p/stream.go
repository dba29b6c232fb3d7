package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	libp2pprotocol "github.com/libp2p/go-libp2p/core/protocol"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multistream"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// ErrUnreadable is a stream that did not bring a whole frame.
var ErrUnreadable = errors.New("no whole frame")

// OpenStream opens a stream on this connection, where libp2p would take the one with
// the most streams. When ctx ends before both sides agreed on a protocol, it fails.
func OpenStream(ctx context.Context, c network.Conn, ids ...libp2pprotocol.ID) (network.Stream, error) {
	s, err := c.NewStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	id, err := multistream.SelectOneOf(ids, s)
	if err == nil {
		err = s.SetProtocol(id)
	}
	if err != nil {
		s.Reset()
		return nil, fmt.Errorf("agree on a protocol: %w", err)
	}
	return s, nil
}

// ReadFrame reads one frame of at most limit bytes into m and returns its
// size. A longer one is refused before anything is allocated for it, and while
// a frame is read its bytes are booked with libp2p's resource manager.
func ReadFrame(stream network.Stream, limit int, m proto.Message) (int, error) {
	var head [4]byte
	if _, err := io.ReadFull(stream, head[:]); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > uint32(limit) {
		return 0, protocol.Refuse(protocol.TooLarge, "frame of %d bytes, at most %d", size, limit)
	}
	if err := stream.Scope().ReserveMemory(int(size), network.ReservationPriorityMedium); err != nil {
		e := protocol.Refuse(protocol.Unavailable, "out of memory for calls")
		e.RetryAfter = 5 * time.Second
		return 0, e
	}
	defer stream.Scope().ReleaseMemory(int(size))
	err := wire.ReadMsg(io.MultiReader(bytes.NewReader(head[:]), stream), m)
	if errors.Is(err, wire.ErrMalformed) {
		return 0, protocol.Refuse(protocol.BadRequest, "malformed frame")
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return int(size), nil
}

// Millis rounds up, so that advice to wait is never advice not to.
func Millis(d time.Duration) uint64 {
	return uint64((max(d, 0) + time.Millisecond - 1) / time.Millisecond)
}

// Site is what counts as one address: an IPv4 address or an IPv6 /56, which is
// what one household or office gets.
func Site(c network.Conn) netip.Prefix {
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil {
		return netip.Prefix{} // a relayed connection; all of them together
	}
	return siteOf(ip)
}

func siteOf(ip net.IP) netip.Prefix {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}
	}
	addr = addr.Unmap()
	bits := 32
	if addr.Is6() {
		bits = 56
	}
	p, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
