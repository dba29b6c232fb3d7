package node

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/pairing"
	"github.com/parley-chat/parley/protocol/wire"
)

// The rendezvous ends a pairing after five minutes; nobody waits for longer.
const pairTime = 5 * time.Minute

// pairStream carries the frames of adding a device, through the rendezvous.
type pairStream struct {
	s    network.Stream
	stop func() bool // of what ends the stream with its context
}

// openPair enters a slot at the rendezvous, or, with "", opens one. What it
// returns must be closed; it ends with ctx.
func (h *home) openPair(ctx context.Context, slot string) (*pairStream, *wire.PairJoined, error) {
	dialCtx, cancel := context.WithTimeout(onlyConnected(ctx), callTimeout)
	defer cancel()
	s, err := h.n.host.NewStream(dialCtx, h.info.ID, protocol.PairProtocol)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: open pairing: %w", ErrOffline, err)
	}
	p := &pairStream{s, context.AfterFunc(ctx, func() { s.Reset() })}
	s.SetDeadline(time.Now().Add(callTimeout))
	if err := wire.WriteMsg(s, &wire.PairJoin{Slot: slot}); err != nil {
		p.close()
		return nil, nil, fmt.Errorf("%w: open pairing: %w", ErrOffline, err)
	}
	joined, err := p.joined()
	if err != nil {
		p.close()
		return nil, nil, h.checkGreeted(err)
	}
	s.SetDeadline(time.Now().Add(pairTime))
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

func (p *pairStream) send(frames ...[]byte) error {
	for _, f := range frames {
		if err := wire.WriteMsg(p.s, &wire.PairFrame{Data: f}); err != nil {
			return ErrPairingEnded
		}
	}
	return nil
}

func (p *pairStream) receive() ([]byte, error) {
	f := &wire.PairFrame{}
	if err := wire.ReadMsg(p.s, f); err != nil {
		return nil, ErrPairingEnded
	}
	return f.GetData(), nil
}

// lastWords is how long the other side gets to read what was sent last.
const lastWords = 5 * time.Second

// close ends our side and waits until the other has read what was sent and ended
// its own.
func (p *pairStream) close() {
	if !p.stop() {
		return // it is reset
	}
	p.s.CloseWrite()
	p.s.SetReadDeadline(time.Now().Add(lastWords))
	io.Copy(io.Discard, p.s)
	p.s.Close()
}

// self is what a machine says of itself when a device is added.
func (h *home) self() pairing.Self {
	return pairing.Self{Peer: []byte(h.n.host.ID()), Rendezvous: []byte(h.info.ID)}
}
