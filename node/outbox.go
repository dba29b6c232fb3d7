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

const (
	maxWorkers = 256 // devices served at a time; others wait their turn
	againFirst = 2 * time.Second
	againMax   = 2 * time.Minute
	avoidFor   = 30 * time.Second // after a direct attempt failed: mailbox first
)

// outbox sends what is queued: one worker per device, as long as there is
// something to do for it. A worker that gets nowhere ends and says when to try
// again; it never sleeps.
type outbox struct {
	n      *Node
	change nudge // wakes run

	mu      sync.Mutex
	workers map[protocol.DeviceID]*worker
	ready   []protocol.DeviceID // wait for a worker, in order
	queued  map[protocol.DeviceID]bool
	routes  map[protocol.DeviceID]*route // only devices with queued mail
}

// route is what is remembered of a device between two workers.
type route struct {
	again       time.Time // wake it then; zero: only when something changes
	failures    int
	avoidDirect time.Time // do not dial or use a connection before, while there is a mailbox
	mailboxFrom time.Time // the rendezvous asked not to come before
}

// renew forgets failures: something changed.
func (r *route) renew() { r.avoidDirect, r.failures = time.Time{}, 0 }

func newOutbox(n *Node) *outbox {
	return &outbox{
		n: n, change: newNudge(),
		workers: map[protocol.DeviceID]*worker{}, queued: map[protocol.DeviceID]bool{}, routes: map[protocol.DeviceID]*route{},
	}
}

// wake says that there is mail for d.
func (o *outbox) wake(d protocol.DeviceID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wakeLocked(d)
}

func (o *outbox) wakeLocked(d protocol.DeviceID) {
	if w := o.workers[d]; w != nil {
		w.more.push()
		return
	}
	if !o.queued[d] {
		o.queued[d] = true
		o.ready = append(o.ready, d)
		o.change.push()
	}
}

// wakeNew says that something changed for d that may make what failed work: it
// came online, or a connection was made. A device without mail is not woken.
func (o *outbox) wakeNew(d protocol.DeviceID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w, r := o.workers[d], o.routes[d]
	if w == nil && r == nil {
		return
	}
	if r != nil {
		r.renew()
	}
	if w != nil {
		w.anew.Store(true)
	}
	o.wakeLocked(d)
}

// wakeAll does the same for every device: the rendezvous is back, or we are.
func (o *outbox) wakeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for d, r := range o.routes {
		r.mailboxFrom = time.Time{}
		r.renew()
		o.wakeLocked(d)
	}
	for _, w := range o.workers {
		w.anew.Store(true)
		w.more.push()
	}
}

// pending tells whether something is on its way. What waits for a better time
// does not count.
func (o *outbox) pending() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.ready) > 0 || len(o.workers) > 0
}

// sending tells whether frames for d are on their way.
func (o *outbox) sending(d protocol.DeviceID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.workers[d]
	return w != nil && w.flying.Load() > 0
}

// run starts workers until ctx ends, and waits for them. It begins when the
// rendezvous was asked about our store.
func (o *outbox) run(ctx context.Context) error {
	if !o.n.home.awaitAsked(ctx) {
		return nil
	}
	devices, err := read(ctx, o.n.kv, o.n.eng.QueuedDevices)
	if err != nil {
		return fmt.Errorf("read outbox: %w", err)
	}
	for _, d := range devices {
		o.wake(d)
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	for {
		next := o.start(ctx, &workers)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-o.change:
		case <-timer.C:
			o.wakeDue()
		}
		timer.Stop()
	}
}

// start gives a worker to every device that is ready, as long as there are
// any, and returns the time to the next retry.
func (o *outbox) start(ctx context.Context, workers *sync.WaitGroup) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.ready) > 0 && len(o.workers) < maxWorkers {
		d := o.ready[0]
		o.ready = o.ready[1:]
		delete(o.queued, d)
		r := o.routes[d]
		if r == nil {
			r = &route{}
			o.routes[d] = r
		}
		r.again = time.Time{}
		w := &worker{n: o.n, to: d, route: *r, more: newNudge()}
		o.workers[d] = w
		workers.Go(func() {
			err := w.serve(ctx)
			o.ended(w, err)
		})
	}
	next := time.Hour
	for _, r := range o.routes {
		if !r.again.IsZero() {
			next = min(next, time.Until(r.again))
		}
	}
	return max(next, 0)
}

func (o *outbox) wakeDue() {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for d, r := range o.routes {
		if !r.again.IsZero() && !r.again.After(now) {
			r.again = time.Time{}
			o.wakeLocked(d)
		}
	}
}

// ended takes a worker off the list. Its error is why mail still waits.
func (o *outbox) ended(w *worker, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.workers, w.to)
	o.change.push() // a slot is free
	w.takeNews()
	r := w.route
	wait := min(againFirst<<min(r.failures, 10), againMax)
	refusal, refused := errors.AsType[*protocol.Error](err)
	if refused {
		wait = max(wait, refusal.RetryAfter)
	}
	select {
	case <-w.more: // came after the worker's last look
		if !refused && !errors.Is(err, errRefused) {
			o.routes[w.to] = &r
			o.wakeLocked(w.to)
			return
		}
	default:
	}
	if err == nil {
		delete(o.routes, w.to)
		return
	}
	r.failures++
	r.again = time.Now().Add(wait)
	o.routes[w.to] = &r
	o.n.log.Debug("mail waits", "device", w.to, "err", err, "retry_in", wait)
}

// waiting records in the messages' traces why they wait.
func (n *Node) waiting(ctx context.Context, d protocol.DeviceID, reason string) error {
	return n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		return engine.Hint{}, n.eng.Waiting(tx, n.now(), d, reason)
	})
}
