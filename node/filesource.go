package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/wire"
)

// directWait is how long after a device was reached a file waits for a direct connection
// before it takes the relay.
const directWait = 5 * time.Second

// What a device said that does not give a file any more.
var (
	errChangedThere = errors.New("it has changed since it was sent: ask for it to be sent again")
	errCancelled    = errors.New("its sender has cancelled it")
)

var errNarrowRelay = errors.New("the relay to the device carries too few bytes for files")

// deviceSource is a device that may have a file.
type deviceSource struct {
	n    *Node
	d    device
	file *engine.File

	relayed atomic.Bool // it was asked through the relay: the next circuit, which carries so many bytes, need not wait again
}

func (s *deviceSource) String() string { return "device " + s.d.id.String() }

// Pieces implements transfer.Source.
func (s *deviceSource) Pieces(ctx context.Context, first, count int) (transfer.Answer, error) {
	return s.ask(ctx, &wire.GetPieces{File: s.file.ID[:], Hash: s.file.List[:], First: uint32(first), Count: uint32(count)})
}

// List implements transfer.Source.
func (s *deviceSource) List(ctx context.Context) (transfer.Answer, error) {
	return s.ask(ctx, &wire.GetPieces{File: s.file.ID[:], Hash: s.file.List[:], List: true})
}

// ask makes one request, on the best connection there is by now.
func (s *deviceSource) ask(ctx context.Context, ask *wire.GetPieces) (transfer.Answer, error) {
	if err := s.n.dialer.dial(ctx, s.d); err != nil { // others come first, and then it is tried again
		return transfer.Answer{}, fmt.Errorf("%w: %w: %w", transfer.ErrGone, errNoConnection, err)
	}
	stream, err := s.open(ctx)
	if err != nil {
		return transfer.Answer{}, err
	}
	stop := context.AfterFunc(ctx, func() { stream.Reset() })
	err = askPieces(stream, ask)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if s.d.id == s.file.Device { // of others this says nothing of the file
		switch protocol.CodeOf(err) {
		case protocol.FileCancelled:
			err = fmt.Errorf("%w: %w", errCancelled, err)
		case protocol.FileChanged:
			err = fmt.Errorf("%w: %w", errChangedThere, err)
		}
	}
	if err != nil {
		stream.Reset()
		return transfer.Answer{}, err
	}
	return transfer.Answer{ReadCloser: resetting{stream}, Path: s.n.pathOf(stream.Conn()).String()}, nil
}

// open opens a stream: directly if that can be had soon, else through the relay.
func (s *deviceSource) open(ctx context.Context) (network.Stream, error) {
	if wait := directWait - s.connectedFor(); !s.relayed.Load() && !s.n.dialer.direct(s.d.peer) && wait > 0 {
		// Without leave for a limited connection libp2p waits for another.
		direct, cancel := context.WithTimeout(network.WithNoDial(ctx, "parley"), wait)
		stream, err := s.n.host.NewStream(direct, s.d.peer, protocol.FileProtocol)
		cancel()
		if err == nil {
			return stream, nil
		}
	}
	stream, err := s.n.host.NewStream(onlyConnected(ctx), s.d.peer, protocol.FileProtocol)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	s.relayed.Store(stream.Conn().Stat().Limited)
	if most, ok := stream.Conn().Stat().Extra[client.StatLimitData].(uint64); ok && most > 0 && most < 2*file.SealedPieceSize {
		stream.Reset()
		return nil, errNarrowRelay
	}
	return stream, nil
}

// connectedFor is how long there has been a connection to the device.
func (s *deviceSource) connectedFor() (longest time.Duration) {
	for _, conn := range s.n.host.Network().ConnsToPeer(s.d.peer) {
		longest = max(longest, time.Since(conn.Stat().Opened))
	}
	return longest
}

// askPieces asks, and reads whether the pieces follow.
func askPieces(s network.Stream, ask *wire.GetPieces) error {
	if err := wire.WriteMsg(s, ask); err != nil {
		return fmt.Errorf("ask for pieces: %w", err)
	}
	s.CloseWrite()
	answer := &wire.Pieces{}
	if err := readFrame(s, answer); err != nil {
		return fmt.Errorf("read the answer of a device: %w", err)
	}
	switch code := protocol.Code(answer.GetCode()); code { // the user sees none of the words it comes with
	case protocol.OK:
		return nil
	case protocol.UnknownFile, protocol.FileChanged, protocol.FileCancelled:
		return fmt.Errorf("%w: %w", transfer.ErrGone, protocol.Refuse(code, ""))
	default:
		return protocol.Refuse(code, "")
	}
}

// resetting is a stream that is closed at once, read to its end or not.
type resetting struct{ network.Stream }

func (r resetting) Close() error { return r.Reset() }
