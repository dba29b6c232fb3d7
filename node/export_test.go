package node

import (
	"context"

	"github.com/parley-chat/parley/protocol"
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
