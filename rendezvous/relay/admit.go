package relay

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/rendezvous/token"
)

const (
	maxPresent = 2 * token.MaxToken
	passTag    = "pass" // protects the connection from being trimmed

	approveRetry = 5 * time.Second // advice while this relay is not approved: its members may know before it does
	keysRetry    = 5 * time.Second // advice while there is no key set to trust
)

// handleToken is one stream: one token, one answer.
func (s *Server) handleToken(stream network.Stream) {
	defer stream.Close()
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	stream.SetDeadline(time.Now().Add(callTimeout))
	lasts, err := s.admit(ctx, stream)
	if errors.Is(err, p2p.ErrUnreadable) {
		stream.Reset()
		return
	}
	answer := &wire.Admission{LastsMs: uint64(lasts.Milliseconds())}
	if err != nil {
		e := refusalFor(err)
		answer = &wire.Admission{Code: uint32(e.Code), Detail: e.Detail, RetryAfterMs: p2p.Millis(e.RetryAfter)}
	}
	if wire.WriteMsg(stream, answer) != nil {
		stream.Reset()
	}
}

// admit reads a token and gives the connection a pass if it is good for that.
func (s *Server) admit(ctx context.Context, stream network.Stream) (lasts time.Duration, err error) {
	c := stream.Conn()
	if !s.door.mayPresent(c) {
		e := protocol.Refuse(protocol.RateLimited, "too many tokens on this connection")
		e.RetryAfter = presentEvery
		return 0, e
	}
	shown := &wire.Present{}
	if _, err := p2p.ReadFrame(stream, maxPresent, shown); err != nil {
		return 0, err
	}
	pass, err := s.verifier.Verify(ctx, shown.GetToken())
	switch {
	case !s.approved.Load(): // then nobody is trusted either
		e := protocol.Refuse(protocol.Unavailable, "this relay is not approved by its rendezvous")
		e.RetryAfter = approveRetry
		return 0, e
	case err != nil:
		return 0, err
	case pass.Peer != c.RemotePeer().String():
		return 0, protocol.Refuse(protocol.TokenInvalid, "the token is of another device")
	case pass.Scope != token.ScopeMember:
		return 0, protocol.Refuse(protocol.TokenInvalid, "the token is not for members")
	}
	lasts, ok := s.door.admit(c, pass)
	if !ok {
		return 0, p2p.ErrUnreadable // the connection has ended
	}
	s.host.ConnManager().Protect(c.RemotePeer(), passTag)
	return lasts, nil
}

// refusalFor is the one place where an error about a token becomes a code.
func refusalFor(err error) *protocol.Error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, token.ErrNoSet), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e := protocol.Refuse(protocol.Unavailable, "this relay has no key set of its rendezvous to trust")
		e.RetryAfter = keysRetry
		return e
	case errors.Is(err, token.ErrExpired):
		return protocol.Refuse(protocol.TokenExpired, "%v", err)
	}
	return protocol.Refuse(protocol.TokenInvalid, "%v", err)
}
