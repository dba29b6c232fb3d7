//go:build linux

package natlab

import (
	"fmt"
	"maps"
	"slices"
)

// link is a cable. What passes is decided where packets come out of it, at
// both ends, so the sender never learns that they vanish.
type link struct {
	ends  [2]end
	cut   bool
	noUDP bool
}

type end struct{ ns, dev string }

func (l *Lab) addLink(name string, a, b end) {
	l.t.Helper()
	l.ip(a.ns, "link", "add", a.dev, "type", "veth", "peer", "name", b.dev, "netns", l.ns(b.ns))
	l.ip(a.ns, "link", "set", a.dev, "up")
	l.ip(b.ns, "link", "set", b.dev, "up")
	l.links[name] = &link{ends: [2]end{a, b}}
}

func (l *Lab) link(name string) *link {
	l.t.Helper()
	k, ok := l.links[name]
	if !ok {
		l.t.Fatalf("natlab: no site or host %q in %v", name, slices.Sorted(maps.Keys(l.links)))
	}
	return k
}

// apply replaces the rules at both ends. ARP always passes: if it did not, the
// hosts would be told "no route to host" after a while.
func (l *Lab) apply(k *link) {
	l.t.Helper()
	drop := ""
	if k.noUDP {
		drop += "ip protocol udp drop\n"
	}
	if k.cut {
		drop += "meta protocol ip drop\n"
	}
	for _, e := range k.ends {
		// Declared first so that it can be deleted, all in one transaction.
		table := "table netdev link_" + e.dev
		rules := fmt.Sprintf("%s\ndelete %s\n", table, table)
		if drop != "" {
			rules += fmt.Sprintf("%s {\nchain arriving {\ntype filter hook ingress device %q priority 0\n%s}\n}\n", table, e.dev, drop)
		}
		l.nft(e.ns, rules)
	}
}

// Cut silently drops all packets between a site (A) and the internet, or
// between one host (A2, R1) and everyone else, until Heal.
func (l *Lab) Cut(name string) {
	l.t.Helper()
	k := l.link(name)
	k.cut = true
	l.apply(k)
}

// Heal undoes Cut.
func (l *Lab) Heal(name string) {
	l.t.Helper()
	k := l.link(name)
	k.cut = false
	l.apply(k)
}

// UDP lets UDP pass a site's uplink or a host's link, or silently drops it.
func (l *Lab) UDP(name string, pass bool) {
	l.t.Helper()
	k := l.link(name)
	k.noUDP = !pass
	l.apply(k)
}

// Flush makes a site's router forget all its mappings, as a restart does.
func (l *Lab) Flush(site string) {
	l.t.Helper()
	l.site(site) // must exist
	l.must(command("", "ip", "netns", "exec", l.ns("router"+site), "conntrack", "-F"))
}

// Roam gives a site behind a NAT another public address and returns it. The
// mappings of the old one are lost.
func (l *Lab) Roam(site string) string {
	l.t.Helper()
	s, router := l.site(site), "router"+site
	if !s.Kind.translates() {
		l.t.Fatalf("natlab: site %s is no NAT: its hosts have the public addresses", site)
	}
	if s.wan == 254 {
		l.t.Fatalf("natlab: site %s has used up its public addresses", site)
	}
	old := s.wanIP()
	s.wan++
	// The new address comes first and is promoted when the old one goes, so
	// that there is always a route and no host is told otherwise.
	l.ip(router, "addr", "add", s.wanIP()+"/24", "dev", "wan")
	l.ip(router, "addr", "del", old+"/24", "dev", "wan")
	l.Flush(site)
	return s.wanIP()
}
