package node

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// RotateWrap replaces the wrap key now. A node does so when it starts, and daily.
func (n *Node) RotateWrap(ctx context.Context) error {
	_, err := n.kv.Rotate(ctx)
	return err
}

// PublishHead says on the topic how far the log is. A node does so every ten
// minutes.
func (n *Node) PublishHead(ctx context.Context) error { return n.topics.publish(ctx) }

// TopicSize returns how far the log is as the topic says.
func (n *Node) TopicSize() uint64 {
	n.topics.mu.Lock()
	defer n.topics.mu.Unlock()
	return n.topics.newest.Size
}

// HelloFirst takes in that the rendezvous answered a call so.
func (n *Node) HelloFirst() error {
	return n.home.checkGreeted(protocol.Refuse(protocol.HelloFirst, "say hello on this connection first"))
}

// LookUpSender looks up who an envelope says that it is from.
func (n *Node) LookUpSender(ctx context.Context, a protocol.AccountID) error {
	return n.lookUpSender(ctx, a)
}

// LogStatus says how far the directory's log is read.
func (n *Node) LogStatus(ctx context.Context) (s engine.LogStatus, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) (err error) {
		s, err = n.eng.LogStatus(tx)
		return err
	})
	return s, err
}

// AskMember asks a connected device of an account one question about a room.
func (n *Node) AskMember(ctx context.Context, p peer.ID, req *wire.Request) (*wire.RoomPage, error) {
	return n.askRoom(ctx, device{peer: p}, req)
}

// Peer is the node's name on libp2p.
func (n *Node) Peer() peer.ID { return n.host.ID() }
