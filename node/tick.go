package node

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

const (
	tickMax    = time.Minute // the engine works by the wall clock, which may be set
	tickMin    = 5 * time.Millisecond
	staleEvery = 10 * time.Minute
)

// runTick lets the engine do what is due by time: receipts, holes, key
// rotation, expiry. It also has stale contacts looked up again.
func (n *Node) runTick(ctx context.Context) error {
	var stale time.Time
	for {
		if time.Since(stale) > staleEvery {
			stale = time.Now()
			if err := n.refreshStale(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("stale contacts not found", "err", err)
			}
		}
		wait, err := n.tick(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			n.log.Error("tick failed", "err", err)
			wait = tickMax
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-n.ticks:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (n *Node) tick(ctx context.Context) (wait time.Duration, err error) {
	var next time.Time
	err = n.do(ctx, func(tx store.Tx) (h engine.Hint, err error) {
		next, h, err = n.eng.Tick(tx, n.now())
		return h, err
	})
	if err != nil {
		return 0, fmt.Errorf("do what is due: %w", err)
	}
	if next.IsZero() {
		return tickMax, nil
	}
	return max(tickMin, min(next.Sub(n.now()), tickMax)), nil
}

func (n *Node) refreshStale(ctx context.Context) error {
	stale, err := read(ctx, n.kv, func(tx store.Tx) ([]protocol.AccountID, error) { return n.eng.Stale(tx, n.now()) })
	n.lookups.want(stale, false)
	return err
}
