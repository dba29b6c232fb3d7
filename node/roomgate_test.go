package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
)

// Who is in a room with us may connect, but takes no contact's place by claiming its
// libp2p identity or its device.
func TestGateOfMates(t *testing.T) {
	g := newGate(peer.AddrInfo{ID: "home"}, &interfaces{})
	contact := device{account: protocol.AccountID{1}, id: protocol.DeviceID{1}, peer: "contact"}
	mate := func(n byte, p peer.ID) device {
		return device{account: protocol.AccountID{n}, id: protocol.DeviceID{n}, peer: p, mate: true}
	}
	sameDevice := mate(1, "elsewhere")
	g.set([]device{mate(2, "contact"), sameDevice, mate(3, "mate"), mate(4, "two"), mate(5, "two"), mate(6, "home"), contact})
	for p, want := range map[peer.ID]protocol.AccountID{"contact": {1}, "mate": {3}, "elsewhere": {}, "two": {}, "home": {}} {
		if d, ok := g.deviceOf(p); d.account != want || ok != (want != protocol.AccountID{}) {
			t.Errorf("%s is %v", p, d)
		}
	}
	if d, ok := g.device(contact.id); !ok || d != contact {
		t.Errorf("the contact's device is %v", d)
	}
	if gone := g.set([]device{contact}); len(gone) != 1 || gone[0] != "mate" {
		t.Errorf("gone: %v", gone)
	}
}

