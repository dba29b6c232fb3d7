package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	maxRoomWorkers = 8                // rooms served at a time; others wait their turn. Fewer than maxCalls: the rest goes on
	roomAgainFirst = time.Second      // after something failed,
	roomAgainMax   = 5 * time.Minute  // and after much did
	gapsAgain      = 10 * time.Minute // the same missing messages are asked for again
	settleTime     = 5 * time.Second  // a change in a room waits so long for the rendezvous
)

// rooms keeps each room as it is at the rendezvous: one worker per room in which
// there may be something to do, that ends when it is done. What is to be done it
// reads from the store.
type rooms struct {
	n      *Node
	change nudge       // wakes run
	ended  bell        // rung when a worker ends
	asks   *gossipPace // questions of members

	mu      sync.Mutex
	workers map[protocol.RoomID]bool // true: woken since it began
	ready   []protocol.RoomID        // wait for a worker, in order
	states  map[protocol.RoomID]*roomRoute
}

// roomRoute is what is remembered of a room between two workers. There is one of each
// room that the engine has.
type roomRoute struct {
	queued   bool      // in ready
	again    time.Time // wake it then; zero: only when something changes
	failures int
	told     bool             // the rendezvous said, on this connection, how far it has the room
	lacks    uint64           // it has no entry from this number on; 0: it has all
	gaps     []engine.RoomGap // that were asked for last,
	asked    time.Time        // and when
	turn     uint64           // of the missing messages: see engine.RoomGaps

	// Without a rendezvous: see roomsync.go.
	asking, askAgain bool                  // members are asked, and are to be asked once more
	mates            map[peer.ID]time.Time // who was asked lately
	toldLast         protocol.EnvelopeID   // the last own message that members were told
	met              time.Time             // when others were last dialed
}

func newRooms(n *Node) *rooms {
	return &rooms{n: n, change: newNudge(), asks: newGossipPace(), workers: map[protocol.RoomID]bool{}, states: map[protocol.RoomID]*roomRoute{}}
}

// wake says that there may be something to do in rooms.
func (r *rooms) wake(ids ...protocol.RoomID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		r.wakeLocked(id)
	}
}

func (r *rooms) wakeLocked(id protocol.RoomID) {
	if _, running := r.workers[id]; running {
		r.workers[id] = true
		return
	}
	s := r.route(id)
	if s.queued || time.Now().Before(s.again) {
		return
	}
	s.queued = true
	r.ready = append(r.ready, id)
	r.change.push()
}

func (r *rooms) route(id protocol.RoomID) *roomRoute {
	s := r.states[id]
	if s == nil {
		s = &roomRoute{}
		r.states[id] = s
	}
	return s
}

// wakeAll does it for every room: after the start, and when the rendezvous is back.
func (r *rooms) wakeAll(ctx context.Context) error {
	ids, err := read(ctx, r.n.kv, r.n.eng.RoomsToFollow)
	if err != nil {
		return fmt.Errorf("read rooms: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.states {
		s.again, s.failures, s.told = time.Time{}, 0, false
	}
	for _, id := range ids {
		r.wakeLocked(id)
	}
	return nil
}

// run starts workers until ctx ends, and waits for them. Like the outbox it begins when
// the rendezvous was asked about our store.
func (r *rooms) run(ctx context.Context) error {
	if !r.n.home.awaitAsked(ctx) {
		return nil
	}
	if err := r.wakeAll(ctx); err != nil {
		return err
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	alone := time.NewTicker(alonePulse)
	defer alone.Stop()
	for {
		timer := time.NewTimer(r.start(ctx, &workers))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-r.change:
		case <-alone.C:
			r.wakeAlone()
		case <-timer.C:
			r.wakeDue()
		}
		timer.Stop()
	}
}

// start gives a worker to every room that is ready, as long as there are any, and
// returns the time to the next retry.
func (r *rooms) start(ctx context.Context, workers *sync.WaitGroup) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.ready) > 0 && len(r.workers) < maxRoomWorkers {
		id := r.ready[0]
		r.ready = r.ready[1:]
		r.states[id].queued = false
		r.workers[id] = false
		workers.Go(func() {
			w := &roomWorker{n: r.n, id: id, route: r.routeOf(id)}
			r.end(ctx, w, w.serve(ctx))
		})
	}
	next := time.Hour
	for _, s := range r.states {
		if !s.again.IsZero() {
			next = min(next, time.Until(s.again))
		}
	}
	return max(next, 0)
}

func (r *rooms) routeOf(id protocol.RoomID) *roomRoute {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[id]
}

func (r *rooms) wakeDue() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, s := range r.states {
		if !s.again.IsZero() && !s.again.After(time.Now()) {
			s.again = time.Time{}
			r.wakeLocked(id)
		}
	}
}

