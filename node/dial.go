package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/singleflight"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

const (
	whereTimeout   = 2 * time.Second
	relayHeadStart = 500 * time.Millisecond // of a nearer relay
	seenFresh      = 2 * time.Minute        // how long an address found on the local network is used
)

// dialer makes connections to contacts' devices and looks after them.
type dialer struct {
	n       *Node
	moved   nudge // the network changed
	flights singleflight.Group

	upgrades map[peer.ID]time.Time // peers that are relayed only: the next attempt; owned by run
	unused   map[string]time.Time  // connections that carry nothing, by id, since when; owned by run

	mu   sync.Mutex
	seen map[peer.ID]sighting // on the local network; keys are contacts' devices
}

type sighting struct {
	at    time.Time
	addrs []ma.Multiaddr
}

func newDialer(n *Node) *dialer {
	return &dialer{n: n, moved: newNudge(), seen: map[peer.ID]sighting{}}
}

// connected tells whether there is any connection, direct tells whether there
// is one that does not go through a relay.
func (d *dialer) connected(p peer.ID) bool {
	return d.n.host.Network().Connectedness(p) != network.NotConnected
}

func (d *dialer) direct(p peer.ID) bool {
	c := d.best(p)
	return c != nil && !isRelayed(c.RemoteMultiaddr())
}

// best returns the connection that a new stream would take, nil if there is
// none: a direct one before a relayed one, then the newest.
func (d *dialer) best(p peer.ID) (best network.Conn) {
	for _, c := range d.n.host.Network().ConnsToPeer(p) {
		if c.IsClosed() {
			continue
		}
		if best == nil || better(c, best) {
			best = c
		}
	}
	return best
}

func better(a, b network.Conn) bool {
	ra, rb := isRelayed(a.RemoteMultiaddr()), isRelayed(b.RemoteMultiaddr())
	if ra != rb {
		return rb
	}
	return a.Stat().Opened.After(b.Stat().Opened)
}

// idle tells whether a connection carries nothing but gossipsub's own streams,
// which stay for as long as it does.
func idle(c network.Conn) bool {
	for _, s := range c.GetStreams() {
		if !strings.HasPrefix(string(s.Protocol()), "/meshsub/") {
			return false
		}
	}
	return true
}

// pathOf names the way a connection takes.
func (n *Node) pathOf(c network.Conn) engine.Path {
	switch {
	case isRelayed(c.RemoteMultiaddr()):
		return engine.Relayed
	case n.punches.made(c):
		return engine.HolePunched
	default:
		return engine.Direct
	}
}

// dial connects to a device: every address it may be at, raced with the way
// through the relay. Dials to one peer at one time are one dial.
func (d *dialer) dial(ctx context.Context, to device) error {
	if d.connected(to.peer) {
		return nil
	}
	return d.n.share(ctx, &d.flights, string(to.peer), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, dialBudget)
		defer cancel()
		return d.dialNow(ctx, to)
	})
}

func (d *dialer) dialNow(ctx context.Context, to device) error {
	addrs, relays := d.candidates(ctx, to)
	home, ctx := d.n.home.isUp(), network.WithAllowLimitedConn(ctx, "parley")
	if len(relays) == 0 { // libp2p knows best how long to wait with the rendezvous
		if home {
			addrs = append(addrs, circuit(d.n.home.info.ID))
		}
		if len(addrs) == 0 {
			return errors.New("no address is known")
		}
		d.prepare(to.peer, addrs)
		return d.connect(ctx, to.peer)
	}
	if home {
		relays = append(relays, d.n.home.info.ID)
	}
	d.prepare(to.peer, addrs)
	return d.race(ctx, to.peer, len(addrs) > 0, d.n.relays.byDistance(relays))
}

// race connects directly and through relays, the nearest first, and returns when
// one of the ways led there, or none did.
func (d *dialer) race(ctx context.Context, p peer.ID, directly bool, relays []peer.ID) error {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan error, 1+len(relays))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	ways := len(relays)
	if directly {
		ways++
		wg.Go(func() { results <- d.connect(ctx, p) })
	}
	for i, relay := range relays {
		wg.Go(func() { results <- d.through(ctx, p, relay, time.Duration(i)*relayHeadStart) })
	}
	var all error
	for range ways {
		err := <-results
		if err == nil {
			return nil
		}
		all = errors.Join(all, err)
	}
	return all
}

