//go:build linux

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/natlab"
)

// natGroup is a rendezvous on a public host and alice and bob at their places.
type natGroup struct {
	*group
	lab        *natlab.Lab
	alice, bob drive.Person
}

func newNATGroup(t *testing.T, sites natlab.Sites, aliceAt, bobAt string) *natGroup {
	natlab.Require(t)
	g := &natGroup{group: newGroup(t), lab: natlab.New(t, sites, natlab.Public(2))}
	for site := range sites {
		g.lab.Delay(site, 10*time.Millisecond, 2*time.Millisecond, 0) // a hole punch is timed by it
	}
	g.in = g.inside("R1")
	g.flags = nil // as a friend with a server would start it
	g.start()
	g.alice = g.join("alice", g.inside(aliceAt)...)
	g.bob = g.join("bob", g.inside(bobAt)...)
	g.must(drive.Befriend(g.ctx, g.alice, g.bob))
	return g
}

// inside is what makes a command run on a host of the lab.
func (g *natGroup) inside(host string) []string {
	args := g.lab.Command(g.ctx, host, "true").Args
	return args[:len(args)-1]
}

// say sends both ways and waits until each has it.
func (g *natGroup) say(text string) {
	g.t.Helper()
	began := time.Now()
	defer func() { g.t.Logf("%q took %v both ways", text, time.Since(began).Round(10*time.Millisecond)) }()
	for from, to := range map[*drive.Person]*drive.Person{&g.alice: &g.bob, &g.bob: &g.alice} {
		line := from.Name + ": " + text
		if _, err := from.Run(g.ctx, "send", to.Name, line); err != nil {
			g.t.Fatal(err)
		}
		g.must(drive.Until(g.ctx, time.Minute, fmt.Sprintf("%s reads %q", to.Name, line), func() bool {
			return slices.Contains(g.texts(*to, from.Name), line)
		}))
	}
}

// awaitPath talks until the live connection between the two is of one of these
// kinds.
func (g *natGroup) awaitPath(want ...api.Path) api.Path {
	g.t.Helper()
	var got api.Path
	n := 0
	g.must(drive.Until(g.ctx, time.Minute, fmt.Sprintf("the path is one of %v", want), func() bool {
		g.say(fmt.Sprint("line ", n))
		n++
		c, err := g.alice.Contact(g.ctx, "bob")
		got = c.Path
		return err == nil && slices.Contains(want, got)
	}))
	return got
}

// relayedOnly asserts that a pair of NATs that cannot be punched through talks
// over the relay, live, and not by way of the mailbox alone.
func (g *natGroup) relayedOnly() {
	g.t.Helper()
	g.awaitPath(api.Relayed)
	messages, err := g.bob.History(g.ctx, "alice")
	g.must(err)
	for _, m := range messages {
		if m.Path == api.Direct || m.Path == api.HolePunched {
			g.t.Errorf("%q went %s through NATs that do not allow it", m.Text, m.Path)
		}
	}
	if !slices.ContainsFunc(messages, func(m api.Message) bool { return m.Path == api.Relayed }) {
		g.t.Errorf("nothing was relayed: %+v", messages)
	}
}

