package node_test

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"testing"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
)

func shown(p *nodetest.Person, with string) (list []string) {
	messages, err := p.History(context.Background(), with, 0, 1000)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		list = append(list, m.Text)
	}
	slices.Sort(list)
	return list
}

// TestIM05_LinkedDevice: another device gets contacts, the past, and everything
// from then on; revoked, it gets nothing and ends.
func TestIM05_LinkedDevice(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "1")
	desk := alice.Link("desk", true)
	everywhere := func(want ...string) {
		t.Helper()
		net.Wait("all devices show the same", func() bool {
			return slices.Equal(shown(alice, "bob"), want) && slices.Equal(shown(desk, "bob"), want) && slices.Equal(shown(bob, "alice"), want)
		})
	}
	everywhere("1")
	desk.Say(bob, "2")
	bob.Say(alice, "3")
	alice.Say(bob, "4")
	everywhere("1", "2", "3", "4")

	if _, err := desk.RecoveryWords(t.Context()); codeOf(err) != api.ErrConflict {
		t.Errorf("the recovery words on a device that was added: %v", err)
	}
	if _, err := alice.RevokeDevice(t.Context(), "desk", "lost"); err != nil {
		t.Fatal(err)
	}
	if err := desk.Ended(); !errors.Is(err, engine.ErrRevoked) {
		t.Errorf("the revoked node ended with %v", err)
	}
	bob.Say(alice, "5")
	net.Wait("alice goes on", func() bool { return len(shown(alice, "bob")) == 5 })
	devices, err := alice.Devices(t.Context())
	if err != nil || len(devices) != 1 {
		t.Errorf("devices %+v, %v", devices, err)
	}
}

// TestOTK15_CopyBecomesAnotherDevice: of a folder and its copy, both running,
// one becomes a new device, and both go on.
func TestOTK15_CopyBecomesAnotherDevice(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "1")
	net.Wait("bob has it", func() bool { return len(shown(bob, "alice")) == 1 })
	alice.Stop()
	twin := &nodetest.Person{Name: "alice", Config: alice.Config}
	twin.Config.Dir = t.TempDir() + "/twin"
	if out, err := exec.Command("cp", "-a", alice.Config.Dir, twin.Config.Dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	net.Adopt(twin)
	alice.Start()
	net.Wait("alice is up", alice.Up)
	twin.Start()
	twin.Reborn()
	net.Wait("the copy is a device", twin.Published)
	bob.Say(alice, "2")
	twin.Say(bob, "3")
	alice.Say(bob, "4")
	net.Wait("bob has all", func() bool { return slices.Equal(shown(bob, "alice"), []string{"1", "2", "3", "4"}) })
	for _, p := range []*nodetest.Person{alice, twin} {
		net.Wait("both have what is new", func() bool { return slices.Contains(shown(p, "bob"), "2") && slices.Contains(shown(p, "bob"), "3") })
	}
	if a, b := alice.Whoami(), twin.Whoami(); a.Device == b.Device || a.Account != b.Account {
		t.Errorf("%+v and %+v", a, b)
	}
	own, err := twin.Devices(t.Context())
	if err != nil || len(own) != 2 || !slices.ContainsFunc(own, func(d api.Device) bool { return d.This }) {
		t.Errorf("devices %+v, %v", own, err)
	}
}
