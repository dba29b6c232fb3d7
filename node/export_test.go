package node

import "context"

// RotateWrap replaces the wrap key now. A node does so when it starts, and daily.
func (n *Node) RotateWrap(ctx context.Context) error {
	_, err := n.kv.Rotate(ctx)
	return err
}