// Of two members with one libp2p identity the one has it who was in the log first,
// whatever the other became since.
func TestIdentityInARoomIsOfWhoWasFirst(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	somebody := func(id peer.ID) (room.Author, *account.Chain) {
		aik, dsk := key.NewAccount(), key.NewDevice()
		chain, err := account.Create(now, aik, key.NewRecovery().Public())
		if err != nil {
			t.Fatal(err)
		}
		cert, err := account.NewCert(aik, account.Cert{
			Account: chain.Account(), Signing: dsk.Public(), Identity: key.NewIdentity().Public(), PeerID: []byte(id),
			MinProto: 1, MaxProto: 1, Created: now, NotAfter: now.AddDate(1, 0, 0), Name: "laptop",
		})
		if err != nil {
			t.Fatal(err)
		}
		if chain, err = chain.AddDevice(now, aik, cert); err != nil {
			t.Fatal(err)
		}
		return room.Author{Account: chain.Account(), Device: cert.DeviceID(), Key: dsk}, chain
	}
	shared := testPeer(t)
	owner, ownerChain := somebody(testPeer(t))
	first, firstChain := somebody(shared)
	second, secondChain := somebody(shared)
	s, _, err := room.NewRoom(now, owner, ownerChain)
	for _, step := range []struct {
		by room.Author
		op room.Op
	}{
		{owner, room.Invite{Account: first.Account}}, {first, room.Join{Chain: firstChain.Bytes()}},
		{owner, room.Invite{Account: second.Account}}, {second, room.Join{Chain: secondChain.Bytes()}},
		{owner, room.SetRole{Account: second.Account, Role: room.RoleModerator}},
	} {
		if err == nil {
			s, _, err = s.Write(now, step.by, step.op)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := readersOf(s)[shared]; d.ID != first.Device {
		t.Errorf("it is %v's", d.Cert.Account)
	}
}

// The devices of members that may connect come in one order, so that of too many the same
// are left out each time.
func TestMatesKeepTheirOrder(t *testing.T) {
	rooms := newRoomTopics()
	for _, name := range []string{"b", "a"} {
		members := map[peer.ID]device{"home": {}}
		for i := range byte(20) {
			p := peer.ID(name + string('a'+rune(i)))
			members[p] = device{account: protocol.AccountID{1}, peer: p}
		}
		rooms.joined[name] = &roomTopic{members: members}
	}
	all := rooms.mates()
	if sorted := slices.IsSortedFunc(all, func(a, b device) int { return strings.Compare(string(a.peer), string(b.peer)) }); len(all) != 40 || !sorted {
		t.Errorf("%d devices, sorted %v", len(all), sorted)
	}
}

// In a room's topic members are talked to and nobody else: not a contact who is not in
// the room, whatever he subscribes to and however old the protocol is that he speaks.
func TestTopicOfRoomIsForMembers(t *testing.T) {
	me, member, contact := plainHost(t), plainHost(t), plainHost(t)
	g := newGate(peer.AddrInfo{}, &interfaces{})
	g.set([]device{{id: protocol.DeviceID{1}, peer: member.ID(), mate: true}, {id: protocol.DeviceID{2}, peer: contact.ID()}})
	name := protocol.RoomTopic(protocol.RoomID{1})
	rooms := newRoomTopics()
	rooms.joined[name] = &roomTopic{members: map[peer.ID]device{member.ID(): {}}}
	ps, err := newGossip(&Node{ctx: t.Context(), host: me, gate: g}, "heads", &rooms)
	if err != nil {
		t.Fatal(err)
	}
	topic, err := ps.Join(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topic.Relay(); err != nil {
		t.Fatal(err)
	}
	listen := func(h host.Host) *pubsub.Subscription {
		theirs, err := pubsub.NewGossipSub(t.Context(), h, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor())
		if err != nil {
			t.Fatal(err)
		}
		topic, err := theirs.Join(name)
		if err != nil {
			t.Fatal(err)
		}
		sub, err := topic.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Connect(t.Context(), peer.AddrInfo{ID: me.ID(), Addrs: me.Addrs()}); err != nil {
			t.Fatal(err)
		}
		return sub
	}
	say := func(text string, links int, to *pubsub.Subscription) { // until it is heard: it may get lost
		for try := range 10 {
			ready := pubsub.WithReadiness(pubsub.MinTopicSize(links))
			if err := topic.Publish(t.Context(), fmt.Appendf(nil, "%s %d", text, try), ready); err != nil {
				t.Fatal(err)
			}
			patience, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			m, err := to.Next(patience)
			cancel()
			if err != nil {
				continue
			}
			if !strings.HasPrefix(string(m.GetData()), text) {
				t.Errorf("%q was said, heard was %q", text, m.GetData())
			}
			return
		}
		t.Errorf("nobody heard %q", text)
	}
	heard, overheard := listen(member), listen(contact)
	eventually(t, "both have subscribed", func() bool { return len(topic.ListPeers()) == 2 })
	say("for members", 1, heard)
	rooms.mu.Lock()
	rooms.joined[name].members[contact.ID()] = device{}
	rooms.mu.Unlock()
	say("for both", 2, overheard) // and nothing before
	if slices.Contains(me.Mux().Protocols(), pubsub.FloodSubID) {
		t.Error("who speaks the oldest protocol is talked to, whoever it is")
	}
}

// What a peer claims to listen to is remembered of few topics, and of none but ours.
func TestTopicsOfOnePeerAreBounded(t *testing.T) {
	f := &topicFilter{heads: "heads", named: map[peer.ID]map[string]bool{}}
	names := func(n int, name func(int) string) (list []*pb.RPC_SubOpts) {
		for i := range n {
			topic, yes := name(i), true
			list = append(list, &pb.RPC_SubOpts{Topicid: &topic, Subscribe: &yes})
		}
		return list
	}
	room := func(i int) string { return protocol.RoomTopic(protocol.RoomID{byte(i), byte(i >> 8)}) }
	for range 2 {
		taken, err := f.FilterIncomingSubscriptions("loud", names(2*maxTopics, room))
		if err != nil || len(taken) > maxTopics {
			t.Errorf("%d topics taken, %v", len(taken), err)
		}
	}
	both, gone, others := names(maxTopics, room), names(maxTopics, room), names(2*maxTopics, room)[maxTopics:]
	for _, s := range gone {
		s.Subscribe = new(false)
	}
	taken := func(list ...*pb.RPC_SubOpts) int {
		all, err := f.FilterIncomingSubscriptions("moves", list)
		if err != nil {
			t.Error(err)
		}
		return len(all)
	}
	taken(both...)
	if n := taken(append(both, gone...)...) + taken(others...); n != 0 {
		t.Errorf("%d more topics taken of who came and left in one message", n)
	}
	if left, came := taken(gone[:10]...), taken(others...); left != 10 || came != 10 {
		t.Errorf("%d of 10 topics left, %d taken in place of them", left, came)
	}
	for _, s := range others {
		s.Subscribe = new(false)
	}
	taken(gone...)
	if taken(others...); f.named["moves"] != nil {
		t.Errorf("of who listens to nothing %d topics are remembered", len(f.named["moves"]))
	}
	if taken, _ := f.FilterIncomingSubscriptions("quiet", names(3, room)); len(taken) != 3 {
		t.Errorf("of another peer %d topics are taken", len(taken))
	}
	odd := []string{"heads", "/parley/room/1/", "/parley/room/1/zz", "anything"}
	if taken, _ := f.FilterIncomingSubscriptions("odd", names(len(odd), func(i int) string { return odd[i] })); len(taken) != 1 || taken[0].GetTopicid() != "heads" {
		t.Errorf("taken: %v", taken)
	}
}
