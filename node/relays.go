package node

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

const (
	relayMeasure  = time.Hour        // between two measurements
	relayMeasured = 8                // at most, of the relays there are
	relayRetry    = 10 * time.Second // of what could not be renewed, while it lasts
	relayIdle     = 30 * time.Second // a connection to a relay where nothing is held or passes is closed

	// What the rendezvous or a relay can make us do as often as they like: at once
	// while it is seldom, and later when it is not.
	relayListEvery = 30 * time.Second // the list is asked for
	relayNewsEvery = 5 * time.Minute  // relays are measured before their time
	relayBurst     = 8                // of each
)

// relays are the relays besides the rendezvous (SPEC "Relays that run alone").
// It knows which there are, measures them, and holds a reservation at the one
// that answers soonest, so that contacts come through there too; also while the
// rendezvous is away. Where there are none it does nothing.
type relays struct {
	n       *Node
	anew    nudge       // the list, the keys of tokens, or the network changed
	stale   atomic.Bool // the list is to be asked for
	flights singleflight.Group
	token   token

	// Owned by run.
	lists   *rate.Limiter // askings for the list
	news    *rate.Limiter // measurements before their time
	newsAt  time.Time     // of the last of them, which may be still to come
	renewAt time.Time     // the reservation
	on      network.Conn  // that the reservation is for: it ends with it
	failing int           // times in a row that no relay was to be had

	mu        sync.Mutex
	measureAt time.Time
	list      map[peer.ID]*relayState
	held      peer.ID // where this node has a reservation; empty: nowhere
	since     time.Time
	problem   error // why nowhere, though there are relays
}

// relayState is what is known of one relay of the list.
type relayState struct {
	addrs     []ma.Multiaddr
	rtt       time.Duration // of the last answer; zero: none yet
	admission admission
	avoid     time.Time // it refused us: not before
	gone      bool      // from the list of the rendezvous; it is used while it serves us
}

// serves tells whether a relay lets us use the connection there is, or something
// still passes there.
func (s *relayState) serves() bool {
	a := s.admission
	return a.conn != nil && !a.conn.IsClosed() && (time.Now().Before(a.until) || !idle(a.conn))
}

func newRelays(n *Node) *relays {
	return &relays{
		n: n, anew: newNudge(), list: map[peer.ID]*relayState{},
		lists: rate.NewLimiter(rate.Every(relayListEvery), relayBurst),
		news:  rate.NewLimiter(rate.Every(relayNewsEvery), relayBurst),
	}
}

// changed says that the list is another one than was read.
func (r *relays) changed() {
	r.stale.Store(true)
	r.anew.push()
}

// moved says that the network is another one: what was measured is worth nothing.
func (r *relays) moved() {
	r.mu.Lock()
	for _, s := range r.list {
		s.rtt, s.avoid = 0, time.Time{}
	}
	if r.held == "" {
		r.measureAt = time.Time{}
	}
	r.mu.Unlock()
	r.anew.push()
}

// run holds the reservation until ctx ends.
func (r *relays) run(ctx context.Context) error {
	lost := &network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() == r.holding() {
			r.anew.push()
		}
	}}
	r.n.host.Network().Notify(lost)
	defer r.n.host.Network().StopNotify(lost)
	for {
		wait := min(r.refresh(ctx), r.hold(ctx), r.tidy(ctx))
		select {
		case <-ctx.Done():
			return nil
		case <-r.anew:
		case <-time.After(wait):
		}
	}
}

// soon measures before the time, or as soon as that may be again.
func (r *relays) soon() {
	if now := time.Now(); !r.newsAt.After(now) {
		r.newsAt = now.Add(r.news.ReserveN(now, 1).DelayFrom(now))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newsAt.Before(r.measureAt) {
		r.measureAt = r.newsAt
	}
}

// due is the time until relays are to be measured. Where the relay that is held
// is gone from the list, it is expected back while it serves us.
func (r *relays) due() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.list[r.held]; s != nil && s.gone {
		return relayMeasure
	}
	return time.Until(r.measureAt)
}

func (r *relays) measureIn(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.measureAt = time.Now().Add(d)
}

