//go:build linux

package natlab

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	firstHost   = 10  // last byte of the address of A1
	firstPublic = 100 // last byte of the address of R1
	firstWAN    = 10  // last byte of a router's first public address
)

func (l *Lab) build(sites Sites, public Public) {
	l.t.Helper()
	l.check(sites, public)
	l.must(os.Mkdir(l.dir, 0o700))
	l.must(os.MkdirAll(etcDir, 0o755))
	l.addNamespace("inet", true)
	l.ip("inet", "link", "add", "r", "type", "bridge")
	l.ip("inet", "link", "set", "r", "up")
	l.ip("inet", "addr", "add", "1.2.3.1/24", "dev", "r")
	for i := range int(public) {
		name := fmt.Sprintf("R%d", i+1)
		l.addHost(name, fmt.Sprintf("1.2.3.%d", firstPublic+i), "1.2.3.1", end{"inet", "w" + name}, "r")
	}
	for _, name := range slices.Sorted(maps.Keys(sites)) {
		l.addSite(name, sites[name])
	}
	l.writeHostsFiles()
}

func (l *Lab) check(sites Sites, public Public) {
	l.t.Helper()
	if public < 0 || public > 50 {
		l.t.Fatalf("natlab: %d public hosts, want 0 to 50", public)
	}
	for name, s := range sites {
		switch {
		case len(name) != 1 || name < "A" || name > "P":
			l.t.Fatalf("natlab: site %q is not a letter from A to P", name)
		case !s.Kind.valid():
			l.t.Fatalf("natlab: site %s has unknown kind %q", name, s.Kind)
		case s.Hosts < 0 || s.Hosts > 200:
			l.t.Fatalf("natlab: site %s has %d hosts, want 1 to 200", name, s.Hosts)
		}
	}
}

// addSite makes a router between inet and a bridge, and hosts on the bridge.
func (l *Lab) addSite(name string, config Site) {
	l.t.Helper()
	config.Hosts = max(config.Hosts, 1)
	s := &site{Site: config, number: 10 * int(name[0]-'A'+1), wan: firstWAN}
	l.sites[name] = s
	router, gateway := "router"+name, s.lan()+".1"
	l.addNamespace(router, true)
	l.addLink(name, end{router, "wan"}, end{"inet", "w" + name})
	l.ip("inet", "addr", "add", fmt.Sprintf("1.2.%d.1/24", s.number), "dev", "w"+name)
	l.ip(router, "addr", "add", s.wanIP()+"/24", "dev", "wan")
	l.ip(router, "route", "add", "default", "via", fmt.Sprintf("1.2.%d.1", s.number))
	l.ip(router, "link", "add", "lan", "type", "bridge")
	l.ip(router, "link", "set", "lan", "up")
	l.ip(router, "addr", "add", gateway+"/24", "dev", "lan")
	l.nft(router, routerRules(s.Kind))
	if !s.Kind.translates() {
		l.ip("inet", "route", "add", s.lan()+".0/24", "via", s.wanIP())
	}
	for i := range s.Hosts {
		host := fmt.Sprintf("%s%d", name, i+1)
		l.addHost(host, fmt.Sprintf("%s.%d", s.lan(), firstHost+i), gateway, end{router, "h" + host}, "lan")
	}
	if s.Kind == BlockedUDP {
		l.UDP(name, false)
	}
}

// routerRules returns the ruleset of a router.
//
// What comes in unasked must be dropped in the input chain too, before
// conntrack confirms it: a router that accepts it keeps an entry for the
// remote address and its own port, the packet a host later sends there clashes
// with that entry and takes another port, and hole punching fails.
func routerRules(k Kind) string {
	if k == None {
		return ""
	}
	rules := `table ip natlab {
	chain input {
		type filter hook input priority 0
		iifname "wan" ct state established,related accept
		iifname "wan" drop
	}
	chain forward {
		type filter hook forward priority 0
		iifname "wan" ct state established,related accept
		iifname "wan" drop
	}
}
`
	if !k.translates() {
		return rules
	}
	masquerade := "masquerade"
	if k == Symmetric {
		masquerade = "masquerade fully-random"
	}
	return rules + `table ip natlab {
	chain leaving {
		type nat hook postrouting priority 100
		oifname "wan" ` + masquerade + `
	}
}
`
}

