package rendezvous

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// standing is a stream that stays open: the peer beats, and is told what is new.
// One goroutine reads beats, another one writes. What is to be written is not
// queued but merged, so a slow reader costs no memory and misses nothing but
// intermediate states.
type standing struct {
	stream network.Stream
	wake   chan struct{} // capacity 1: the writer has something to do

	mu      sync.Mutex      // guards what follows, and what is new
	goodbye *protocol.Error // written last
	ended   bool            // the reader is gone
}

func newStanding(stream network.Stream) standing {
	return standing{stream: stream, wake: make(chan struct{}, 1)}
}

// bye tells the peer why the stream ends, and ends it. The first reason stays.
func (s *standing) bye(e *protocol.Error) {
	s.mu.Lock()
	if s.goodbye == nil {
		s.goodbye = e
	}
	s.mu.Unlock()
	s.rouse()
}

// end tells the writer that the reader is gone.
func (s *standing) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.rouse()
}

func (s *standing) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}

// write sends first, if it is not nil, and then what next returns each time it is
// roused, until that is the last. Each frame gets timeout; a peer that does not
// read is cut off.
func (s *standing) write(first proto.Message, timeout time.Duration, next func() (m proto.Message, last bool)) {
	if first != nil && !s.writeFrame(first, timeout) {
		return
	}
	for range s.wake {
		m, last := next()
		if m != nil && !s.writeFrame(m, timeout) {
			return
		}
		if last {
			hangUp(s.stream)
			return
		}
	}
}

func (s *standing) writeFrame(m proto.Message, timeout time.Duration) bool {
	s.stream.SetWriteDeadline(time.Now().Add(timeout))
	if wire.WriteMsg(s.stream, m) != nil {
		s.stream.Reset() // ends the reader
		return false
	}
	return true
}

// awaitBeat gives the peer until deadline for its next beat. It returns false
// once goodbye is said: from then on the deadline is hangUp's.
func (s *standing) awaitBeat(deadline time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.goodbye != nil {
		return false
	}
	s.stream.SetReadDeadline(time.Now().Add(deadline))
	return true
}
