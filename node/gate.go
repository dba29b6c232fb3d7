package node

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/parley-chat/parley/protocol"
)

// device is a contact's device as the gate knows it, or one of somebody who is in a
// room with us.
type device struct {
	account protocol.AccountID
	id      protocol.DeviceID
	peer    peer.ID
	mate    bool // of no contact
}

const (
	addrsPerPeer   = protocol.MaxAddrs + 1 // and the relay's
	addrsPerPeerIn = 20 * time.Second
	maxHomeAddrs   = 64

	// The rendezvous says which relays there are, and can name as many as it likes.
	relayAddrs   = relayMeasured * protocol.MaxAddrs
	relayAddrsIn = 10 * time.Minute
)

// gate is the connection gater. Connections come from devices of contacts and of members
// of our rooms, the rendezvous and its relays only, and go to them only. It also answers,
// from memory, whose device a peer is.
//
// Contacts tell us where they are, so an address may be a lie that makes us
// knock on somebody else's door: see mayDial.
type gate struct {
	home       peer.ID
	interfaces *interfaces

	mu        sync.RWMutex
	byPeer    map[peer.ID]device
	byDevice  map[protocol.DeviceID]device
	dialed    map[peer.ID]*dialed // keys are keys of byPeer
	homeReach reach               // how far the rendezvous's own addresses reach
	homeAddrs map[netip.Addr]bool // those of the invite, and what its names resolved to
	relays    map[peer.ID]bool    // besides the rendezvous
	toRelays  dialed              // of all of them
	names     map[string]bool     // hosts in the relays' addresses
}

// dialed counts the addresses tried lately, for one peer or for all relays.
type dialed struct {
	since time.Time
	addrs map[string]bool
}

// take tells whether one may be tried now: one of those that were, or one of at
// most so many others in a while.
func (d *dialed) take(what string, most int, in time.Duration) bool {
	if now := time.Now(); now.Sub(d.since) > in {
		d.since, d.addrs = now, map[string]bool{}
	}
	if !d.addrs[what] && len(d.addrs) >= most {
		return false
	}
	d.addrs[what] = true
	return true
}

// reach says how far an address is usable.
type reach int

const (
	thisMachine reach = iota
	thisNetwork
	everywhere
	nowhere // reserved
)

func reachOf(a ma.Multiaddr) reach {
	if addr, ok := ipOf(a); ok { // an IPv4 address may be dressed up as IPv6
		a, _ = manet.FromIP(addr.AsSlice())
	}
	switch {
	case manet.IsIPLoopback(a):
		return thisMachine
	case manet.IsPrivateAddr(a):
		return thisNetwork
	case manet.IsPublicAddr(a):
		return everywhere
	default:
		return nowhere
	}
}

// nat64 leads to IPv4 addresses that no rule here would see.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func newGate(home peer.AddrInfo, ifs *interfaces) *gate {
	g := &gate{home: home.ID, homeReach: everywhere, homeAddrs: map[netip.Addr]bool{}, interfaces: ifs}
	g.learnHome(home.Addrs)
	g.set(nil)
	return g
}

// learnHome notes where the rendezvous is according to the invite, or to the
// resolver that was asked about the invite's names. It is never told what the
// rendezvous says of itself: a hostile one would send us to other machines.
func (g *gate) learnHome(addrs []ma.Multiaddr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range addrs {
		ip, ok := ipOf(a)
		if !ok || len(g.homeAddrs) >= maxHomeAddrs {
			continue
		}
		g.homeAddrs[ip] = true
		g.homeReach = min(g.homeReach, reachOf(a))
	}
}

func (g *gate) isHome(a ma.Multiaddr) bool {
	ip, ok := ipOf(a)
	g.mu.RLock()
	defer g.mu.RUnlock()
	return ok && g.homeAddrs[ip]
}

func (g *gate) nearness() reach {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.homeReach
}

// set replaces the devices and returns the peers that are no longer among them. A
// libp2p identity that two accounts claim, or that is the rendezvous's, is nobody's:
// those devices are reached through the mailbox. But nobody takes a contact's by being
// in a room with us, nor that of who was in one before him.
func (g *gate) set(devices []device) (gone []peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	byPeer := make(map[peer.ID]device, len(devices))
	byDevice := make(map[protocol.DeviceID]device, len(devices))
	var disputed []peer.ID // nothing proves which of two accounts has the host key
	slices.SortStableFunc(devices, func(a, b device) int { return g.rankOf(a) - g.rankOf(b) })
	for _, d := range devices {
		other, claimed := byPeer[d.peer]
		if _, known := byDevice[d.id]; known || claimed && g.rankOf(d) > g.rankOf(other) {
			continue
		}
		byDevice[d.id] = d
		if d.peer == g.home || claimed && other.account != d.account {
			disputed = append(disputed, d.peer)
		}
		byPeer[d.peer] = d
	}
	for _, p := range disputed {
		delete(byPeer, p)
	}
	for p := range g.byPeer {
		if _, ok := byPeer[p]; !ok {
			gone = append(gone, p)
		}
	}
	g.byPeer, g.byDevice, g.dialed = byPeer, byDevice, map[peer.ID]*dialed{}
	return gone
}

