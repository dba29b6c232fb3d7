//go:build linux

package natlab

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
)

// Kind says how a site's router treats its hosts.
type Kind string

const (
	// Cone is a home router: private addresses, one public port per socket,
	// unsolicited packets dropped. UDP hole punching works.
	Cone Kind = "cone"
	// Symmetric takes another public port for every destination, so that the
	// address a server sees is of no use to a peer.
	Symmetric Kind = "symmetric"
	// BlockedUDP is Cone with all UDP dropped, as if by UDP(site, false).
	BlockedUDP Kind = "blocked-udp"
	// Firewall does not translate: the hosts have public addresses, and
	// unsolicited packets are dropped.
	Firewall Kind = "firewall"
	// None does nothing: the hosts are public.
	None Kind = "none"
)

func (k Kind) valid() bool {
	return slices.Contains([]Kind{Cone, Symmetric, BlockedUDP, Firewall, None}, k)
}

// translates reports whether hosts have private addresses behind one public one.
func (k Kind) translates() bool { return k != Firewall && k != None }

// Site is a router and the hosts on its LAN. Hosts is their number, at most
// 200; zero means one. They are named after the site: A1, A2 and so on.
type Site struct {
	Kind  Kind
	Hosts int
}

// Sites are the sites of a lab by name, a letter from A to P.
type Sites map[string]Site

// Public is how many public servers a lab has, R1, R2 and so on; at most 50.
type Public int

// Lab is a small internet. Its methods end the test when something fails, so
// they must be called from the goroutine of that test or of a subtest that is
// not parallel.
type Lab struct {
	t     testing.TB
	name  string // what the names of its namespaces begin with
	dir   string // the hosts' directories and the logs of what ran there
	hosts map[string]string
	sites map[string]*site
	links map[string]*link // by site ("A": its uplink) and by host ("A1", "R1")
	logs  int              // log files made by Start
}

type site struct {
	Site
	number int    // second byte of the LAN, third of the public network
	wan    int    // last byte of the router's public address
	delay  *delay // nil: packets leave at once
}

// wanIP is the router's public address.
func (s *site) wanIP() string { return fmt.Sprintf("1.2.%d.%d", s.number, s.wan) }

// lan is the network of the site's hosts without the last byte.
func (s *site) lan() string {
	if s.Kind.translates() {
		return fmt.Sprintf("10.%d.0", s.number)
	}
	return fmt.Sprintf("1.2.%d", s.number+1)
}

var labs atomic.Int64 // labs built by this process, for their names

// New builds a lab and removes it when the test ends, with all processes that
// still run inside. Labs are independent: any number may exist at a time.
// It calls Require.
func New(t testing.TB, sites Sites, public Public) *Lab {
	t.Helper()
	Require(t)
	sweepOnce()
	l := &Lab{
		t:     t,
		name:  fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), labs.Add(1)),
		hosts: map[string]string{},
		sites: map[string]*site{},
		links: map[string]*link{},
	}
	l.dir = filepath.Join(os.TempDir(), l.name)
	t.Cleanup(func() {
		for _, s := range l.sites {
			s.delay.stop()
		}
		if err := remove(l.name); err != nil {
			t.Errorf("natlab: remove lab: %v", err)
		}
	})
	l.build(sites, public)
	return l
}

// Hosts returns the names of all hosts, sorted: A1, A2, B1, R1.
func (l *Lab) Hosts() []string { return slices.Sorted(maps.Keys(l.hosts)) }

// IP returns a host's own address, which is a private one behind a NAT.
func (l *Lab) IP(host string) string {
	l.t.Helper()
	ip, ok := l.hosts[host]
	if !ok {
		l.t.Fatalf("natlab: no host %q in %v", host, l.Hosts())
	}
	return ip
}

// PublicIP returns the address under which a host (A1, R1), or a whole site
// behind a NAT (A), is seen from outside.
func (l *Lab) PublicIP(name string) string {
	l.t.Helper()
	l.link(name) // must exist
	if s, ok := l.sites[name[:1]]; ok && s.Kind.translates() {
		return s.wanIP()
	}
	return l.IP(name)
}

// Dir returns a host's directory. It is the HOME and the working directory of
// what Command runs there.
func (l *Lab) Dir(host string) string {
	l.t.Helper()
	l.IP(host) // must exist
	return filepath.Join(l.dir, host)
}

// ns returns the name of the namespace of a host, a router or "inet".
func (l *Lab) ns(name string) string { return l.name + "-" + name }

func (l *Lab) site(name string) *site {
	l.t.Helper()
	s, ok := l.sites[name]
	if !ok {
		l.t.Fatalf("natlab: no site %q in %v", name, slices.Sorted(maps.Keys(l.sites)))
	}
	return s
}
