package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	libp2pprotocol "github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/rendezvous/token"
)

const (
	followEvery = 10 * time.Second // between beats
	followDead  = 27 * time.Second // without a word from the rendezvous
	callTimeout = 10 * time.Second // to reach it, to write one frame, and for a call
	maxFollowed = token.MaxEvent + 1<<10
	maxKeys     = token.MaxSet + token.MaxEvent + 1<<10

	keysExpire = time.Hour // after the keys were last read, nobody is admitted by them

	minPause      = time.Second
	maxPause      = 5 * time.Second // the key set is read that often anyway
	replacedPause = time.Minute     // another relay has the same key: this fight cannot be won
)

// follow keeps a stream to the rendezvous until ctx ends.
func (s *Server) follow(ctx context.Context) {
	var pause time.Duration
	for first := true; ctx.Err() == nil; first = false {
		answered, err := s.followOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if s.follows.Swap(false) || first {
			s.log.Warn("the rendezvous cannot be followed; what it said last holds", "err", err)
		}
		if pause = min(2*pause, maxPause); answered || pause == 0 {
			pause = minPause
		}
		wait := pause*3/4 + rand.N(pause/2)
		refusal, refused := errors.AsType[*protocol.Error](err)
		switch {
		case !refused: // perhaps the connection is dead and nobody has noticed
			s.host.Network().ClosePeer(s.cfg.Follow.ID)
		case refusal.Code == protocol.Replaced:
			wait = replacedPause
		default:
			wait = max(wait, refusal.RetryAfter)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// followOnce opens one stream and keeps it. It tells whether the rendezvous
// took it, and why it ended.
func (s *Server) followOnce(ctx context.Context) (answered bool, err error) {
	stream, err := s.reach(ctx, protocol.FollowProtocol)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, func() { stream.Reset() })()
	var writer sync.WaitGroup
	writer.Go(func() { s.beat(ctx, stream) })
	defer writer.Wait()
	defer stream.Reset()
	defer cancel()
	for {
		stream.SetReadDeadline(time.Now().Add(followDead))
		m := &wire.Followed{}
		if _, err := p2p.ReadFrame(stream, maxFollowed, m); err != nil {
			return answered, fmt.Errorf("hear from the rendezvous: %w", err)
		}
		if err := refusalOf(m.GetCode(), m.GetDetail(), m.GetRetryAfterMs()); err != nil {
			return answered, err
		}
		s.hear(m, !answered)
		answered = true
	}
}

// reach opens a stream to the rendezvous.
func (s *Server) reach(ctx context.Context, id libp2pprotocol.ID) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if n, ok := s.host.Network().(*swarm.Swarm); ok {
		n.Backoff().Clear(s.cfg.Follow.ID)
	}
	if err := s.host.Connect(ctx, s.cfg.Follow); err != nil {
		return nil, fmt.Errorf("reach the rendezvous: %w", err)
	}
	stream, err := s.host.NewStream(ctx, s.cfg.Follow.ID, id)
	if err != nil {
		return nil, fmt.Errorf("open stream to the rendezvous: %w", err)
	}
	return stream, nil
}

// beat writes announcements and beats until ctx or the stream ends.
func (s *Server) beat(ctx context.Context, stream network.Stream) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	var told *wire.Announcement
	for seq := uint64(1); ; seq++ {
		f := &wire.Follow{Seq: seq}
		if now := s.announcement(); !proto.Equal(now, told) {
			f.Announcement, told = now, now
		}
		stream.SetWriteDeadline(time.Now().Add(callTimeout))
		if wire.WriteMsg(stream, f) != nil {
			stream.Reset() // ends the reader
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// announcement is what members may know of the relay.
func (s *Server) announcement() *wire.Announcement {
	l := s.cfg.Limits
	a := &wire.Announcement{Limits: &wire.RelayLimits{
		Reservations: uint32(l.Reservations), Bytes: uint64(l.Bytes), Ms: uint64(l.Duration.Milliseconds()),
	}}
	for _, m := range p2p.Far(s.Addrs()) {
		if b := m.Bytes(); len(b) <= protocol.MaxAddr && len(a.Addrs) < protocol.MaxAddrs && !p2p.IsCircuit(m) {
			a.Addrs = append(a.Addrs, b)
		}
	}
	return a
}

// hear takes in what the rendezvous says; first on this stream, or later.
func (s *Server) hear(m *wire.Followed, first bool) {
	s.follows.Store(true)
	if len(m.GetKeyEvent()) > 0 {
		if err := s.keys.Push(m.GetKeyEvent()); err != nil {
			s.alarm(err)
		}
	}
	was := s.approved.Load()
	s.approve(m.GetApproved())
	switch {
	case m.GetApproved() && (first || !was):
		s.log.Info("the rendezvous has approved this relay: it serves")
	case !m.GetApproved() && (first || was):
		s.log.Warn("not approved: this relay serves nobody until the operator of the rendezvous types the command",
			"command", "parley host relays add "+s.PeerID().String())
	}
}

// approve serves members, or ceases to. While approved is true, the verifier
// trusts.
func (s *Server) approve(yes bool) {
	if yes {
		s.verifier.Trust(s.keys)
	}
	s.approved.Store(yes)
	if !yes {
		s.verifier.Distrust(s.issuer)
	}
}

// alarm says what a person must look at.
func (s *Server) alarm(err error) {
	read := s.keys.State().Read
	if read.IsZero() {
		s.log.Error("ALARM: the rendezvous's keys cannot be read; this relay admits nobody until they are", "err", err)
		return
	}
	s.log.Error("ALARM: the rendezvous's keys are not to be read as they should be; unless they are, this relay ceases to admit",
		"err", err, "at", read.Add(keysExpire))
}

// fetchKeys reads the rendezvous's key set: a token.Fetch.
func (s *Server) fetchKeys(ctx context.Context, etag string) ([]byte, error) {
	stream, err := s.reach(ctx, protocol.CallProtocol)
	if err != nil {
		return nil, err
	}
	defer stream.Reset()
	defer context.AfterFunc(ctx, func() { stream.Reset() })()
	stream.SetDeadline(time.Now().Add(callTimeout))
	err = wire.WriteMsg(stream, &wire.Request{Call: &wire.Request_GetKeySet{GetKeySet: &wire.GetKeySet{Etag: etag}}})
	if err != nil {
		return nil, err
	}
	resp := &wire.Response{}
	if _, err := p2p.ReadFrame(stream, maxKeys, resp); err != nil {
		return nil, err
	}
	if err := refusalOf(resp.GetCode(), resp.GetDetail(), resp.GetRetryAfterMs()); err != nil {
		return nil, err
	}
	doc := resp.GetKeySet().GetDocument()
	if len(doc) == 0 {
		return nil, nil // unchanged
	}
	return doc, nil
}

// refusalOf reads a refusal from an answer; nil for OK.
func refusalOf(code uint32, detail string, retryAfterMs uint64) error {
	if code == 0 {
		return nil
	}
	const longest = time.Hour
	wait := time.Duration(min(retryAfterMs, uint64(longest.Milliseconds()))) * time.Millisecond
	return &protocol.Error{Code: protocol.Code(code), Detail: detail, RetryAfter: wait}
}
