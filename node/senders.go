package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// Whoever has envelopes brought to us names their sender, and can name one that
// is not. So look-ups that helped nothing are few: the refusal of one is the
// answer for a while, and so many of them may be remembered.
const (
	maxUnknown = 10
	unknownFor = 10 * time.Second
)

// senders remembers which look-ups of senders helped nothing.
type senders struct {
	mu     sync.Mutex
	failed map[protocol.AccountID]unknown // at most maxUnknown, with those under way
}

type unknown struct {
	until   time.Time
	refusal *protocol.Error // of what would need another; nil: the look-up is under way
}

// lookUpSender looks up the sender of an envelope. The error is a *protocol.Error,
// the answer for the envelope. Unless senders.found is called, it helped nothing.
func (n *Node) lookUpSender(ctx context.Context, a protocol.AccountID) error {
	if refusal := n.senders.mayLook(a); refusal != nil {
		return refusal
	}
	err := n.lookups.fetch(ctx, a)
	if err == nil {
		return nil
	}
	refusal := lookupRefusal(err)
	if errors.Is(err, ErrOffline) || ctx.Err() != nil { // nobody was asked
		n.senders.found(a)
		return refusal
	}
	n.senders.refused(a, refusal)
	return refusal
}

func (s *senders) mayLook(a protocol.AccountID) *protocol.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for id, u := range s.failed {
		if now.After(u.until) {
			delete(s.failed, id)
		}
	}
	u, ok := s.failed[a]
	switch {
	case ok:
		return u.refusal
	case len(s.failed) >= maxUnknown:
		return protocol.Refuse(protocol.Unavailable, "too many unknown senders")
	}
	if s.failed == nil {
		s.failed = make(map[protocol.AccountID]unknown, maxUnknown)
	}
	s.failed[a] = unknown{until: now.Add(unknownFor)}
	return nil
}

// found says that the look-up of an account helped: it does not count.
func (s *senders) found(a protocol.AccountID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.failed, a)
}

func (s *senders) refused(a protocol.AccountID, refusal *protocol.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.failed[a]; ok { // else it took longer than it is remembered
		s.failed[a] = unknown{until: time.Now().Add(unknownFor), refusal: refusal}
	}
}
