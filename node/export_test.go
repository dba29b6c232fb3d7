package node

import "github.com/parley-chat/parley/protocol"

// HelloFirst takes in that the rendezvous answered a call so.
func (n *Node) HelloFirst() error {
	return n.home.checkGreeted(protocol.Refuse(protocol.HelloFirst, "say hello on this connection first"))
}
