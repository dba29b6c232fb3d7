package node

import (
	"context"
	"iter"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/store"
)

const eventPage = 100

// Events yields what happened after the event number after, oldest first, and
// then waits for more until ctx ends or the node is closed. A face that comes
// back goes on after the last number it saw; nothing is lost while it is away,
// save the oldest of very many.
func (n *Node) Events(ctx context.Context, after uint64) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		for {
			more := n.events.next()
			page, err := n.eventPage(ctx, after)
			if err != nil {
				if ctx.Err() == nil && n.ctx.Err() == nil {
					yield(api.Event{}, answer(err))
				}
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
				after = e.Seq
			}
			if len(page) > 0 {
				continue
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			case <-n.ctx.Done():
				return
			}
		}
	}
}

func (n *Node) eventPage(ctx context.Context, after uint64) (page []api.Event, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		var list []engine.Event
		list, err := n.eng.Events(tx, after, eventPage)
		names := n.names(tx)
		for _, e := range list {
			page = append(page, names.event(e))
		}
		return err
	})
	return page, err
}

// LastEvent returns the number of the newest event.
func (n *Node) LastEvent(ctx context.Context) (uint64, error) {
	last, err := read(ctx, n.kv, n.eng.LastEvent)
	return last, answer(err)
}
