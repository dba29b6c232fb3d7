package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"

	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/wire"
)

// directWait is how long a file waits for a direct connection before it takes the relay.
const directWait = 5 * time.Second

var errChangedThere = errors.New("the file has changed since it was sent: ask for it to be sent again")

var errNarrowRelay = errors.New("the relay to the device carries too few bytes for files")

// deviceSource is a device that may have a file.
type deviceSource struct {
	n      *Node
	d      device
	file   protocol.FileID
	waited atomic.Bool // for a direct connection, once
}

func (s *deviceSource) String() string { return "device " + s.d.id.String() }

// Pieces implements transfer.Source.
func (s *deviceSource) Pieces(ctx context.Context, first, count int) (transfer.Answer, error) {
	return s.ask(ctx, &wire.GetPieces{File: s.file[:], First: uint32(first), Count: uint32(count)})
}

// List implements transfer.Source.
func (s *deviceSource) List(ctx context.Context) (transfer.Answer, error) {
	return s.ask(ctx, &wire.GetPieces{File: s.file[:], List: true})
}

// ask makes one request, on the best connection there is by now.
func (s *deviceSource) ask(ctx context.Context, ask *wire.GetPieces) (transfer.Answer, error) {
	if err := s.n.dialer.dial(ctx, s.d); err != nil {
		return transfer.Answer{}, fmt.Errorf("%w: %w", errNoConnection, err)
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
	if err != nil {
		stream.Reset()
		return transfer.Answer{}, err
	}
	return transfer.Answer{ReadCloser: resetting{stream}, Path: s.n.pathOf(stream.Conn()).String()}, nil
}

// open opens a stream: directly if that can be had soon, else through the relay.
func (s *deviceSource) open(ctx context.Context) (network.Stream, error) {
	if !s.n.dialer.direct(s.d.peer) && !s.waited.Load() {
		// Without leave for a limited connection libp2p waits for another.
		direct, cancel := context.WithTimeout(network.WithNoDial(ctx, "parley"), directWait)
		stream, err := s.n.host.NewStream(direct, s.d.peer, protocol.FileProtocol)
		cancel()
		s.waited.Store(true)
		if err == nil {
			return stream, nil
		}
	}
	stream, err := s.n.host.NewStream(onlyConnected(ctx), s.d.peer, protocol.FileProtocol)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	if most, ok := stream.Conn().Stat().Extra[client.StatLimitData].(uint64); ok && most > 0 && most < 2*file.SealedPieceSize {
		stream.Reset()
		return nil, errNarrowRelay
	}
	return stream, nil
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
	case protocol.UnknownFile:
		return fmt.Errorf("%w: %w", transfer.ErrGone, protocol.Refuse(code, ""))
	case protocol.FileChanged:
		return fmt.Errorf("%w: %w", transfer.ErrGone, errChangedThere)
	default:
		return protocol.Refuse(code, "")
	}
}

// resetting is a stream that is closed at once, read to its end or not.
type resetting struct{ network.Stream }

func (r resetting) Close() error { return r.Reset() }
