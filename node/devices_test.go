package node_test

import (
	"context"
	"errors"
	"os"
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
	net.Wait("all devices agree on what has arrived", func() bool {
		for _, p := range []*nodetest.Person{alice, desk} {
			for _, m := range p.With(bob) {
				if m.Mine && m.State != api.Delivered {
					return false
				}
			}
		}
		return true
	})

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
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "1")
	net.Wait("bob has it", func() bool { return len(shown(bob, "alice")) == 1 })
	alice.Stop()
	twin := &nodetest.Person{Name: "alice", Config: alice.Config}
	twin.Config.Dir = t.TempDir() + "/twin"
	copyDir(t, alice.Config.Dir, twin.Config.Dir)
	net.Adopt(twin)
	alice.Start()
	net.Wait("alice is up", alice.Up)
	twin.Start()
	twin.Reborn()
	net.Wait("the copy is a device", twin.Published)
	net.Wait("bob knows it", noticed(t, bob, engine.NoticeDeviceAdded))
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

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestOTK15_NothingLeavesBeforeTheHello: a folder that was set back has texts to
// send and knows where the contact is. It sends nothing with its old keys: it
// waits for what the rendezvous says.
func TestOTK15_NothingLeavesBeforeTheHello(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "1")
	net.Wait("bob has it", func() bool { return len(shown(bob, "alice")) == 1 })
	bob.Stop()
	alice.Say(bob, "2")
	alice.Stop()
	old := t.TempDir() + "/old"
	copyDir(t, alice.Config.Dir, old)
	bob.Start()
	alice.Start()
	alice.Say(bob, "lost with the state that was left")
	net.Wait("bob has all", func() bool { return len(shown(bob, "alice")) == 3 })
	alice.Stop()
	if err := os.RemoveAll(alice.Config.Dir); err != nil {
		t.Fatal(err)
	}
	copyDir(t, old, alice.Config.Dir)
	alice.Start()
	alice.Say(bob, "3")
	alice.Reborn()
	net.Wait("bob has all again", func() bool {
		return slices.Equal(shown(bob, "alice"), []string{"1", "2", "3", "lost with the state that was left"})
	})
	if noticed(t, bob, engine.CauseReplay)() || noticed(t, bob, engine.CauseBadTag)() || noticed(t, bob, engine.CauseUnknownSession)() {
		t.Error("something was sealed with the old keys")
	}
}

// TestOTK15_TalksWithoutARendezvous: a node that starts and cannot reach the
// rendezvous does not wait for it to talk to contacts.
func TestOTK15_TalksWithoutARendezvous(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "1")
	net.Wait("bob has it", func() bool { return len(shown(bob, "alice")) == 1 })
	net.Wait("directly", func() bool {
		return alice.With(bob)[0].State == api.Delivered && alice.Contact("bob").Path == api.Direct
	})
	alice.Stop()
	net.Home.Stop()
	alice.Start()
	alice.Say(bob, "2")
	bob.Say(alice, "3")
	for _, p := range []*nodetest.Person{alice, bob} {
		other := map[*nodetest.Person]string{alice: "bob", bob: "alice"}[p]
		net.Wait("both have all", func() bool { return slices.Equal(shown(p, other), []string{"1", "2", "3"}) })
	}
}
