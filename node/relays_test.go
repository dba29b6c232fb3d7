package node_test

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/store"
)

// undialable are two contacts whom nobody can dial.
func undialable(t *testing.T) (net *nodetest.Net, alice, bob *nodetest.Person) {
	net = nodetest.NewWith(t, 2, nodetest.Options{Node: func(_ int, c *node.Config) { c.Listen = nodetest.NoListen }})
	net.Befriend(net.People[0], net.People[1])
	return net, net.People[0], net.People[1]
}

// holds tells whether somebody can be reached through a relay besides the
// rendezvous.
func holds(t *testing.T, p *nodetest.Person, r *nodetest.Relay) func() bool {
	return func() bool {
		for _, l := range relaysOf(t, p) {
			if l.PeerID == r.PeerID().String() && l.Up {
				return true
			}
		}
		return false
	}
}

func relaysOf(t *testing.T, p *nodetest.Person) []api.Link {
	t.Helper()
	s, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Relays
}

// delivered says something over a relay.
func delivered(t *testing.T, net *nodetest.Net, from, to *nodetest.Person, text string) {
	t.Helper()
	m := from.Say(to, text)
	net.Wait(text+" is delivered", reached(from, m.ID, api.Delivered))
	if got := from.Message(m.ID).Path; got != api.Relayed {
		t.Errorf("%s went by %q, want relayed", text, got)
	}
}

// With the rendezvous away, people behind routers still reach each other.
func TestRelayWithoutRendezvous(t *testing.T) {
	net, alice, bob := undialable(t)
	r := net.NewRelay()
	net.Wait("both have a place at the relay", func() bool { return holds(t, alice, r)() && holds(t, bob, r)() })
	delivered(t, net, alice, bob, "with the rendezvous")
	net.Home.Stop()
	net.Wait("both see that it is away", func() bool { return !alice.Up() && !bob.Up() })
	delivered(t, net, alice, bob, "without it")
	delivered(t, net, bob, alice, "and back")
}

// A rendezvous that starts anew does not know of its relays at once. Who has a
// place there keeps it.
func TestRelayOutlivesRestartOfRendezvous(t *testing.T) {
	net, alice, bob := undialable(t)
	r := net.NewRelay()
	people := []*nodetest.Person{alice, bob}
	since := func() (list []time.Time) {
		for _, p := range people {
			for _, l := range relaysOf(t, p) {
				if l.Up && l.PeerID == r.PeerID().String() {
					list = append(list, *l.Since)
				}
			}
		}
		return list
	}
	net.Wait("both have a place at the relay", func() bool { return len(since()) == len(people) })
	before := since()
	for range 2 {
		net.Home.Stop()
		net.Wait("both see that it is away", func() bool { return !alice.Up() && !bob.Up() })
		net.Home.Start()
		net.Wait("all are back", func() bool { return alice.Up() && bob.Up() && r.Status().Follows })
		delivered(t, net, alice, bob, "after a restart")
		if got := since(); !slices.Equal(got, before) {
			t.Errorf("they have a place since %v, before the restart since %v", got, before)
		}
	}
}

// What the operator and the machines do to a relay, nodes follow by themselves.
func TestRelaysComeAndGo(t *testing.T) {
	net, alice, bob := undialable(t)
	if got := relaysOf(t, alice); len(got) != 0 {
		t.Fatalf("relays where there are none: %v", got)
	}
	first := net.NewRelay()
	both := func(r *nodetest.Relay) func() bool {
		return func() bool { return holds(t, alice, r)() && holds(t, bob, r)() }
	}
	net.Wait("both have a place at the first relay", both(first))
	first.Stop()
	net.Wait("nobody has one", func() bool { return !holds(t, alice, first)() && !holds(t, bob, first)() })
	first.Start()
	net.Wait("both have one again", both(first))

	second := net.NewRelay()
	net.Wait("both know of two", func() bool { return len(relaysOf(t, alice)) == 2 && len(relaysOf(t, bob)) == 2 })
	if err := net.Home.RemoveRelay(t.Context(), first.PeerID()); err != nil {
		t.Fatal(err)
	}
	net.Wait("both use the second", func() bool { return both(second)() && len(relaysOf(t, alice)) == 1 })
	net.Home.Stop()
	net.Wait("both see that the rendezvous is away", func() bool { return !alice.Up() && !bob.Up() })
	delivered(t, net, alice, bob, "by the second")
}

// A revoked token key ends no reservation of who comes with another token, and
// nothing that is said meanwhile is lost.
func TestJWK03_RelayAfterRevocation(t *testing.T) {
	net, alice, bob := undialable(t)
	r := net.NewRelay()
	net.Wait("both have a place at the relay", func() bool { return holds(t, alice, r)() && holds(t, bob, r)() })
	for range 3 {
		status, err := net.Home.KeysStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range status.Keys {
			if k.State == store.KeySigning.String() {
				if _, err := net.Home.RevokeKey(t.Context(), k.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		net.Wait("both are admitted with tokens by the next key", func() bool {
			return r.Status().Admitted == 2 && r.Status().Waiting == 0 && holds(t, alice, r)() && holds(t, bob, r)()
		})
		delivered(t, net, alice, bob, "after a revocation")
	}
	net.Home.Stop()
	net.Wait("both see that the rendezvous is away", func() bool { return !alice.Up() && !bob.Up() })
	delivered(t, net, alice, bob, "without the rendezvous")
}
