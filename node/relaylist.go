package node

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// refresh reads the list if it is another one, and tells when to try again.
func (r *relays) refresh(ctx context.Context) (wait time.Duration) {
	if !r.stale.Load() || !r.n.home.isUp() { // the welcome wakes us
		return relayMeasure
	}
	if !r.lists.Allow() {
		return relayListEvery
	}
	r.stale.Store(false)
	if err := r.read(ctx); err != nil {
		r.n.log.Debug("relays not listed", "err", err)
		r.stale.Store(true)
		return pause(err, 2)
	}
	return relayMeasure
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

// set takes over a list. What is known of relays that stay is kept, and those
// that are gone from it are kept while they serve us: a rendezvous that has just
// started does not know of them yet.
func (r *relays) set(list map[peer.ID]*relayState) {
	r.mu.Lock()
	before, fresh := r.list, false
	for p, s := range list {
		if old := before[p]; old != nil {
			old.addrs, old.gone, list[p] = s.addrs, false, old
		} else {
			fresh = true
		}
	}
	for p, old := range before {
		if list[p] == nil {
			old.gone, list[p] = true, old
		}
	}
	r.list = list
	r.mu.Unlock()
	r.drop()
	if fresh || r.holding() == "" {
		r.soon()
	}
}

// drop forgets the relays that are gone from the list and serve us no more.
func (r *relays) drop() {
	addrs := map[peer.ID][]ma.Multiaddr{}
	var dropped []peer.ID
	r.mu.Lock()
	for p, s := range r.list {
		if s.gone && !s.serves() {
			dropped = append(dropped, p)
			delete(r.list, p)
			continue
		}
		addrs[p] = s.addrs
	}
	lost := slices.Contains(dropped, r.held)
	r.mu.Unlock()
	r.n.gate.setRelays(addrs)
	if lost {
		r.setHeld("", nil)
		r.soon()
		r.anew.push()
	}
	for _, p := range dropped {
		r.n.host.Network().ClosePeer(p)
	}
}

// known returns the relays there are, in a fixed order.
func (r *relays) known() []peer.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.list))
}

// listed returns those that the rendezvous names.
func (r *relays) listed() []peer.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(r.list)), func(p peer.ID) bool { return r.list[p].gone })
}

// isGone tells whether a relay is still used, but no longer in the list.
func (r *relays) isGone(p peer.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[p] != nil && r.list[p].gone
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
