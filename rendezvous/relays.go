package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Bounds on the streams of relays that the operator has not approved: anybody
// can open them.
const (
	maxAsking     = 32
	maxAskingSite = 4
	askingRetry   = 5 * time.Minute
)

// relays knows the relays that follow this rendezvous now. Which of them are
// approved is in the store.
type relays struct {
	// approving is held from reading or changing who is approved until it is
	// applied here.
	approving sync.Mutex

	mu        sync.Mutex
	following map[peer.ID]*relayLink
}

func newRelays() *relays { return &relays{following: map[peer.ID]*relayLink{}} }

// join puts a stream of a relay online and returns the older one that it
// replaces. approved looks into the store.
func (r *relays) join(f *relayLink, approved func() (bool, error)) (old *relayLink, err error) {
	r.approving.Lock()
	defer r.approving.Unlock()
	yes, err := approved()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !yes && !r.mayAskLocked(f) {
		e := protocol.Refuse(protocol.Unavailable, "too many relays that are not approved")
		e.RetryAfter = askingRetry
		return nil, e
	}
	f.tellApproved(yes)
	old = r.following[f.peer]
	r.following[f.peer] = f
	return old, nil
}

// mayAskLocked tells whether there is room for another relay that is not
// approved.
func (r *relays) mayAskLocked(f *relayLink) bool {
	all, site := 0, 0
	for id, other := range r.following {
		if id == f.peer || other.isApproved() {
			continue
		}
		all++
		if other.site == f.site {
			site++
		}
	}
	return all < maxAsking && site < maxAskingSite
}

// leave takes a stream offline. It tells whether it was still the one of its
// relay.
func (r *relays) leave(f *relayLink) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.following[f.peer] != f {
		return false
	}
	delete(r.following, f.peer)
	return true
}

// approve changes in the store whether a relay is approved, and tells it. It
// returns whether the relay follows now.
func (r *relays) approve(id peer.ID, yes bool, change func() error) (follows bool, err error) {
	r.approving.Lock()
	defer r.approving.Unlock()
	if err := change(); err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.following[id]
	if f != nil {
		f.tellApproved(yes)
	}
	return f != nil, nil
}

func (r *relays) all() []*relayLink {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.following))
}

// list returns the relays that members may use now, sorted by peer id.
func (r *relays) list() (list []*wire.Relay) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(r.following)) {
		if f := r.following[id]; f.isApproved() {
			list = append(list, f.relay())
		}
	}
	return list
}

// count tells how many relays members may use now, and how many ask to be
// approved.
func (r *relays) count() (used, asking int) {
	for _, f := range r.all() {
		if f.isApproved() {
			used++
		} else {
			asking++
		}
	}
	return used, asking
}

// only leaves those of these peer ids that members may use now.
func (r *relays) only(ids [][]byte) (left [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if f := r.following[peer.ID(id)]; f != nil && f.isApproved() {
			left = append(left, id)
		}
	}
	return left
}

// tellRelays tells all links that the list of relays is another one.
func (s *Server) tellRelays() {
	for _, l := range s.presence.links() {
		l.tellRelays()
	}
}

// isApproved looks up whether the operator has approved a relay.
func (s *Server) isApproved(ctx context.Context, id peer.ID) (bool, error) {
	all, err := s.store.Relays(ctx)
	if err != nil {
		return false, fmt.Errorf("read relays: %w", err)
	}
	return slices.ContainsFunc(all, func(r store.Relay) bool { return peer.ID(r.Peer) == id }), nil
}

// AddRelay approves a relay that runs alone, whether it follows already or not.
// Members may use it at once. Repeating it changes nothing.
func (s *Server) AddRelay(ctx context.Context, id peer.ID) error {
	return s.approveRelay(id, true, func() error { return s.store.AddRelay(ctx, store.Relay{Peer: []byte(id), Added: s.now()}) })
}

// RemoveRelay takes the approval back: the relay is told so, ceases to serve, and
// members hear of it no more. ErrNotFound if there is none.
func (s *Server) RemoveRelay(ctx context.Context, id peer.ID) error {
	err := s.approveRelay(id, false, func() error { return s.store.RemoveRelay(ctx, []byte(id), s.now()) })
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("relay %s: %w", id, ErrNotFound)
	}
	return err
}

func (s *Server) approveRelay(id peer.ID, yes bool, change func() error) error {
	follows, err := s.relays.approve(id, yes, change)
	if err != nil {
		return fmt.Errorf("change approval of relay: %w", err)
	}
	s.log.Info("relay", "peer", id.String(), "approved", yes)
	if follows {
		s.tellRelays()
	}
	return nil
}
