package node_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/node/vault"
)

// With this variable set the test binary is a node that runs until it is
// killed: its value is the data directory, beside which the key file lies.
const childDir = "PARLEY_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, runChild(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func runChild(dir string) error {
	secret, err := vault.FromKeyFile(dir + ".key")
	if err != nil {
		return err
	}
	n, err := node.New(context.Background(), node.Config{Dir: dir, Secret: secret, Listen: nodetest.Loopback})
	if err != nil {
		return err
	}
	return n.Run(context.Background())
}

// startChild runs a person's node in a process of its own.
func startChild(t *testing.T, p *nodetest.Person) *exec.Cmd {
	t.Helper()
	p.Stop()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childDir+"="+p.Config.Dir)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c
}

// A contact's process is killed: it says no goodbye, and the loss is seen all
// the same, after 27 s without a beat and one ping.
func TestIM10_LossAfterKill(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the rendezvous to miss two beats, 27 s")
	}
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	online := func(want bool) func() bool {
		return func() bool { o := alice.Contact("bob").Online; return o != nil && *o == want }
	}
	bob.Stop()
	net.Wait("bob is offline", online(false))
	child := startChild(t, bob)
	net.Wait("bob is online again", online(true))
	first := alice.Say(bob, "connect to me")
	net.Wait("they are connected", func() bool {
		return alice.Message(first.ID).State == api.Delivered && alice.Contact("bob").Path == api.Direct
	})
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for end := begun.Add(2 * nodetest.Patience); !online(false)() && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	if !online(false)() {
		t.Fatal("alice does not see the loss")
	}
	t.Logf("seen after %v", time.Since(begun).Round(time.Second))

	// A killed node comes back with everything it had acknowledged.
	child.Wait()
	m := alice.Say(bob, "while you were dead")
	bob.Start()
	net.Wait("it arrives", has(bob, alice, "connect to me", "while you were dead"))
	net.Wait("alice knows", reached(alice, m.ID, api.Delivered))
}
