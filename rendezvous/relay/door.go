package relay

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/rendezvous/token"
)

const (
	tokenWait   = 10 * time.Second // how long a connection stays without a token that holds
	maxWaiting  = 1024             // such connections
	maxFromSite = 64               // of them from one address

	presentEvery = 10 * time.Second // tokens on one connection
	presentBurst = 6
)

// door knows who has shown a token on which connection, and is the Gate of a
// relay that runs alone. It keeps no token, only what one said. Whether a pass
// still holds is looked at whenever it is needed, so nothing has to come first
// for a revoked key to be refused.
type door struct {
	verifier *token.Verifier
	now      func() time.Time

	maxWaiting, maxFromSite int // callers without a pass that new ones may add to

	mu       sync.Mutex
	callers  map[network.Conn]*caller
	admitted map[peer.ID]network.Conn // the newest of each peer
	waiting  int                      // callers without a pass
	sites    map[netip.Prefix]int     // the same by address
}

// caller is a connection that somebody opened.
type caller struct {
	site netip.Prefix
	pace *rate.Limiter
	pass token.Claims // what the token said; without a key id: there is none
	end  time.Time    // of the pass; without one: of the connection
}

func (c *caller) waits() bool { return c.pass.KeyID == "" }

func newDoor(v *token.Verifier, now func() time.Time) *door {
	return &door{
		verifier: v, now: now, maxWaiting: maxWaiting, maxFromSite: maxFromSite,
		callers: map[network.Conn]*caller{}, admitted: map[peer.ID]network.Conn{}, sites: map[netip.Prefix]int{},
	}
}

// enter takes a new connection, which has some time to show a token. When there
// are too many of its kind it returns the one that has waited longest, to be
// closed: members show theirs at once, and are not kept out by who shows none.
func (d *door) enter(c network.Conn) (over network.Conn) {
	site := p2p.Site(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.sites[site] >= d.maxFromSite:
		over = d.longestLocked(func(who *caller) bool { return who.site == site })
	case d.waiting >= d.maxWaiting:
		over = d.longestLocked(func(*caller) bool { return true })
	}
	if over != nil {
		d.waitedLocked(d.callers[over])
		delete(d.callers, over)
	}
	who := &caller{site: site, pace: rate.NewLimiter(rate.Every(presentEvery), presentBurst)}
	d.callers[c] = who
	d.waitLocked(who)
	return over
}

// longestLocked returns the connection that has waited longest, of those meant.
func (d *door) longestLocked(meant func(*caller) bool) (longest network.Conn) {
	for c, who := range d.callers {
		if who.waits() && meant(who) && (longest == nil || who.end.Before(d.callers[longest].end)) {
			longest = c
		}
	}
	return longest
}

// waitLocked gives a caller without a pass until the end of tokenWait.
func (d *door) waitLocked(who *caller) {
	who.pass, who.end = token.Claims{}, d.now().Add(tokenWait)
	d.waiting++
	d.sites[who.site]++
}

// waitedLocked ends the wait of a caller.
func (d *door) waitedLocked(who *caller) {
	d.waiting--
	if d.sites[who.site]--; d.sites[who.site] == 0 {
		delete(d.sites, who.site)
	}
}

// mayPresent tells whether a connection may show another token now.
func (d *door) mayPresent(c network.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	who := d.callers[c]
	return who != nil && who.pace.AllowN(d.now(), 1)
}

// admit gives a connection the pass of a token that was verified, and returns
// for how long; ok is false when the connection is gone. Another connection of
// the peer loses its own.
func (d *door) admit(c network.Conn, pass token.Claims) (lasts time.Duration, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	who := d.callers[c]
	if who == nil {
		return 0, false
	}
	if other := d.admitted[c.RemotePeer()]; other != nil && other != c {
		d.dismissLocked(other)
	}
	if who.waits() {
		d.waitedLocked(who)
	}
	who.pass, who.end = pass, pass.Expires.Add(token.Leeway)
	d.admitted[c.RemotePeer()] = c
	return who.end.Sub(d.now()), true
}

// dismissLocked takes the pass of an admitted connection away.
func (d *door) dismissLocked(c network.Conn) {
	delete(d.admitted, c.RemotePeer())
	d.waitLocked(d.callers[c])
}

// forget drops a connection that has ended.
func (d *door) forget(c network.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	who := d.callers[c]
	switch {
	case who == nil:
		return
	case who.waits():
		d.waitedLocked(who)
	default:
		delete(d.admitted, c.RemotePeer())
	}
	delete(d.callers, c)
}

// holdsLocked tells whether the caller has a pass that is good now.
func (d *door) holdsLocked(who *caller) bool {
	return !who.waits() && d.now().Before(who.end) && d.verifier.Holds(who.pass.Issuer, who.pass.KeyID)
}

// tend takes away passes that hold no more, and returns the connections that
// have waited for too long, to be closed.
func (d *door) tend() (over []network.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c, who := range d.callers {
		switch {
		case !who.waits() && !d.holdsLocked(who):
			d.dismissLocked(c)
		case who.waits() && !d.now().Before(who.end):
			over = append(over, c)
		}
	}
	return over
}

// Conn implements Gate.
func (d *door) Conn(p peer.ID) network.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.admitted[p]
	if c == nil || !d.holdsLocked(d.callers[c]) {
		return nil
	}
	return c
}

// Member implements Gate.
func (d *door) Member(p peer.ID) bool { return d.Conn(p) != nil }

// MayConnect implements Gate. Who has accepted whom is known to the rendezvous
// only; nodes refuse who is no contact of theirs.
func (d *door) MayConnect(src, dst peer.ID) bool { return d.Member(src) && d.Member(dst) }

// count tells how many connections have a pass, and how many do not.
func (d *door) count() (admitted, waiting int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.admitted), d.waiting
}