// through connects to p by a relay, after waiting: nearer ones go first.
func (d *dialer) through(ctx context.Context, p, relay peer.ID, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
	}
	if relay != d.n.home.info.ID {
		if err := d.n.relays.admit(ctx, relay); err != nil {
			return err
		}
	}
	d.n.host.Peerstore().AddAddrs(p, []ma.Multiaddr{circuit(relay)}, peerstore.TempAddrTTL)
	return d.connect(ctx, p)
}

func (d *dialer) connect(ctx context.Context, p peer.ID) error {
	if err := d.n.host.Connect(ctx, peer.AddrInfo{ID: p}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// prepare replaces what libp2p believes about where p is, and lets it be
// dialed at once.
func (d *dialer) prepare(p peer.ID, addrs []ma.Multiaddr) {
	d.n.host.Peerstore().ClearAddrs(p)
	d.n.host.Peerstore().AddAddrs(p, addrs, peerstore.TempAddrTTL)
	clearBackoff(d.n.host, p)
}

// circuit is the way through a relay. It names the relay only: the connection to
// it exists.
func circuit(relay peer.ID) ma.Multiaddr {
	return ma.StringCast("/p2p/" + relay.String() + "/p2p-circuit")
}

// candidates collects where a device may be reached directly, at most
// protocol.MaxAddrs: seen on the local network, told by the rendezvous, good the
// last time. And the relays, besides the rendezvous, that it may be reached
// through.
func (d *dialer) candidates(ctx context.Context, to device) (addrs []ma.Multiaddr, relays []peer.ID) {
	told, relays := d.where(ctx, to)
	all := append(d.sighted(to.peer), told...)
	all = append(all, d.n.lastAddrs(ctx, to.id)...)
	all = ma.Unique(ma.FilterAddrs(all, d.n.gate.mayDial, func(a ma.Multiaddr) bool { return !isRelayed(a) }))
	return all[:min(len(all), protocol.MaxAddrs)], relays
}

// where asks the rendezvous for a device's addresses and relays. When it cannot
// say, the device may be at any of the relays near us.
func (d *dialer) where(ctx context.Context, to device) (addrs []ma.Multiaddr, relays []peer.ID) {
	ctx, cancel := context.WithTimeout(ctx, whereTimeout)
	defer cancel()
	resp, err := d.n.home.call(ctx, &wire.Request{Call: &wire.Request_Where{Where: &wire.Where{Account: to.account[:]}}})
	if err != nil {
		return nil, d.n.relays.nearest()
	}
	for _, p := range resp.GetPlaces().GetPlaces() {
		if string(p.GetDevice()) == string(to.id[:]) {
			return parseAddrs(p.GetAddrs()), d.n.relays.of(p.GetRelays())
		}
	}
	return nil, nil
}

// parseAddrs reads binary multiaddrs and leaves out what is none.
func parseAddrs(raw [][]byte) (addrs []ma.Multiaddr) {
	for _, b := range raw[:min(len(raw), protocol.MaxAddrs)] {
		if a, err := ma.NewMultiaddrBytes(b); err == nil && len(b) <= protocol.MaxAddr {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// saw notes that a contact's device is on the local network, and wakes what
// waits for it, if it was not there or was elsewhere: a restart changes its ports.
func (d *dialer) saw(p peer.ID, addrs []ma.Multiaddr) {
	to, ok := d.n.gate.deviceOf(p)
	if !ok {
		return
	}
	d.mu.Lock()
	for p, s := range d.seen {
		if time.Since(s.at) > seenFresh {
			delete(d.seen, p)
		}
	}
	before := d.seen[p]
	now := sighting{time.Now(), addrs[:min(len(addrs), protocol.MaxAddrs)]}
	d.seen[p] = now
	d.mu.Unlock()
	if !slices.EqualFunc(before.addrs, now.addrs, ma.Multiaddr.Equal) {
		d.n.reached(to)
	}
}

// reached wakes what waits for a device: there is a way to it, or a new one.
func (n *Node) reached(to device) {
	n.outbox.wakeNew(to.id)
	n.files.retry()
	n.lookups.retry(to.account)
}

// wakeAll wakes what waits for any device: we are somewhere else, or the rendezvous is back.
func (n *Node) wakeAll() {
	n.outbox.wakeAll()
	n.files.retry()
}

func (d *dialer) sighted(p peer.ID) []ma.Multiaddr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.seen[p]; time.Since(s.at) <= seenFresh {
		return s.addrs
	}
	return nil
}
