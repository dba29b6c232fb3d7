package node

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

const (
	callTimeout = 10 * time.Second
	maxCalls    = 16 // at a time; the rendezvous allows one device 32
)

// call asks the rendezvous one question: one stream, one request, one answer.
// A refusal is a *protocol.Error; when the rendezvous cannot be reached the
// error wraps ErrOffline. Whether a call that failed was carried out is not
// known, so all calls may be repeated.
func (h *home) call(ctx context.Context, req *wire.Request) (*wire.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if !h.isUp() {
		return nil, ErrOffline
	}
	select {
	case h.calls <- struct{}{}:
		defer func() { <-h.calls }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: too many calls wait", ErrOffline)
	}
	return h.ask(ctx, req)
}

// ask is call for who has no link: a stranger, or a device that is not let in.
func (h *home) ask(ctx context.Context, req *wire.Request) (*wire.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := h.exchange(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOffline, err)
	}
	return resp, h.checkGreeted(refusalIn(resp))
}

// checkGreeted ends the connection if err says that there was no hello on it:
// what was asked for can be asked for again after the next welcome.
func (h *home) checkGreeted(err error) error {
	if protocol.CodeOf(err) != protocol.HelloFirst {
		return err
	}
	h.refused.push()
	return fmt.Errorf("%w: %w", ErrOffline, errNotGreeted)
}

// answersTime is how long the rendezvous lets a connection stand after its goodbye.
const answersTime = time.Second

// awaitAnswers waits until the calls that are running have their answers, when the
// connection is about to end: one of them may be why.
func (h *home) awaitAnswers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, answersTime)
	defer cancel()
	for range cap(h.calls) {
		select {
		case h.calls <- struct{}{}:
			defer func() { <-h.calls }()
		case <-ctx.Done():
			return
		}
	}
}

// exchange makes one stream of a call.
func (h *home) exchange(ctx context.Context, req *wire.Request) (*wire.Response, error) {
	s, err := h.n.host.NewStream(onlyConnected(ctx), h.info.ID, protocol.CallProtocol)
	if err != nil {
		return nil, fmt.Errorf("open call: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if err := wire.WriteMsg(s, req); err != nil {
		s.Reset()
		return nil, err
	}
	resp := &wire.Response{}
	if err := wire.ReadMsg(s, resp); err != nil {
		s.Reset()
		return nil, err
	}
	return resp, nil
}

// verdict is an answer that may be a refusal.
type verdict interface {
	GetCode() uint32
	GetDetail() string
	GetRetryAfterMs() uint64
}

func refusalIn(v verdict) error {
	if v.GetCode() == 0 {
		return nil
	}
	return &protocol.Error{Code: protocol.Code(v.GetCode()), Detail: v.GetDetail(), RetryAfter: retryAfter(v.GetRetryAfterMs())}
}

func updateChain(chain []byte) *wire.Request {
	return &wire.Request{Call: &wire.Request_UpdateChain{UpdateChain: &wire.UpdateChain{Chain: chain}}}
}
