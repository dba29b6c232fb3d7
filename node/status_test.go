package node_test

import (
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/nodetest"
)

// problem tells whether somebody's status names a problem, and what to do.
func problem(t *testing.T, p *nodetest.Person, text string) func() bool {
	return func() bool {
		s, err := p.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range s.Problems {
			if found.Fix == "" {
				t.Errorf("a problem without a fix: %q", found.Text)
			}
			if strings.Contains(found.Text, text) {
				return true
			}
		}
		return false
	}
}

func TestStatusNamesProblems(t *testing.T) {
	net := nodetest.NewWith(t, 2, nodetest.Options{Node: func(i int, c *node.Config) {
		if i == 1 {
			c.Now = func() time.Time { return time.Now().Add(10 * time.Minute) }
		}
	}})
	alice, bob := net.People[0], net.People[1]
	s, err := alice.Status(t.Context())
	if err != nil || len(s.Problems) != 0 || !s.Rendezvous.Up || s.Prekeys.Published == 0 {
		t.Errorf("a healthy node: %+v, %v", s, err)
	}
	net.Wait("bob is told of his clock", problem(t, bob, "clock is 10m0s ahead"))
	net.Befriend(alice, bob) // it does no harm
	bob.Say(alice, "what time is it?")
	net.Wait("alice has it", has(alice, bob, "what time is it?"))
	net.Home.Stop()
	net.Wait("alice is told that the rendezvous is away", problem(t, alice, "rendezvous cannot be reached"))
	net.Home.Start()
	net.Wait("and that it is back", func() bool { return !problem(t, alice, "")() })
}
