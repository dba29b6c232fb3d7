package node

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

const (
	drainFetch = 128 // items at a time; the rendezvous bounds their bytes
	drainRetry = 5 * time.Second
	drainSweep = 10 * time.Minute // looks without a hint: one may have been lost
)

// runDrain empties the mailbox whenever there may be something in it.
func (n *Node) runDrain(ctx context.Context) error {
	failures := 0
	timer := time.NewTimer(drainSweep)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.drain:
		case <-timer.C:
		}
		left, err := n.drainMailbox(ctx)
		if err == nil && !left || !n.home.isUp() { // done, or the next welcome wakes us
			failures = 0
			timer.Reset(drainSweep)
			continue
		}
		if err != nil && ctx.Err() == nil {
			n.log.Info("mailbox not emptied", "err", err)
		}
		timer.Reset(drainRetry << min(failures, 6))
		failures++
	}
}

// drainMailbox takes what waits. What is committed is acknowledged, by id, so
// that the rendezvous forgets it. Left tells that some could not be judged now
// (their sender could not be looked up) and stay.
func (n *Node) drainMailbox(ctx context.Context) (left bool, err error) {
	var after uint64
	for {
		resp, err := n.home.call(ctx, &wire.Request{Call: &wire.Request_Fetch{Fetch: &wire.Fetch{After: after, Max: drainFetch}}})
		if err != nil {
			return left, fmt.Errorf("fetch mail: %w", err)
		}
		items := resp.GetMail().GetItems()
		if len(items) == 0 {
			return left, nil
		}
		stay, err := n.takeMail(ctx, items)
		if err != nil {
			return left, err
		}
		left = left || stay
		next := items[len(items)-1].GetCursor()
		if !resp.GetMail().GetMore() || next <= after {
			return left, nil
		}
		after = next
	}
}

func (n *Node) takeMail(ctx context.Context, items []*wire.MailItem) (left bool, err error) {
	envs := make([][]byte, len(items))
	for i, item := range items {
		envs[i] = item.GetEnvelope()
	}
	codes, err := n.receive(ctx, nil, envs, engine.Mailbox)
	if err != nil {
		return false, err
	}
	ack := &wire.Ack{}
	for i, c := range codes {
		if mayComeLater(c) {
			left = true
			continue
		}
		id := protocol.IDOf(envs[i])
		ack.Ids = append(ack.Ids, id[:])
	}
	if len(ack.Ids) == 0 {
		return left, nil
	}
	if _, err := n.home.call(ctx, &wire.Request{Call: &wire.Request_Ack{Ack: ack}}); err != nil {
		return left, fmt.Errorf("acknowledge mail: %w", err)
	}
	return left, nil
}

// mayComeLater tells whether an envelope that got this code might be opened
// another time. Everything else has had its last look.
func mayComeLater(c protocol.Code) bool {
	return c == protocol.Unavailable || c == protocol.RateLimited || c == protocol.Internal
}
