package node_test

import (
	"net"
	"slices"
	"testing"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/nodetest"
)

// The rendezvous is down and the contact has another port than ever before:
// only the local network tells where.
func TestLocalNetworkFindsContacts(t *testing.T) {
	needMulticast(t)
	net := nodetest.NewWith(t, 2, nodetest.Options{Node: func(_ int, c *node.Config) { c.Listen, c.LAN = everywhere, true }})
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	net.Home.Stop()
	net.Wait("alice sees that it is down", func() bool { return !alice.Up() })
	bob.Stop()
	alice.Say(bob, "are you there?")
	bob.Start()
	net.Wait("bob has it", has(bob, alice, "are you there?"))
}

// everywhere is where a node listens that is to be found on the local network.
var everywhere = []string{"/ip4/0.0.0.0/udp/0/quic-v1"}

func needMulticast(t *testing.T) {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil || !slices.ContainsFunc(interfaces, func(i net.Interface) bool {
		return i.Flags&(net.FlagUp|net.FlagMulticast|net.FlagLoopback) == net.FlagUp|net.FlagMulticast
	}) {
		t.Skip("no interface for multicast")
	}
}
