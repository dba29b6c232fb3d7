package node_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol/directory"
)

// The rendezvous forks its log between two groups. The first message across the
// divide raises the alarm on both sides, however far the two logs go, with evidence
// that anybody can check; the others of each group have it soon after.
func TestSplitView(t *testing.T) {
	for _, c := range []struct{ left, right int }{{1, 1}, {3, 1}, {1, 3}} {
		t.Run(fmt.Sprintf("%d and %d", c.left, c.right), func(t *testing.T) {
			t.Parallel()
			net := nodetest.NewWith(t, 4, nodetest.Options{Fork: func(i int) bool { return i >= 2 }})
			alice, anna, bob, ben := net.People[0], net.People[1], net.People[2], net.People[3]
			net.Befriend(alice, anna)
			net.Befriend(bob, ben)
			net.Befriend(alice, bob)
			direct(net, alice, bob)
			net.Fork()
			for _, p := range net.People {
				net.Wait(p.Name+" is up again", p.Up)
			}
			grow(t, net, anna, alice, c.left)
			grow(t, net, ben, bob, c.right)
			for _, p := range net.People {
				if list := alarms(t, p); len(list) > 0 {
					t.Fatalf("%s has an alarm already: %+v", p.Name, list)
				}
			}
			home := net.Home.Invite().Peer
			m := alice.Say(bob, "across")
			for _, p := range net.People {
				net.Wait(p.Name+" has evidence", func() bool { return convicts(t, p, home) })
			}
			net.Wait("the message arrives", func() bool { return alice.Message(m.ID).State == api.Delivered })
		})
	}
}

// direct waits for a connection over which messages go without the rendezvous.
func direct(net *nodetest.Net, a, b *nodetest.Person) {
	m := a.Say(b, "hello")
	net.Wait("it arrives", func() bool { return a.Message(m.ID).State == api.Delivered })
	net.Wait("they are connected directly", func() bool { return a.Contact(b.Name).Path == api.Direct })
}

// grow lets the log that a node is shown grow by some entries, which its contact
// makes.
func grow(t *testing.T, net *nodetest.Net, by, seen *nodetest.Person, entries int) {
	t.Helper()
	entry := func() uint64 {
		s, err := seen.Safety(t.Context(), by.Name)
		if err != nil {
			t.Fatal(err)
		}
		if s.Entry == nil {
			return 0
		}
		return *s.Entry
	}
	for range entries {
		before := entry()
		if _, err := by.RenameDevice(t.Context(), by.Whoami().Device, fmt.Sprint("desk ", before)); err != nil {
			t.Fatal(err)
		}
		net.Wait(seen.Name+" has read it", func() bool { return entry() > before })
	}
}

func alarms(t *testing.T, p *nodetest.Person) []api.Alarm {
	t.Helper()
	list, err := p.Alarms(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// convicts tells whether somebody has evidence against a rendezvous.
func convicts(t *testing.T, p *nodetest.Person, home []byte) bool {
	t.Helper()
	return slices.ContainsFunc(alarms(t, p), func(a api.Alarm) bool {
		e, err := directory.CheckEvidence([]byte(a.Evidence))
		return err == nil && e.Kind == directory.Fork && bytes.Equal(e.Log.Host().PeerID(), home)
	})
}

// A head that somebody publishes comes also to those who are connected to them over
// others only, and makes them read on.
func TestTopicReachesFriendsOfFriends(t *testing.T) {
	net := nodetest.New(t, 4)
	alice, bob, carol, dave := net.People[0], net.People[1], net.People[2], net.People[3]
	net.Befriend(alice, dave)
	net.Befriend(alice, bob)
	net.Befriend(carol, bob)
	direct(net, alice, bob)
	direct(net, carol, bob)
	size := func(p *nodetest.Person) uint64 {
		s, err := p.LogStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Size
	}
	before := size(carol)
	var published time.Time
	net.Wait("carol hears it", func() bool {
		if time.Since(published) > 3*time.Second { // what is published before gossipsub has made its mesh is lost
			grow(t, net, dave, alice, 1)
			if err := alice.PublishHead(t.Context()); err != nil {
				t.Fatal(err)
			}
			published = time.Now()
		}
		return carol.TopicSize() == size(alice)
	})
	net.Wait("carol has read on", func() bool { return size(carol) > before })
	for _, p := range net.People {
		if list := alarms(t, p); len(list) > 0 {
			t.Errorf("%s: %+v", p.Name, list)
		}
	}
}
