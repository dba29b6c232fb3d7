package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// Whoever has envelopes brought to us names their sender, and can name one that
// is not. So look-ups that helped nothing are few: the refusal of one is the
// answer for a while, and so many of them may be remembered. Of contacts there are
// as many as there are: made-up accounts must not keep a contact's new device out.
const (
	maxUnknown = 10 // accounts that are no contacts
	unknownFor = 10 * time.Second
)

// senders remembers which look-ups of senders helped nothing.
type senders struct {
	mu     sync.Mutex
	failed map[protocol.AccountID]unknown // those of contacts and at most maxUnknown others, with those under way
}

type unknown struct {
	until   time.Time
	refusal *protocol.Error // of what would need another; nil: the look-up is under way
	contact bool
}

// lookUpSender looks up the sender of an envelope. The error is a *protocol.Error,
// the answer for the envelope, or one of the store. Unless senders.found is called, it helped nothing.
func (n *Node) lookUpSender(ctx context.Context, a protocol.AccountID) error {
	contact, err := n.isContact(ctx, a)
	if err != nil {
		return err
	}
	if refusal := n.senders.mayLook(a, contact); refusal != nil {
		return refusal
	}
	err = n.lookups.fetch(ctx, a)
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

// isContact tells whether an account is ours, a contact, or was asked to be one.
func (n *Node) isContact(ctx context.Context, a protocol.AccountID) (is bool, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		c, err := n.eng.Contact(tx, a)
		if errors.Is(err, engine.ErrNotFound) {
			return nil
		}
		switch c.Relation {
		case engine.Requested, engine.Accepted, engine.Self:
			is = true
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read what the sender is to us: %w", err)
	}
	return is, nil
}

// mayLook notes that a look-up begins, unless it is refused.
func (s *senders) mayLook(a protocol.AccountID, contact bool) *protocol.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, others := time.Now(), 0
	for id, u := range s.failed {
		switch {
		case now.After(u.until):
			delete(s.failed, id)
		case !u.contact:
			others++
		}
	}
	u, ok := s.failed[a]
	switch {
	case ok:
		return u.refusal
	case !contact && others >= maxUnknown:
		return protocol.Refuse(protocol.Unavailable, "too many unknown senders")
	}
	if s.failed == nil {
		s.failed = make(map[protocol.AccountID]unknown, maxUnknown)
	}
	s.failed[a] = unknown{until: now.Add(unknownFor), contact: contact}
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
	if u, ok := s.failed[a]; ok { // else it took longer than it is remembered
		u.until, u.refusal = time.Now().Add(unknownFor), refusal
		s.failed[a] = u
	}
}
