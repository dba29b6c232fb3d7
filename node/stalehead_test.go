package node_test

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
)

// What comes while look-ups are refused, here because a clock is wrong, is not lost:
// it is taken in when an answer holds.
func TestMailWhileLookupsAreRefused(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	self, s := where(t, bob).ID, net.Home.Signer()
	net.Home.Lie(nodetest.Lie{Answer: func(to peer.ID, _ *wire.Request, a *wire.Response) {
		f := a.GetFound()
		if to != self || f == nil {
			return
		}
		if h, err := s.Log().Open(f.GetLog().GetHead()); err == nil {
			if late, err := s.Head(h.Size, h.Root, h.Time.Add(-2*directory.MaxAge)); err == nil {
				f.Log.Head = late.Bytes()
			}
		}
	}})
	if _, err := alice.Add(t.Context(), api.AddRequest{Name: bob.Name}); err != nil {
		t.Fatal(err)
	}
	net.Wait("bob is told", noticed(t, bob, engine.NoticeLogStale))
	net.Home.Lie(nodetest.Lie{})
	bob.Stop()
	bob.Start()
	net.Wait("bob has the request", func() bool { return bob.Contact(alice.Name).Relation == api.Incoming })
}
