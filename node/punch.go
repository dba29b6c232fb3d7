package node

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/parley-chat/parley/protocol"
)

// punchAddrs adds to the addresses that are offered in a hole punch.
//
// libp2p offers what the relay saw: one transport only. Most routers keep the
// port, so the same public address with our other listening port is a good
// guess, and the only chance when one end reached the relay by TCP and the
// other by QUIC. And two nodes behind one router reach each other by their
// addresses in its network, which libp2p never offers through a relay. Only
// contacts are told: nobody else has a connection.
type punchAddrs struct {
	gate *gate
	own  func() (listen, interfaces []ma.Multiaddr)
}

func (f punchAddrs) FilterLocal(_ peer.ID, observed []ma.Multiaddr) []ma.Multiaddr {
	listen, local := f.own()
	offer := append([]ma.Multiaddr(nil), observed...)
	for _, o := range observed {
		ip, _ := ma.SplitFirst(o)
		if ip == nil {
			continue
		}
		for _, l := range listen {
			lip, rest := ma.SplitFirst(l)
			if lip != nil && rest != nil && lip.Protocol().Code == ip.Protocol().Code {
				offer = append(offer, ma.Join(ip, rest))
			}
		}
	}
	for _, a := range local {
		if manet.IsPrivateAddr(a) && !manet.IsIPLoopback(a) {
			offer = append(offer, a)
		}
	}
	offer = ma.Unique(offer)
	return offer[:min(len(offer), protocol.MaxAddrs)]
}

func (f punchAddrs) FilterRemote(_ peer.ID, theirs []ma.Multiaddr) []ma.Multiaddr {
	theirs = ma.FilterAddrs(theirs, f.gate.mayDial)
	return theirs[:min(len(theirs), protocol.MaxAddrs)]
}

// punches remembers with whom a hole was punched: nothing in a connection
// tells. Its entries are contacts' devices.
type punches struct {
	mu    sync.Mutex
	began map[peer.ID]time.Time
}

const (
	punchLasts = 15 * time.Second // all attempts of one punch
	maxPunches = protocol.MaxContacts
)

func (p *punches) Trace(e *holepunch.Event) {
	if e.Type != holepunch.StartHolePunchEvtT {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began == nil || len(p.began) >= maxPunches {
		p.began = map[peer.ID]time.Time{} // forgetting makes "hole-punched" read "direct"
	}
	p.began[e.Remote] = time.Now()
}

// made tells whether c is the work of a hole punch. In one network there is no
// hole to punch, whoever began the connection.
func (p *punches) made(c network.Conn) bool {
	if !manet.IsPublicAddr(c.RemoteMultiaddr()) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	began, ok := p.began[c.RemotePeer()]
	opened := c.Stat().Opened
	return ok && opened.After(began) && opened.Sub(began) < punchLasts
}
