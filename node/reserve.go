package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol/wire"
)

const (
	reserveTimeout = 5 * time.Second
	reserveMin     = time.Minute
	reserveMax     = 20 * time.Minute // a third of libp2p's hour
	reserveRetry   = time.Minute      // at most, after a refusal
)

// keepReservation holds a place at the rendezvous's relay, so that contacts
// who cannot reach us directly get through. Without it the link still works.
// libp2p's AutoRelay would take 16 s and more to come back, and an hour after
// a refusal.
func (h *home) keepReservation(ctx context.Context, limits *wire.Limits) error {
	if limits.GetRelayBytes() == 0 {
		h.setRelay(errors.New("this rendezvous offers no relay"))
		return nil
	}
	for failures := 0; ; failures++ {
		wait, err := h.n.reserve(ctx, h.info.ID)
		if ctx.Err() != nil {
			return nil
		}
		h.setRelay(err)
		if err != nil {
			wait = min(pause(err, failures), reserveRetry)
			h.n.log.Warn("no relay reservation", "err", err, "retry_in", wait)
		} else {
			failures = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// reserve asks a relay once, over the connection there is, and tells when to ask
// again.
func (n *Node) reserve(ctx context.Context, relay peer.ID) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "reserve"), reserveTimeout)
	defer cancel()
	r, err := client.Reserve(ctx, n.host, peer.AddrInfo{ID: relay})
	if err == nil {
		left := time.Until(r.Expiration) + n.home.skew()
		return max(reserveMin, min(left/2, reserveMax)), nil
	}
	if grantedAnyway(err, n.home.skew()) {
		n.log.Warn("relay reservation kept although it looks expired: this clock is ahead", "by", n.home.skew())
		return reserveMax, nil
	}
	if e, ok := errors.AsType[client.ReservationError](err); ok && e.Status == pb.Status_PERMISSION_DENIED {
		return 0, errors.New("the relay does not take this device")
	}
	return 0, fmt.Errorf("reserve a place at the relay: %w", err)
}

// grantedAnyway tells a reservation that holds although libp2p threw it away:
// it compares the expiry, by the relay's clock, with a clock of ours that is
// far ahead.
func grantedAnyway(err error, skew time.Duration) bool {
	e, ok := errors.AsType[client.ReservationError](err)
	return ok && e.Status == pb.Status_MALFORMED_MESSAGE && skew > maxSkew
}

func (h *home) setRelay(problem error) {
	now := h.n.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.up {
		return
	}
	since := h.relay.Since
	h.relay = api.Link{Up: problem == nil, PeerID: h.info.ID.String(), Path: h.state.Path}
	switch {
	case problem != nil:
		h.relay.Problem = problem.Error()
	case since != nil:
		h.relay.Since = since
	default:
		h.relay.Since = &now
	}
}
