package transfer

import (
	"context"
	"sync"
	"time"
)

const (
	failuresMost = 6 // one after the other, without a piece between them
	pauseFirst   = 250 * time.Millisecond
)

// supply is a source in one call of Fetch.
type supply struct {
	Source
	ctx  context.Context         // ends when it is of no use any more; the cause says why
	drop context.CancelCauseFunc // ends it

	mu       sync.Mutex
	failures int       // since the last piece
	until    time.Time // it is not asked before
}

func newSupply(ctx context.Context, s Source) *supply {
	ctx, drop := context.WithCancelCause(ctx)
	return &supply{Source: s, ctx: ctx, drop: drop}
}

// worked notes that it gave a piece.
func (s *supply) worked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = 0
}

// failed notes that a request of it failed: it gets a longer pause each time, and in
// the end it is dropped. Requests that were running at the same time count as one.
func (s *supply) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.until) {
		return
	}
	s.failures++
	s.until = now.Add(pauseFirst << s.failures)
	if s.failures == failuresMost {
		s.drop(err)
	}
}

// rest waits while it has a pause.
func (s *supply) rest() {
	s.mu.Lock()
	pause := time.Until(s.until)
	s.mu.Unlock()
	if pause <= 0 {
		return
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}
