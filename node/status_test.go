package node_test

import (
	"os"
	"path/filepath"
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

// Two copies of one device: the rendezvous keeps the newer, and the older does
// not fight it.
func TestCopyOfADeviceIsNoticed(t *testing.T) {
	net := nodetest.New(t, 1)
	alice := net.People[0]
	alice.Stop()
	config := alice.Config
	config.Dir = filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(config.Dir, os.DirFS(alice.Config.Dir)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "vault", "store"} {
		mode := os.FileMode(0o700)
		if path == "vault" {
			mode = 0o600
		}
		if err := os.Chmod(filepath.Join(config.Dir, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	alice.Start()
	net.Wait("alice is connected", alice.Up)
	twin := nodetest.Person{Name: "twin", Config: config}
	net.Adopt(&twin)
	twin.Start()
	net.Wait("one of the two is told", func() bool {
		return problem(t, alice, "in use in another place")() || problem(t, &twin, "older copy")() || problem(t, &twin, "copy of another")()
	})
}