// hold renews the reservation when it is time, or gets one at the nearest relay,
// and tells when to look again.
func (r *relays) hold(ctx context.Context) (wait time.Duration) {
	held := r.holding()
	if held == "" && len(r.listed()) == 0 {
		r.setHeld("", nil)
		return relayMeasure
	}
	if due := r.due(); held != "" && due > 0 {
		if r.stands(held) {
			return min(time.Until(r.renewAt), due)
		}
		err := r.reserve(ctx, held)
		if err == nil {
			return min(time.Until(r.renewAt), due)
		}
		if ctx.Err() != nil {
			return 0
		}
		r.n.log.Warn("reservation at a relay lost", "relay", held, "err", err)
		r.setHeld("", err)
		r.soon()
	}
	if due := r.due(); due > 0 {
		return due
	}
	err := errors.New("no relay answers")
	for _, p := range r.measure(ctx) {
		if err = r.reserve(ctx, p); err != nil {
			continue
		}
		r.setHeld(p, nil)
		r.failing = 0
		r.measureIn(relayMeasure/2 + rand.N(relayMeasure))
		return time.Until(r.renewAt)
	}
	if ctx.Err() != nil {
		return 0
	}
	r.setHeld("", err)
	r.failing++
	wait = min(pause(err, r.failing-1), relayAvoid)
	r.measureIn(wait)
	return wait
}

// stands tells whether the reservation needs nothing yet.
func (r *relays) stands(held peer.ID) bool {
	conn, renew := r.admitted(held)
	return conn != nil && conn == r.on && renew > 0 && time.Now().Before(r.renewAt)
}

// reserve is admitted to a relay and gets or renews a place there.
func (r *relays) reserve(ctx context.Context, p peer.ID) error {
	if err := r.admit(ctx, p); err != nil {
		return err
	}
	conn, renew := r.admitted(p)
	wait, err := r.n.reserve(ctx, p)
	if err != nil {
		return err
	}
	r.on, r.renewAt = conn, time.Now().Add(min(wait, max(renew, relayRetry)))
	return nil
}

// measure is admitted to some relays, those that answered soonest the last time
// among them, and returns those that took us, the nearest first.
func (r *relays) measure(ctx context.Context) []peer.ID {
	some := r.byDistance(r.listed())
	if len(some) > relayMeasured {
		others := some[relayMeasured/2:]
		rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		some = some[:relayMeasured]
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var took []peer.ID
	for _, p := range some {
		wg.Go(func() {
			if err := r.admit(ctx, p); err != nil {
				r.n.log.Debug("relay not usable", "relay", p, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, p)
		})
	}
	wg.Wait()
	return r.byDistance(took)
}

// tidy renews the admissions that circuits live on, closes connections to relays
// that are of no more use, and tells when to do it again.
func (r *relays) tidy(ctx context.Context) (wait time.Duration) {
	r.drop()
	wait, held := relayMeasure, r.holding()
	for _, p := range r.known() {
		if r.isGone(p) {
			wait = min(wait, relayIdle)
		}
		conn, renew := r.admitted(p)
		switch {
		case conn == nil || p == held:
			continue
		case idle(conn) && time.Since(conn.Stat().Opened) > relayIdle:
			conn.Close()
			continue
		case idle(conn):
			renew = relayIdle
		case renew <= 0:
			if err := r.admit(ctx, p); err != nil {
				r.n.log.Debug("admission to a relay not renewed", "relay", p, "err", err)
			}
			_, renew = r.admitted(p)
		}
		wait = min(wait, max(renew, relayRetry))
	}
	return wait
}

// byDistance sorts relays, the rendezvous among them, by how soon they answered;
// those that were never asked last.
func (r *relays) byDistance(some []peer.ID) []peer.ID {
	distance := map[peer.ID]time.Duration{}
	link, _, _ := r.n.home.links()
	r.mu.Lock()
	for p, s := range r.list {
		distance[p] = s.rtt
	}
	r.mu.Unlock()
	distance[r.n.home.info.ID] = time.Duration(link.RTTms * float64(time.Millisecond))
	return slices.SortedStableFunc(slices.Values(some), func(a, b peer.ID) int {
		da, db := distance[a], distance[b]
		if (da == 0) != (db == 0) {
			return cmp.Compare(db, da)
		}
		return cmp.Compare(da, db)
	})
}

func (r *relays) holding() peer.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// setHeld notes where the reservation is. Contacts are told by the next beat.
func (r *relays) setHeld(p peer.ID, problem error) {
	r.mu.Lock()
	before := r.held
	if p != before {
		r.since = r.n.now()
	}
	r.held, r.problem = p, problem
	r.mu.Unlock()
	if p == before {
		return
	}
	r.n.host.ConnManager().Unprotect(before, "relay")
	if p != "" {
		r.n.host.ConnManager().Protect(p, "relay")
		r.n.log.Info("reservation at a relay", "relay", p)
	}
	r.n.home.beatNow.push()
}

// told is what the rendezvous is told for our contacts.
func (r *relays) told() [][]byte {
	if held := r.holding(); held != "" {
		return [][]byte{[]byte(held)}
	}
	return nil
}
