package node_test

import (
	"testing"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
)

// Two messages, of two authors, describe a file of one id and name. One is deleted while
// both are fetched: the other arrives.
func TestTwoMessagesWithOneFile(t *testing.T) {
	t.Parallel()
	net := nodetest.NewWith(t, 3, nodetest.Options{Node: func(i int, c *node.Config) { c.FileRate = int64(i) * 2 << 20 }})
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	net.Befriend(alice, bob)
	net.Befriend(carol, bob)
	path, content := someFile(t, "setup.exe", 4<<20)
	first := sendFile(t, alice, "bob", path)
	d, err := alice.Node.File(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	second, err := carol.Node.SendDescribed(t.Context(), "bob", d, path)
	if err != nil {
		t.Fatal(err)
	}
	accept(t, net, bob, first.ID)
	accept(t, net, bob, second)
	for _, id := range []string{first.ID, second} {
		net.Wait("some of it is here", func() bool {
			f := fileOf(t, bob, id)
			return f.Progress != nil && f.Progress.Done > 0
		})
	}
	change(t, carol, second, api.MessageDelete, api.MessageRequest{})
	net.Wait("the second is gone", func() bool { return fileOf(t, bob, second).State == "" })
	gotFile(t, net, bob, first.ID, content)
}
