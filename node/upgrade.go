package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

const (
	sweepEvery    = 10 * time.Second
	relayedGrace  = 10 * time.Second // a relayed connection beside a direct one is closed after
	idleGrace     = 3 * time.Minute  // any connection to a contact is, while there is a rendezvous: it costs traffic, and is made again in no time
	upgradeFirst  = 20 * time.Second // libp2p itself tries for the first 15 s
	upgradeEvery  = 5 * time.Minute
	upgradeBudget = 5 * time.Second
	offlineDoubt  = time.Second     // when the owner's link to the rendezvous ended
	stallDoubt    = 5 * time.Second // when nothing comes of a file: an answer stands behind what was written before it
	eventBuffer   = 256             // a full one would stop libp2p
)

// run looks after the connections to contacts until ctx ends.
func (d *dialer) run(ctx context.Context) error {
	sub, err := d.n.host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtLocalReachabilityChanged), new(event.EvtLocalAddressesUpdated),
	}, eventbus.BufSize(eventBuffer), eventbus.Name("parley"))
	if err != nil {
		return fmt.Errorf("subscribe to libp2p's events: %w", err)
	}
	defer sub.Close()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-sub.Out():
			d.heard(ctx, e)
		case <-d.moved:
			d.afterMove()
		case <-sweep.C:
			d.sweep()
		}
	}
}

func (d *dialer) heard(ctx context.Context, e any) {
	switch e := e.(type) {
	case event.EvtLocalReachabilityChanged:
		d.n.reachable.Store(int32(e.Reachability))
		d.n.home.beatNow.push() // our addresses change with it
	case event.EvtLocalAddressesUpdated:
		d.n.home.beatNow.push()
	case event.EvtPeerIdentificationCompleted:
		to, ok := d.n.gate.deviceOf(e.Peer)
		if !ok {
			return
		}
		if !isRelayed(e.Conn.RemoteMultiaddr()) {
			d.n.keepAddrs(ctx, to, e.Conn)
		}
		d.n.reached(to)
		if !d.n.home.isUp() {
			d.n.topics.wakeRoomsOf(to.peer)
		}
	}
}

// afterMove drops connections that lead nowhere from here. What they carried is
// still queued and goes the next way.
func (d *dialer) afterMove() {
	for _, c := range d.n.host.Network().Conns() {
		if c.RemotePeer() != d.n.home.info.ID {
			c.Close()
		}
	}
	d.mu.Lock()
	d.seen = map[peer.ID]sighting{}
	d.mu.Unlock()
	d.upgrades = nil
	d.n.wakeAll()
}

// sweep closes connections that are not needed and tries to replace relayed
// ones.
func (d *dialer) sweep() {
	unused, upgrades := map[string]time.Time{}, map[peer.ID]time.Time{}
	now := time.Now()
	for _, c := range d.n.host.Network().Conns() {
		to, ok := d.n.gate.deviceOf(c.RemotePeer())
		if !ok {
			continue
		}
		relayed, direct := isRelayed(c.RemoteMultiaddr()), d.direct(to.peer)
		if idle(c) {
			since, before := d.unused[c.ID()]
			if !before {
				since = now
			}
			unused[c.ID()] = since
			if rest := now.Sub(since); relayed && direct && rest >= relayedGrace || rest >= idleGrace && d.n.home.isUp() {
				c.Close()
				continue
			}
		}
		if relayed && !direct {
			upgrades[to.peer] = d.planUpgrade(to, now)
		}
	}
	d.unused, d.upgrades = unused, upgrades
}

// doubt closes connections to a device that do not answer within so long: a dead
// connection looks alive for half a minute.
func (d *dialer) doubt(of device, within time.Duration) {
	for _, c := range d.n.host.Network().ConnsToPeer(of.peer) {
		if !d.n.enter() {
			return
		}
		go func() {
			defer d.n.leave()
			if !answers(d.n.ctx, c, within) {
				c.Close()
			}
		}()
	}
}

// planUpgrade starts an upgrade when it is time, and tells when the next is.
func (d *dialer) planUpgrade(to device, now time.Time) (next time.Time) {
	next, planned := d.upgrades[to.peer]
	if !planned {
		return now.Add(upgradeFirst)
	}
	if now.After(next) && d.n.enter() {
		go func() {
			defer d.n.leave()
			d.upgrade(d.n.ctx, to)
		}()
		return now.Add(upgradeEvery + rand.N(upgradeEvery/4))
	}
	return next
}

// upgrade tries to reach a relayed peer directly: a plain dial, which may work
// now that addresses changed, and then, unless messages are on their way, a new
// relayed connection. libp2p punches holes only when one is new, and from the
// end that accepted it. So that the two ends do not close each other's, the one
// with the lower peer id does it.
func (d *dialer) upgrade(ctx context.Context, to device) {
	ctx, cancel := context.WithTimeout(ctx, 2*upgradeBudget)
	defer cancel()
	if addrs, _ := d.candidates(ctx, to); len(addrs) > 0 {
		d.prepare(to.peer, addrs)
		dialCtx, cancel := context.WithTimeout(network.WithForceDirectDial(ctx, "upgrade"), upgradeBudget)
		err := d.n.host.Connect(dialCtx, peer.AddrInfo{ID: to.peer})
		cancel()
		if err == nil && d.direct(to.peer) {
			return
		}
	}
	if d.n.host.ID() > to.peer || d.n.outbox.sending(to.id) {
		return
	}
	d.n.host.Network().ClosePeer(to.peer)
	if err := d.dial(ctx, to); err != nil {
		d.n.log.Debug("relayed connection not renewed", "device", to.id, "err", err)
	}
}
