package rendezvous

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
)

const (
	maxBeatFrame  = 8 << 10 // a beat with all its addresses; bytes
	beatsBurst    = 20
	beatsInterval = 500 * time.Millisecond
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

// serveStanding writes first, if it is not nil, and then what next returns, and hands
// each beat to hear, until the peer goes, falls silent, misbehaves, or has been told
// goodbye. Then it calls gone, also while the writer is stuck.
func serveStanding[T any, M interface {
	*T
	proto.Message
}](s *Server, st *standing, first proto.Message, next func() (m proto.Message, last bool), hear func(M) error, gone func()) {
	written := make(chan struct{})
	go func() {
		defer close(written)
		st.write(first, s.cfg.Limits.WriteTimeout, next)
	}()
	readBeats(s, st, hear)
	gone()
	<-written
	io.Copy(io.Discard, st.stream) // after goodbye, until the peer hangs up: see hangUp
}

func readBeats[T any, M interface {
	*T
	proto.Message
}](s *Server, st *standing, hear func(M) error) {
	defer st.end()
	pace := rate.NewLimiter(rate.Every(beatsInterval), beatsBurst)
	for st.awaitBeat(s.cfg.Limits.BeatDeadline) {
		beat := M(new(T))
		_, err := p2p.ReadFrame(st.stream, maxBeatFrame, beat)
		if errors.Is(err, p2p.ErrUnreadable) {
			st.stream.Reset() // ends the writer, should it be stuck
			return
		}
		if err == nil {
			err = take(s.now(), 1, "beats", pace)
		}
		if err == nil {
			err = hear(beat)
		}
		if err != nil {
			st.bye(s.refusal(err))
			return
		}
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