// TestNATHolePunched: two ordinary home routers. The first words go through
// the relay, then the nodes are connected directly; a cut line and a restart
// of the relay heal by themselves.
func TestNATHolePunched(t *testing.T) {
	t.Parallel()
	g := newNATGroup(t, natlab.Sites{"A": {Kind: natlab.Cone}, "B": {Kind: natlab.Cone}}, "A1", "B1")
	g.awaitPath(api.HolePunched)

	g.lab.Cut("A")
	if _, err := g.bob.Run(g.ctx, "send", "alice", "said while the line was cut"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // the length of the cut
	g.lab.Heal("A")
	g.must(drive.Until(g.ctx, time.Minute, "it arrives after the cut", func() bool {
		return slices.Contains(g.texts(g.alice, "bob"), "said while the line was cut")
	}))
	g.say("after the cut")

	g.host.Kill()
	g.start()
	g.say("after the relay came back")
}

// TestNATRelayed: behind one NAT that changes ports nothing can be punched;
// the relay carries the conversation and its restart only interrupts it.
func TestNATRelayed(t *testing.T) {
	t.Parallel()
	g := newNATGroup(t, natlab.Sites{"A": {Kind: natlab.Cone}, "B": {Kind: natlab.Symmetric}}, "A1", "B1")
	g.relayedOnly()
	g.host.Kill()
	g.start()
	g.say("after the relay came back")
	g.relayedOnly()
}

// TestNATStandAloneRelay: a second relay, on another public host, follows the
// rendezvous. When the rendezvous dies, people behind NATs that cannot be punched
// through go on talking over the relay.
func TestNATStandAloneRelay(t *testing.T) {
	t.Parallel()
	g := newNATGroup(t, natlab.Sites{"A": {Kind: natlab.Cone}, "B": {Kind: natlab.Symmetric}}, "A1", "B1")
	id := g.startRelay("R2")
	for _, p := range []drive.Person{g.alice, g.bob} {
		g.must(drive.Until(g.ctx, time.Minute, p.Name+" has a place at the relay", func() bool {
			s, err := p.Status(g.ctx)
			return err == nil && slices.ContainsFunc(s.Relays, func(l api.Link) bool { return l.Up && l.PeerID == id })
		}))
	}
	g.host.Kill()
	g.say("the rendezvous died")
	g.relayedOnly()
	g.start()
	g.say("and is back")
}

// startRelay runs a relay besides the rendezvous, lets it in, and returns its
// name.
func (g *natGroup) startRelay(host string) (id string) {
	g.t.Helper()
	operator := drive.Person{Bin: bin, Dir: filepath.Join(g.dir, "host"), In: g.in}
	var home struct {
		Peer  string   `json:"peer"`
		Addrs []string `json:"addrs"`
	}
	g.must(operator.JSON(g.ctx, &home, "host", "status"))
	args := []string{"relay", "--dir", filepath.Join(g.dir, "relay")}
	for _, addr := range home.Addrs {
		args = append(args, "--follow", addr+"/p2p/"+home.Peer)
	}
	g.lab.Start(g.lab.Command(g.ctx, host, bin, args...))
	var list struct {
		Relays []struct {
			Peer string `json:"peer"`
		} `json:"relays"`
	}
	g.must(drive.Until(g.ctx, time.Minute, "the relay asks to be added", func() bool {
		g.must(operator.JSON(g.ctx, &list, "host", "relays", "list"))
		return len(list.Relays) == 1
	}))
	id = list.Relays[0].Peer
	if _, err := operator.Run(g.ctx, "host", "relays", "add", id); err != nil {
		g.t.Fatal(err)
	}
	return id
}

// TestNATKinds: the other pairs of networks people sit in.
func TestNATKinds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the long list of NATs is skipped with -short")
	}
	direct := []api.Path{api.Direct, api.HolePunched}
	for _, c := range []struct {
		name  string
		sites natlab.Sites
		a, b  string
		want  []api.Path
	}{
		{"symmetric-symmetric", natlab.Sites{"A": {Kind: natlab.Symmetric}, "B": {Kind: natlab.Symmetric}}, "A1", "B1", []api.Path{api.Relayed}},
		{"no UDP-cone", natlab.Sites{"A": {Kind: natlab.BlockedUDP}, "B": {Kind: natlab.Cone}}, "A1", "B1", direct},
		{"no UDP-symmetric", natlab.Sites{"A": {Kind: natlab.BlockedUDP}, "B": {Kind: natlab.Symmetric}}, "A1", "B1", []api.Path{api.Relayed}},
		{"public-symmetric", natlab.Sites{"A": {Kind: natlab.None}, "B": {Kind: natlab.Symmetric}}, "A1", "B1", direct},
		{"firewall-firewall", natlab.Sites{"A": {Kind: natlab.Firewall}, "B": {Kind: natlab.Firewall}}, "A1", "B1", direct},
		{"same home", natlab.Sites{"A": {Kind: natlab.Cone, Hosts: 2}}, "A1", "A2", direct},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			newNATGroup(t, c.sites, c.a, c.b).awaitPath(c.want...)
		})
	}
}
