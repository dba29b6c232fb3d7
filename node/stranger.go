package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
)

// stranger is a connection to a rendezvous as somebody who is no member there
// yet: to register, to be linked or restored, or to come back as a new device.
// It listens nowhere and lets nobody in.
type stranger struct{ h *home }

// meet connects as the owner of a host key. Errors wrap ErrOffline when the
// rendezvous cannot be reached. Close it when done.
func meet(ctx context.Context, log *slog.Logger, self key.HostPrivate, at engine.Home) (*stranger, error) {
	info, err := homeInfo(at)
	if err != nil {
		return nil, err
	}
	n := &Node{log: log, now: time.Now, interfaces: &interfaces{}, punches: &punches{}}
	n.gate = newGate(info, n.interfaces)
	n.host, err = newHost(hostParams{
		seed: self.Bytes(), agent: "parley", gate: n.gate, home: info, punches: n.punches,
		announce:  func([]ma.Multiaddr) []ma.Multiaddr { return nil },
		punchWith: punchAddrs{gate: n.gate, own: n.ownAddrs},
	})
	if err != nil {
		return nil, err
	}
	h := newHome(n, info)
	if err := h.connect(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrOffline, err), n.host.Close())
	}
	return &stranger{h}, nil
}

// call asks one question; a refusal is a *protocol.Error.
func (s *stranger) call(ctx context.Context, req *wire.Request) (*wire.Response, error) {
	return s.h.ask(ctx, req)
}

func (s *stranger) close() error { return s.h.n.host.Close() }

// publishChain uploads a chain as the device with that host key, which the
// chain certifies.
func publishChain(ctx context.Context, log *slog.Logger, host key.HostPrivate, to engine.Home, chain []byte) (err error) {
	s, err := meet(ctx, log, host, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	_, err = s.call(ctx, updateChain(chain))
	return err
}
