package node_test

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// A rendezvous that lies about a room: what it forges or shuffles is not taken, is told
// of once, and what it holds back comes when it tells the truth again. Nobody sees
// anything wrong meanwhile.
func TestRoomOfALiar(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("climbing", alice, bob, carol)
	alice.SayIn(room, "before")
	hear(net, bob, room, "alice: before")
	hear(net, carol, room, "alice: before")
	victim := peerOf(t, carol)

	for _, c := range []struct {
		name  string
		lie   func(*wire.RoomPage)
		cause string // of the event that tells of it; empty: nobody can know
	}{
		{"entries forged", func(p *wire.RoomPage) {
			for _, e := range p.Entries {
				e[len(e)-1] ^= 1
			}
		}, engine.RoomBadLog},
		{"entries shuffled", func(p *wire.RoomPage) {
			if p.Items = nil; len(p.Entries) == 1 {
				p.Entries = nil // there will be two
			}
			slices.Reverse(p.Entries)
		}, engine.RoomBadLog},
		{"entries held back", func(p *wire.RoomPage) { p.Entries = nil }, ""},
		{"messages forged", func(p *wire.RoomPage) {
			for _, item := range p.Items {
				item.Message[len(item.Message)-1] ^= 1
			}
		}, ""},
		{"messages shuffled", func(p *wire.RoomPage) {
			for i := range len(p.Items) / 2 {
				j := len(p.Items) - 1 - i
				p.Items[i].Message, p.Items[j].Message = p.Items[j].Message, p.Items[i].Message
			}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lied atomic.Bool
			net.Home.Lie(nodetest.Lie{Answer: func(to peer.ID, q *wire.Request, a *wire.Response) {
				page := a.GetRoomPage()
				if to != victim || q.GetReadRoom() == nil || len(page.GetEntries())+len(page.GetItems()) == 0 {
					return
				}
				lied.Store(true)
				c.lie(page)
			}})
			before := causes(t, carol, c.cause)
			alice.In(room, api.RoomRotate, api.RoomRequest{})
			alice.In(room, api.RoomRotate, api.RoomRequest{}) // two, that can be shuffled
			for _, text := range []string{"one", "two", "three"} {
				alice.SayIn(room, c.name+" "+text)
			}
			hear(net, bob, room, "alice: "+c.name+" three")
			net.Wait("the lie was told", lied.Load)
			if c.cause != "" {
				net.Wait("carol is told", func() bool { return causes(t, carol, c.cause) > before })
				if r := carol.InRoom(room); r.Problem == "" || r.Stage != api.RoomJoined {
					t.Errorf("carol's room: %+v", r)
				}
			}
			net.Home.Lie(nodetest.Lie{})
			alice.SayIn(room, c.name+" and the truth")
			hear(net, carol, room, "alice: "+c.name+" and the truth")
			net.Wait("all see the same", func() bool { return slices.Equal(sorted(carol.TextsIn(room)), sorted(bob.TextsIn(room))) })
			if r := carol.InRoom(room); r.Problem != "" || r.Forked {
				t.Errorf("afterwards: %+v", r)
			}
			if c.cause != "" && causes(t, carol, c.cause) > before+1 {
				t.Errorf("carol is told %d times", causes(t, carol, c.cause)-before)
			}
		})
	}
}

// A rendezvous that says falsely that somebody was banned costs him nothing for good: when
// it tells of the room again he is in it, as the log has it.
func TestRoomOfAFalseBan(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	room := net.NewRoom("climbing", alice, bob)
	victim := peerOf(t, bob)
	net.Home.Lie(nodetest.Lie{Answer: func(to peer.ID, q *wire.Request, a *wire.Response) {
		if to == victim && (q.GetReadRoom() != nil || q.GetPutRoom() != nil) {
			proto.Reset(a)
			a.Code = uint32(protocol.Banned)
		}
	}})
	bob.SayIn(room, "lost")
	net.Wait("bob is told", func() bool { return bob.InRoom(room).Stage == api.RoomOut })
	alice.In(room, api.RoomRotate, api.RoomRequest{})
	alice.SayIn(room, "meanwhile")
	net.Home.Lie(nodetest.Lie{})
	alice.SayIn(room, "hello")
	hear(net, bob, room, "alice: hello")
	hear(net, bob, room, "alice: meanwhile")
	bob.SayIn(room, "here again")
	hear(net, alice, room, "bob: here again")
}

// A rendezvous that says again and again that others were first, and shows only what is
// known, is not asked without a pause.
func TestRoomMovedNowhere(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	var known atomic.Value // an entry
	net.Home.Lie(nodetest.Lie{Answer: func(_ peer.ID, q *wire.Request, _ *wire.Response) {
		if entry := q.GetAppendRoom().GetEntry(); entry != nil {
			known.CompareAndSwap(nil, entry)
		}
	}})
	room := net.NewRoom("climbing", alice, bob)
	victim := peerOf(t, alice)
	var calls atomic.Int32
	net.Home.Lie(nodetest.Lie{Answer: func(to peer.ID, q *wire.Request, a *wire.Response) {
		if to != victim || q.GetAppendRoom() == nil {
			return
		}
		calls.Add(1)
		proto.Reset(a)
		since := &wire.RoomPage{Entries: [][]byte{known.Load().([]byte)}}
		a.Result = &wire.Response_RoomAppended{RoomAppended: &wire.RoomAppended{Code: uint32(protocol.RoomMoved), Since: since}}
	}})
	alice.In(room, api.RoomRotate, api.RoomRequest{})
	if n := calls.Load(); n == 0 || n > 10 {
		t.Errorf("asked %d times", n)
	}
	net.Home.Lie(nodetest.Lie{})
	net.Wait("it is in the log", func() bool { return alice.InRoom(room).Pending == 0 })
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

func peerOf(t *testing.T, p *nodetest.Person) peer.ID {
	t.Helper()
	id, err := peer.Decode(p.Whoami().PeerID)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// causes counts events of rooms.
func causes(t *testing.T, p *nodetest.Person, cause string) (count int) {
	t.Helper()
	last, err := p.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range p.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == "room" && e.Cause == cause {
			count++
		}
		if e.Seq >= last {
			break
		}
	}
	return count
}
