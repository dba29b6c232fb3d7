package node

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/pairing"
	"github.com/parley-chat/parley/protocol/wire"
)

// The rendezvous ends a pairing after five minutes; nobody waits for longer.
const pairTime = 5 * time.Minute

// pairStream carries the frames of adding a device.
type pairStream struct{ *frameStream }

// openPair enters a slot at the rendezvous, or, with "", opens one. What it
// returns must be closed; it ends with ctx.
func (h *home) openPair(ctx context.Context, slot string) (*pairStream, *wire.PairJoined, error) {
	f, err := h.openFrames(ctx, protocol.PairProtocol, ErrPairingEnded)
	if err != nil {
		return nil, nil, err
	}
	p := &pairStream{f}
	if err := wire.WriteMsg(p.s, &wire.PairJoin{Slot: slot}); err != nil {
		p.close()
		return nil, nil, fmt.Errorf("%w: open pairing: %w", ErrOffline, err)
	}
	joined, err := p.joined()
	if err != nil {
		p.close()
		return nil, nil, h.checkGreeted(err)
	}
	p.s.SetDeadline(time.Now().Add(pairTime))
	return p, joined, nil
}

// joined reads what the rendezvous says: the slot, or that the other is there.
func (p *pairStream) joined() (*wire.PairJoined, error) {
	j := &wire.PairJoined{}
	if err := wire.ReadMsg(p.s, j); err != nil {
		return nil, ErrPairingEnded
	}
	if err := refusalIn(j); err != nil {
		return nil, err
	}
	return j, nil
}

// self is what a machine says of itself when a device is added.
func (h *home) self() pairing.Self {
	return pairing.Self{Peer: []byte(h.n.host.ID()), Rendezvous: []byte(h.info.ID)}
}
