package node

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
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

// Blobs is how a node uses the rendezvous for files, without what decides when.
type Blobs struct{ h *home }

// Blobs returns the node's blobs at the rendezvous.
func (n *Node) Blobs() Blobs { return Blobs{n.home} }

// Put brings a file for accounts, or, without any, for a room.
func (b Blobs) Put(ctx context.Context, accounts []protocol.AccountID, room protocol.RoomID, d *file.Descriptor, l file.List, p transfer.Pieces, progress func(done int64)) error {
	_, err := b.h.putBlob(ctx, blobAudience{accounts, room}, d, l, p, progress)
	return err
}

// Source is a file that an account put.
func (b Blobs) Source(by protocol.AccountID, d *file.Descriptor) transfer.Source {
	return &storedFile{b.h, by, d}
}

// Stat tells how much of a blob is there.
func (b Blobs) Stat(ctx context.Context, by protocol.AccountID, id protocol.FileID) (have, size int64, err error) {
	s, state, err := b.h.openBlob(ctx, &wire.Request{Call: &wire.Request_GetBlob{GetBlob: &wire.GetBlob{By: by[:], Id: id[:]}}})
	if err != nil {
		return 0, 0, err
	}
	return int64(state.GetHave()), int64(state.GetSize()), s.Reset()
}

// Taken says that this account needs a blob no more.
func (b Blobs) Taken(ctx context.Context, by protocol.AccountID, id protocol.FileID) error {
	return b.h.takenBlob(ctx, by, id)
}

// Drop takes an own blob away.
func (b Blobs) Drop(ctx context.Context, id protocol.FileID) error { return b.h.dropBlob(ctx, id) }

// Takes tells whether a file is small enough.
func (b Blobs) Takes(d *file.Descriptor) bool { return b.h.takesBlob(d) }

// File returns what a message says of its file.
func (n *Node) File(ctx context.Context, message string) (d *file.Descriptor, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		found, err := n.findMessage(tx, message)
		if err != nil {
			return err
		}
		m, err := n.eng.Message(tx, found)
		if err == nil {
			d = &m.File.Descriptor
		}
		return err
	})
	return d, err
}

// SendDescribed sends the file at path as if it were one that somebody else described.
func (n *Node) SendDescribed(ctx context.Context, to string, d *file.Descriptor, path string) (message string, err error) {
	id := protocol.NewMsgID()
	draft := &engine.FileDraft{Descriptor: *d, Path: path}
	_, _, err = n.sendPrepared(ctx, id, api.SendFileRequest{To: to}, draft, d.Inline)
	return id.String(), err
}

// AskPieces asks a device for the first piece of a file.
func (n *Node) AskPieces(ctx context.Context, p peer.ID, d *file.Descriptor) error {
	return n.AskPiecesOf(ctx, p, &wire.GetPieces{File: d.ID[:], Hash: d.List[:], Count: 1})
}

// AskPiecesOf asks a device for pieces.
func (n *Node) AskPiecesOf(ctx context.Context, p peer.ID, ask *wire.GetPieces) error {
	if d, ok := n.gate.deviceOf(p); ok { // a connection that was slow to answer was closed
		if err := n.dialer.dial(ctx, d); err != nil {
			return err
		}
	}
	s, err := n.host.NewStream(onlyConnected(ctx), p, protocol.FileProtocol)
	if err != nil {
		return err
	}
	defer s.Reset()
	return askPieces(s, ask)
}

// RetryFiles has files fetched that wait for something to change.
func (n *Node) RetryFiles() { n.files.retry() }

// GiveGarbage gives everybody who asks for pieces something else.
func (n *Node) GiveGarbage() {
	n.host.SetStreamHandler(protocol.FileProtocol, func(s network.Stream) {
		defer s.Close()
		if err := errors.Join(readFrame(s, &wire.GetPieces{}), wire.WriteMsg(s, &wire.Pieces{})); err == nil {
			s.Write(make([]byte, file.SealedPieceSize))
		}
	})
}