// end takes a worker off the list. Its error is why something is left to do.
func (r *rooms) end(ctx context.Context, w *roomWorker, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.ended.ring()
	id, s := w.id, w.route
	woken := r.workers[id]
	delete(r.workers, id)
	r.change.push() // a slot is free
	switch {
	case err == nil && w.over && !woken:
		delete(r.states, id)
	case err == nil:
		s.failures = 0
	case errors.Is(err, ErrOffline): // the next welcome wakes it
	case ctx.Err() == nil:
		wait := min(roomAgainFirst<<min(s.failures, 10), roomAgainMax)
		wait = time.Duration(float64(wait) * (0.5 + rand.Float64())) // after a restart of the rendezvous all come at once
		if refusal, ok := errors.AsType[*protocol.Error](err); ok {
			wait = max(wait, refusal.RetryAfter)
		}
		s.failures++
		s.again = time.Now().Add(wait)
		r.n.log.Info("room not followed", "room", id, "err", err, "retry_in", wait.Round(time.Millisecond))
	}
	if woken {
		r.wakeLocked(id)
	}
}

// news takes in what the rendezvous says of rooms. Only those are read of which it has
// more, or less, than is here.
func (r *rooms) news(ctx context.Context, list []*wire.RoomNews) error {
	for _, item := range list {
		id, err := protocol.FromBytes[protocol.RoomID](item.GetRoom())
		if err != nil {
			continue
		}
		if err := r.oneNews(ctx, id, item); err != nil {
			return fmt.Errorf("note news of a room: %w", err)
		}
	}
	return nil
}

func (r *rooms) oneNews(ctx context.Context, id protocol.RoomID, item *wire.RoomNews) error {
	plan, err := read(ctx, r.n.kv, func(tx store.Tx) (engine.RoomPlan, error) { return r.n.eng.RoomPlan(tx, r.n.now(), id) })
	if errors.Is(err, engine.ErrNoRoom) {
		err = r.n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return r.n.eng.FollowRoom(tx, r.n.now(), id) })
		if errors.Is(err, engine.ErrManyRooms) {
			return nil
		}
		return err
	}
	if err != nil || !plan.Follow && !plan.Doubt {
		return err
	}
	r.mu.Lock()
	s := r.route(id)
	first := !s.told
	s.told = true
	if back := first && plan.From > item.GetSeq()+1; back {
		s.lacks = item.GetSeq() + 1
	}
	r.mu.Unlock()
	if first && item.GetCursor() < plan.After { // later ones may be out of date
		err := r.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
			return r.n.eng.RoomSetBack(tx, r.n.now(), id, item.GetCursor())
		})
		if err != nil {
			return err
		}
	}
	if first || item.GetSeq() >= plan.From || item.GetCursor() > plan.After {
		r.wake(id)
	}
	return nil
}

// settle waits until what the user did in a room is in its log, or refused; not for
// long, and not without a rendezvous.
func (r *rooms) settle(ctx context.Context, id protocol.RoomID) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	r.until(ctx, func() (bool, error) {
		if !r.n.home.isUp() || r.rests(id) {
			return true, nil
		}
		now, err := read(ctx, r.n.kv, func(tx store.Tx) (engine.Room, error) { return r.n.eng.Room(tx, r.n.now(), id) })
		return now.Pending == 0 && !now.Joining, err
	})
}

// await waits until what there is to do in rooms is done, or put off; not for long.
func (r *rooms) await(ctx context.Context, ids []protocol.RoomID) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	r.until(ctx, func() (bool, error) { return !slices.ContainsFunc(ids, r.busy), nil })
}

// until looks again whenever a worker ends, until what it looks for is done. An error is
// that of done, or of ctx.
func (r *rooms) until(ctx context.Context, done func() (bool, error)) error {
	for {
		ended := r.ended.next()
		if is, err := done(); is || err != nil {
			return err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *rooms) busy(id protocol.RoomID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, running := r.workers[id]
	s := r.states[id]
	return running || s != nil && s.queued
}

// rests tells that a room waits for a better time.
func (r *rooms) rests(id protocol.RoomID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.states[id]
	return s != nil && !s.again.IsZero()
}

// takeLacks returns the number of the first entry that the rendezvous lacks, once.
func (r *rooms) takeLacks(s *roomRoute) (from uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from, s.lacks = s.lacks, 0
	return from
}

func (r *rooms) lack(s *roomRoute, from uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.lacks = from
}

// fillTurn is what to do about missing messages now.
type fillTurn uint8

const (
	fillNow    fillTurn = iota // ask for them
	fillLater                  // they were asked for, and do not have to be again yet
	fillOthers                 // they were asked for long enough ago that others have their turn
)

// mayFill tells whether these missing messages are to be asked for now.
func (r *rooms) mayFill(s *roomRoute, gaps []engine.RoomGap) fillTurn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(s.gaps, gaps) {
		s.gaps, s.asked = gaps, time.Now()
		return fillNow
	}
	if time.Since(s.asked) < gapsAgain {
		return fillLater
	}
	s.gaps, s.turn = nil, rand.Uint64()
	return fillOthers
}
