package node

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// interfaces is what networks this machine is on, asked again after a while.
type interfaces struct {
	mu    sync.Mutex
	asked time.Time
	nets  []netip.Prefix
}

const interfacesFresh = 2 * time.Second

// networks returns the addresses of this machine, each with its network, in a
// fixed order. Loopback and link-local ones are left out: they come and go
// without meaning anything.
func (i *interfaces) networks() []netip.Prefix {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Since(i.asked) < interfacesFresh {
		return i.nets
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return i.nets // the last we knew
	}
	var nets []netip.Prefix
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		nets = append(nets, p)
	}
	slices.SortFunc(nets, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	i.asked, i.nets = time.Now(), nets
	return nets
}

// onLink tells whether addr is on a network that this machine is on.
func (i *interfaces) onLink(addr netip.Addr) bool {
	return slices.ContainsFunc(i.networks(), func(n netip.Prefix) bool { return n.Contains(addr) })
}

// own tells whether addr is this machine's.
func (i *interfaces) own(addr netip.Addr) bool {
	return slices.ContainsFunc(i.networks(), func(n netip.Prefix) bool { return n.Addr() == addr })
}
