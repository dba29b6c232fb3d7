package node

import (
	"context"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// RotateWrap replaces the wrap key now. A node does so when it starts, and daily.
func (n *Node) RotateWrap(ctx context.Context) error {
	_, err := n.kv.Rotate(ctx)
	return err
}

// HelloFirst takes in that the rendezvous answered a call so.
func (n *Node) HelloFirst() error {
	return n.home.checkGreeted(protocol.Refuse(protocol.HelloFirst, "say hello on this connection first"))
}

// LogStatus says how far the directory's log is read.
func (n *Node) LogStatus(ctx context.Context) (s engine.LogStatus, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) (err error) {
		s, err = n.eng.LogStatus(tx)
		return err
	})
	return s, err
}