// rankOf sorts contacts' devices to the front, then those that are known already.
func (g *gate) rankOf(d device) int {
	switch {
	case !d.mate:
		return 0
	case g.byPeer[d.peer].account == d.account:
		return 1
	}
	return 2
}

func (g *gate) deviceOf(p peer.ID) (device, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	d, ok := g.byPeer[p]
	return d, ok
}

func (g *gate) device(id protocol.DeviceID) (device, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	d, ok := g.byDevice[id]
	return d, ok
}

func (g *gate) devicesOf(a protocol.AccountID) (all []device) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, d := range g.byDevice {
		if d.account == a {
			all = append(all, d)
		}
	}
	return all
}

func (g *gate) known(p peer.ID) bool {
	_, ok := g.deviceOf(p)
	return ok || p == g.home || g.isRelay(p)
}

// setRelays replaces the relays besides the rendezvous, and where they are.
func (g *gate) setRelays(addrs map[peer.ID][]ma.Multiaddr) {
	relays, names := map[peer.ID]bool{}, map[string]bool{}
	for p, list := range addrs {
		relays[p] = true
		for _, a := range list {
			if first, _ := ma.SplitFirst(a); first != nil && isName(first) {
				names[first.Value()] = true
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.relays, g.names = relays, names
}

func (g *gate) isRelay(p peer.ID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.relays[p]
}

func (g *gate) isRelayName(name string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.names[name]
}

func isName(c *ma.Component) bool {
	switch c.Protocol().Code {
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		return true
	}
	return false
}

// mayDial tells whether an address of a contact's device, or of a relay, is one
// that we would try.
//
// Not dialed are names (a resolver would be asked about them), link-local,
// multicast, unspecified and reserved addresses (cloud metadata is link-local),
// relays that the rendezvous does not list, and loopback, unless the rendezvous is on
// this machine too. Private addresses are dialed on a network we are on, or where the
// rendezvous itself has a private address, as in a company's network.
func (g *gate) mayDial(a ma.Multiaddr) bool {
	if relay, ok := relayOf(a); ok {
		return relay == g.home || g.isRelay(relay)
	}
	addr, ok := ipOf(a)
	if !ok || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast() || nat64.Contains(addr) {
		return false
	}
	if first, _ := ma.SplitFirst(a); first.Protocol().Code == ma.P_IP6ZONE {
		return false
	}
	switch reachOf(a) {
	case thisMachine:
		return g.nearness() == thisMachine
	case thisNetwork:
		return g.nearness() <= thisNetwork || g.interfaces.onLink(addr)
	case everywhere:
		return true
	default: // reserved, unless this very network uses it
		return g.interfaces.onLink(addr)
	}
}

// count notes that a is dialed for p, and tells whether it still may be: few
// addresses per contact's device in a while, and few of all relays together.
func (g *gate) count(p peer.ID, a ma.Multiaddr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.byPeer[p]; !ok {
		return g.relays[p] && g.toRelays.take(string(p)+string(a.Bytes()), relayAddrs, relayAddrsIn)
	}
	d := g.dialed[p]
	if d == nil {
		d = &dialed{}
		g.dialed[p] = d
	}
	return d.take(string(a.Bytes()), addrsPerPeer, addrsPerPeerIn)
}

func (g *gate) InterceptPeerDial(p peer.ID) bool { return g.known(p) }

func (g *gate) InterceptAddrDial(p peer.ID, a ma.Multiaddr) bool {
	if p == g.home {
		return g.isHome(a) || g.mayDial(a)
	}
	return g.mayDial(a) && g.count(p, a)
}

func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured is asked when the other end has proved who it is.
func (g *gate) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.known(p)
}

func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// relayOf tells which relay an address leads through, if it does. Only the
// short form is one: /p2p/RELAY/p2p-circuit, over the connection there is.
func relayOf(a ma.Multiaddr) (relay peer.ID, ok bool) {
	if !isRelayed(a) {
		return "", false
	}
	first, _ := ma.SplitFirst(a)
	if first == nil || first.Protocol().Code != ma.P_P2P {
		return "", true
	}
	relay, err := peer.IDFromBytes(first.RawValue())
	if err != nil {
		return "", true
	}
	return relay, true
}

func isRelayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// ipOf returns the IP address that a begins with.
func ipOf(a ma.Multiaddr) (netip.Addr, bool) {
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(ip)
	return addr.Unmap(), ok
}
