package node

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	libp2p "github.com/libp2p/go-libp2p/core/protocol"

	"github.com/parley-chat/parley/protocol/wire"
)

// frameStream carries frames between two machines, through the rendezvous, which
// passes them on unread.
type frameStream struct {
	s    network.Stream
	stop func() bool // of what ends the stream with its context
	gone error       // what it is called that the other end went away
}

// openFrames opens a stream to the rendezvous over the connection there is. It must
// be closed, and ends with ctx. Its first words have callTimeout.
func (h *home) openFrames(ctx context.Context, pid libp2p.ID, gone error) (*frameStream, error) {
	dialCtx, cancel := context.WithTimeout(onlyConnected(ctx), callTimeout)
	defer cancel()
	s, err := h.n.host.NewStream(dialCtx, h.info.ID, pid)
	if err != nil {
		return nil, fmt.Errorf("%w: open stream: %w", ErrOffline, err)
	}
	s.SetDeadline(time.Now().Add(callTimeout))
	return &frameStream{s, context.AfterFunc(ctx, func() { s.Reset() }), gone}, nil
}

func (f *frameStream) send(frames ...[]byte) error {
	for _, data := range frames {
		if err := wire.WriteMsg(f.s, &wire.PairFrame{Data: data}); err != nil {
			return f.gone
		}
	}
	return nil
}

func (f *frameStream) receive() ([]byte, error) {
	frame := &wire.PairFrame{}
	if err := readFrame(f.s, frame); err != nil {
		return nil, f.gone
	}
	return frame.GetData(), nil
}

// ask sends a frame and waits for the answer.
func (f *frameStream) ask(frame []byte) (answer []byte, err error) {
	if err := f.send(frame); err != nil {
		return nil, err
	}
	return f.receive()
}

// lastWords is how long the other side gets to read what was sent last.
const lastWords = 5 * time.Second

// close ends our side and waits until the other has read what was sent and ended
// its own.
func (f *frameStream) close() {
	if !f.stop() {
		return // it is reset
	}
	f.s.CloseWrite()
	f.s.SetReadDeadline(time.Now().Add(lastWords))
	io.Copy(io.Discard, f.s)
	f.s.Close()
}