// addHost makes a host whose eth0 is plugged into a bridge.
func (l *Lab) addHost(name, ip, gateway string, port end, bridge string) {
	l.t.Helper()
	l.hosts[name] = ip
	for _, dir := range []string{"", runDir, tmpDir} {
		l.must(os.Mkdir(filepath.Join(l.dir, name, dir), 0o700))
	}
	l.addNamespace(name, false)
	l.addLink(name, end{name, "eth0"}, port)
	l.ip(port.ns, "link", "set", port.dev, "master", bridge)
	l.ip(name, "addr", "add", ip+"/24", "dev", "eth0")
	l.ip(name, "route", "add", "default", "via", gateway)
}

// addNamespace makes a namespace with loopback and without IPv6.
func (l *Lab) addNamespace(name string, forward bool) {
	l.t.Helper()
	l.must(command("", "ip", "netns", "add", l.ns(name)))
	settings := map[string]string{
		"ipv6/conf/all/disable_ipv6":     "1",
		"ipv6/conf/default/disable_ipv6": "1",
	}
	if forward {
		settings["ipv4/ip_forward"] = "1"
		settings["ipv4/conf/all/rp_filter"] = "0"
		settings["ipv4/conf/default/rp_filter"] = "0"
		settings["ipv4/conf/all/promote_secondaries"] = "1" // for Roam
	}
	l.must(inside(l.ns(name), func() error {
		for key, value := range settings {
			err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
				return err
			}
		}
		return nil
	}))
	l.ip(name, "link", "set", "lo", "up")
}

// writeHostsFiles gives every namespace names for the public servers and no
// resolver. ip netns exec puts these files in the place of those in /etc.
func (l *Lab) writeHostsFiles() {
	l.t.Helper()
	text := "127.0.0.1 localhost\n"
	for _, host := range l.Hosts() {
		if strings.HasPrefix(host, "R") {
			text += fmt.Sprintf("%s %s.natlab.net\n", l.IP(host), strings.ToLower(host))
		}
	}
	for _, host := range l.Hosts() {
		dir := filepath.Join(etcDir, l.ns(host))
		l.must(os.Mkdir(dir, 0o755))
		l.must(os.WriteFile(filepath.Join(dir, "hosts"), []byte(text), 0o644))
		l.must(os.WriteFile(filepath.Join(dir, "resolv.conf"), nil, 0o644))
	}
}

// ip runs the ip program on the inside of a namespace.
func (l *Lab) ip(ns string, args ...string) {
	l.t.Helper()
	l.must(command("", "ip", append([]string{"-n", l.ns(ns)}, args...)...))
}

// nft adds rules in a namespace.
func (l *Lab) nft(ns, rules string) {
	l.t.Helper()
	l.must(command(rules, "ip", "netns", "exec", l.ns(ns), "nft", "-f", "-"))
}

func (l *Lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("natlab: %v", err)
	}
}

// command runs one of the tools to its end.
func command(stdin, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	return nil
}

// inside runs f on a thread that has entered a namespace. Devices and sockets
// that f opens belong to the namespace and may be used from anywhere.
func inside(ns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			home, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer home.Close()
			away, err := os.Open(filepath.Join(netnsDir, ns))
			if err != nil {
				return err
			}
			defer away.Close()
			if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter namespace %s: %w", ns, err)
			}
			err = f()
			// A thread that cannot come home must not run other goroutines:
			// it stays locked and ends with this one.
			if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
				return errors.Join(err, fmt.Errorf("leave namespace %s: %w", ns, back))
			}
			runtime.UnlockOSThread()
			return err
		}()
	}()
	return <-done
}
