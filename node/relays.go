package node

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/singleflight"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

const (
	relayMeasure  = time.Hour        // between two measurements
	relayMeasured = 8                // at most, of the relays there are
	relayRetry    = 10 * time.Second // of what could not be renewed, while it lasts
	relayIdle     = 30 * time.Second // a connection to a relay where nothing is held or passes is closed
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
	measureAt time.Time
	renewAt   time.Time    // the reservation
	on        network.Conn // that the reservation is for: it ends with it
	failing   int          // times in a row that no relay was to be had

	mu      sync.Mutex
	list    map[peer.ID]*relayState
	held    peer.ID // where this node has a reservation; empty: nowhere
	since   time.Time
	problem error // why nowhere, though there are relays
}

// relayState is what is known of one relay of the list.
type relayState struct {
	addrs     []ma.Multiaddr
	rtt       time.Duration // of the last answer; zero: none yet
	admission admission
	avoid     time.Time // it refused us: not before
}

func newRelays(n *Node) *relays {
	return &relays{n: n, anew: newNudge(), list: map[peer.ID]*relayState{}}
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
		again := relayMeasure
		if r.stale.Swap(false) && r.n.home.isUp() { // the welcome says when else
			if err := r.read(ctx); err != nil {
				r.n.log.Debug("relays not listed", "err", err)
				r.stale.Store(true)
				again = pause(err, 2)
			}
		}
		wait := min(again, r.hold(ctx), r.tidy(ctx))
		select {
		case <-ctx.Done():
			return nil
		case <-r.anew:
		case <-time.After(wait):
		}
	}
}

// read asks the rendezvous which relays there are.
func (r *relays) read(ctx context.Context) error {
	resp, err := r.n.home.call(ctx, &wire.Request{Call: &wire.Request_GetRelays{GetRelays: &wire.GetRelays{}}})
	if err != nil {
		return err
	}
	list := map[peer.ID]*relayState{}
	all := resp.GetRelayList().GetRelays()
	for _, entry := range all[:min(len(all), protocol.MaxRelays)] {
		p, err := peer.IDFromBytes(entry.GetPeer())
		if err != nil || r.n.gate.known(p) && !r.n.gate.isRelay(p) || p == r.n.host.ID() {
			continue
		}
		if addrs := slices.DeleteFunc(parseAddrs(entry.GetAddrs()), isRelayed); len(addrs) > 0 {
			list[p] = &relayState{addrs: addrs}
		}
	}
	r.set(list)
	return nil
}

// set takes over a list. What is known of relays that stay is kept.
func (r *relays) set(list map[peer.ID]*relayState) {
	addrs := map[peer.ID][]ma.Multiaddr{}
	r.mu.Lock()
	before := r.list
	for p, s := range list {
		addrs[p] = s.addrs
		if old := before[p]; old != nil {
			old.addrs, list[p] = s.addrs, old
		} else {
			r.measureAt = time.Time{}
		}
	}
	r.list = list
	lost := r.held != "" && list[r.held] == nil
	r.mu.Unlock()
	r.n.gate.setRelays(addrs)
	if lost {
		r.setHeld("", nil)
	}
	for p := range before {
		if list[p] == nil {
			r.n.host.Network().ClosePeer(p)
		}
	}
}

// hold renews the reservation when it is time, or gets one at the nearest relay,
// and tells when to look again.
func (r *relays) hold(ctx context.Context) (wait time.Duration) {
	if len(r.known()) == 0 {
		r.setHeld("", nil)
		return relayMeasure
	}
	if held := r.holding(); held != "" && time.Now().Before(r.measureAt) {
		if r.stands(held) {
			return time.Until(r.renewAt)
		}
		err := r.reserve(ctx, held)
		if err == nil {
			return time.Until(r.renewAt)
		}
		r.n.log.Warn("reservation at a relay lost", "relay", held, "err", err)
	}
	err := errors.New("no relay answers")
	for _, p := range r.measure(ctx) {
		if err = r.reserve(ctx, p); err != nil {
			continue
		}
		r.setHeld(p, nil)
		r.failing = 0
		r.measureAt = time.Now().Add(relayMeasure/2 + rand.N(relayMeasure))
		return time.Until(r.renewAt)
	}
	if ctx.Err() != nil {
		return 0
	}
	r.setHeld("", err)
	r.failing++
	return min(pause(err, r.failing-1), relayAvoid)
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
	some := r.byDistance(r.known())
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
	wait, held := relayMeasure, r.holding()
	for _, p := range r.known() {
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

// known returns the relays of the list, in a fixed order.
func (r *relays) known() []peer.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.list))
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

// of picks from what the rendezvous says of a contact's device the relays that
// are known here.
func (r *relays) of(names [][]byte) (some []peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range names[:min(len(names), protocol.MaxAtRelays)] {
		if p, err := peer.IDFromBytes(b); err == nil && r.list[p] != nil && !slices.Contains(some, p) {
			some = append(some, p)
		}
	}
	return some
}

// nearest are relays where a contact may be when the rendezvous cannot say.
func (r *relays) nearest() []peer.ID {
	some := r.byDistance(r.known())
	return some[:min(len(some), protocol.MaxAtRelays)]
}

// status lists the relays, the one that is used first.
func (r *relays) status() []api.Link {
	all := r.byDistance(r.known())
	r.mu.Lock()
	defer r.mu.Unlock()
	links := make([]api.Link, 0, len(all))
	for _, p := range all {
		s := r.list[p]
		l := api.Link{PeerID: p.String(), RTTms: millis(s.rtt), Up: p == r.held}
		switch {
		case l.Up:
			since := r.since
			l.Since = &since
		case r.held == "" && r.problem != nil:
			l.Problem = r.problem.Error()
		}
		links = append(links, l)
	}
	if i := slices.IndexFunc(links, func(l api.Link) bool { return l.Up }); i > 0 {
		held := links[i]
		links = slices.Insert(slices.Delete(links, i, i+1), 0, held)
	}
	return links
}
