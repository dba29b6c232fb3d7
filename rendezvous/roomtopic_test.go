package rendezvous

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"sync"
	"testing"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
)

// gossiper is a device that is online and speaks gossipsub, by the library.
type gossiper struct {
	*device
	link *linkEnd
	ps   *pubsub.PubSub
}

func (d *device) gossip() *gossiper {
	d.t.Helper()
	ps, err := pubsub.NewGossipSub(d.t.Context(), d.host, pubsub.WithFloodPublish(true), pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string {
			id := sha256.Sum256(m.GetData())
			return string(id[:])
		}))
	if err != nil {
		d.t.Fatal(err)
	}
	return &gossiper{d, d.link(), ps}
}

// ear is where a device hears the topic of a room.
type ear struct {
	*gossiper
	topic *pubsub.Topic
	sub   *pubsub.Subscription
}

// hear joins the topic of a room. The rendezvous is a peer there, or not.
func (g *gossiper) hear(p *party) *ear {
	g.t.Helper()
	topic, err := g.ps.Join(protocol.RoomTopic(p.id()))
	if err != nil {
		g.t.Fatal(err)
	}
	sub, err := topic.Subscribe()
	if err != nil {
		g.t.Fatal(err)
	}
	return &ear{g, topic, sub}
}

func (e *ear) hasRendezvous() bool { return len(e.topic.ListPeers()) > 0 }

func (e *ear) awaitRendezvous() *ear {
	e.t.Helper()
	eventually(e.t, "the rendezvous is a peer of the topic", e.hasRendezvous)
	return e
}

// hears expects these messages next.
func (e *ear) hears(want ...[]byte) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	for i, b := range want {
		m, err := e.sub.Next(ctx)
		if err != nil {
			e.t.Fatalf("message %d of %d: %v", i, len(want), err)
		}
		if !bytes.Equal(m.GetData(), b) {
			e.t.Fatalf("message %d is another one", i)
		}
	}
}

// heardNothing expects that nobody else has said anything until now.
func (e *ear) heardNothing() {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	end := []byte("that is all of " + e.topic.String()) // the same would be said once
	if err := e.topic.Publish(e.t.Context(), end, pubsub.WithLocalPublication(true)); err != nil {
		e.t.Fatal(err)
	}
	for {
		m, err := e.sub.Next(ctx)
		if err != nil {
			e.t.Fatal(err)
		}
		if bytes.Equal(m.GetData(), end) {
			return
		}
		if m.ReceivedFrom != e.host.ID() {
			e.t.Errorf("%s heard %x", e.name, m.GetData()[:8])
		}
	}
}

func (e *ear) publish(messages ...[]byte) {
	e.t.Helper()
	for _, m := range messages {
		if err := e.topic.Publish(e.t.Context(), m); err != nil {
			e.t.Fatal(err)
		}
	}
}

// awaitStored waits until the room has these messages, in any order.
func (d *device) awaitStored(p *party, messages ...[]byte) {
	d.t.Helper()
	eventually(d.t, "the messages are stored", func() bool { return len(d.read(p, p.s.Seq()+1, 0).GetItems()) >= len(messages) })
	stored := map[string]bool{}
	for _, m := range messagesOf(d.read(p, p.s.Seq()+1, 0)) {
		stored[string(m)] = true
	}
	for i, m := range messages {
		if !stored[string(m)] || len(stored) != len(messages) {
			d.t.Errorf("message %d is stored: %v; %d are", i, stored[string(m)], len(stored))
		}
	}
}

// What is put is said on the topic to all devices of members that are online, once;
// what is said on the topic is stored, and said to the others.
func TestRoomTopic(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, carol := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol")
	p := newParty(t, alice, bob, carol)
	a, b, c := alice.gossip().hear(p).awaitRendezvous(), bob.gossip().hear(p).awaitRendezvous(), carol.gossip().hear(p).awaitRendezvous()

	a1, a2, b1 := p.message(alice, 1), p.message(alice, 2), p.message(bob, 1)
	alice.say(p, a1)
	alice.say(p, a1, a2)
	b.hears(a1, a2)
	c.hears(a1, a2)
	b.publish(b1)
	c.hears(b1)
	a.hears(b1) // and nothing of its own before
	alice.awaitStored(p, a1, a2, b1)

	if codes, _ := bob.say(p, b1); codes[0] != protocol.OK {
		t.Errorf("put after it was said: %v", codes)
	}
	a3 := p.message(alice, 3)
	alice.say(p, a3)
	c.hears(a3) // b1 was not said again

	// One that came over another member counts for its author.
	a4 := p.message(alice, 4)
	c.publish(a4)
	b.hears(b1, a3, a4) // b1 by itself
	usage, err := s.store.RoomUsage(t.Context(), p.id(), alice.owner)
	if err != nil || usage.Count != 4 {
		t.Errorf("of alice: %v %v", usage, err)
	}
}

// A room that somebody comes into while it is online is on its list of topics at once,
// and off it when it leaves; so are those it was in when it came online, and those whose
// topic it joins late.
func TestRoomTopicMembers(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	p := newParty(t, alice)
	b := bob.gossip().hear(p)
	p.do(alice, room.Invite{Account: bob.owner})
	p.do(bob, room.Join{Chain: bob.chain.Bytes()})
	b.awaitRendezvous()
	a := alice.gossip()
	a1 := p.message(alice, 1)
	alice.say(p, a1)
	b.hears(a1)
	e := a.hear(p).awaitRendezvous()
	b1 := p.message(bob, 1)
	b.publish(b1)
	e.hears(b1)
	p.do(bob, room.Leave{})
	eventually(t, "the rendezvous has left", func() bool { return !b.hasRendezvous() })
}

// A removed member hears nothing that is said after its removal, whatever it joins, and
// what it says is not heard; nor is a stranger, somebody who is in another room, or a
// member without a hello.
func TestRoomTopicOthers(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, mallory, eve := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "mallory"), member(t, s, "eve")
	p, other := newParty(t, alice, bob, mallory), newParty(t, eve)
	b, m, e := bob.gossip().hear(p).awaitRendezvous(), mallory.gossip().hear(p).awaitRendezvous(), eve.gossip()
	eves, outside := e.hear(p), e.hear(other).awaitRendezvous()
	old := p.message(mallory, 1)
	p.do(alice, room.Remove{Account: mallory.owner})

	m.publish(old, p.message(bob, 1)) // of an epoch in flight, and of a member
	eves.publish(old)
	a1 := p.message(alice, 1)
	alice.say(p, a1)
	b.hears(a1)
	eventually(t, "the rendezvous has left", func() bool { return !m.hasRendezvous() })
	p.do(alice, room.Rotate{})
	a2 := p.message(alice, 2)
	alice.say(p, a2)
	b.hears(a2)

	// All that was said to them came before what comes now.
	p2 := newParty(t, alice, mallory, eve)
	m2, e2 := m.gossiper.hear(p2).awaitRendezvous(), e.hear(p2).awaitRendezvous()
	last := p2.message(alice, 1)
	alice.say(p2, last)
	m2.hears(last)
	e2.hears(last)
	m.heardNothing()
	eves.heardNothing()
	outside.heardNothing()
	if eves.hasRendezvous() {
		t.Error("who is not in the room was told of it")
	}
	alice.awaitStored(p, a1, a2)
}

// Nobody is told the topics of others, and a device that has said no hello hears and
// says nothing.
func TestRoomTopicHello(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	p := newParty(t, alice, bob)
	mute := &device{t: t, server: s, dsk: bob.dsk, id: bob.id, owner: bob.owner, host: newPeer(t, s, bob.hosts)} // another connection of bob's
	said := newWiretap(mute)
	stranger := newWiretap(newDevice(t, s, "stranger"))
	mute.sayRaw(publication(p.id(), p.message(bob, 1)), subscription(p.id(), true))

	a := alice.gossip().hear(p).awaitRendezvous()
	a1 := p.message(alice, 1)
	a.publish(a1)
	alice.awaitStored(p, a1)
	said.expectNone()
	stranger.expectNone()
}

// wiretap notes what the rendezvous says to a device on topics.
type wiretap struct {
	t    testing.TB
	mu   sync.Mutex
	said []gossip
}

func newWiretap(d *device) *wiretap {
	w := &wiretap{t: d.t}
	d.host.SetStreamHandler(protocol.TopicProtocol, func(stream network.Stream) {
		defer stream.Reset()
		for r := bufio.NewReader(stream); ; {
			g, err := readGossip(stream, r)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.said = append(w.said, g)
			w.mu.Unlock()
		}
	})
	return w
}

func (w *wiretap) expectNone() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.said) > 0 {
		w.t.Errorf("was told %v", w.said)
	}
}

// sayRaw sends messages of gossipsub and waits until they were read.
func (d *device) sayRaw(frames ...[]byte) {
	d.t.Helper()
	stream := d.open(protocol.TopicProtocol)
	for _, f := range frames {
		if _, err := stream.Write(f); err != nil {
			d.t.Fatal(err)
		}
	}
	stream.CloseWrite()
	if _, err := stream.Read(make([]byte, 1)); err == nil {
		d.t.Error("an answer on a stream of topics")
	}
}

// What breaks the rules of gossipsub or of the room is dropped, and harms nobody.
func TestRoomTopicBad(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(c *Config) { c.Limits.RoomCount = 8 }) // 2 of one account
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	p := newParty(t, alice, bob)
	alice.link()
	bobs := bob.gossip().hear(p).awaitRendezvous()
	forged := p.message(alice, 1)
	forged[len(forged)-1]++
	many := make([][]byte, maxPutItems+1)
	for i := range many {
		many[i] = p.message(bob, uint64(i+1))
	}
	for name, frames := range map[string][][]byte{
		"no length":        {{0x80}},
		"a long one":       {{0xff, 0xff, 0xff, 0x7f}},
		"cut":              {publication(p.id(), many[0])[:50]},
		"no message":       {{2, 0x12, 5}},
		"of no room":       {publication(protocol.RoomID{1}, many[0])},
		"forged":           {publication(p.id(), forged)},
		"nothing":          {publication(p.id(), nil)},
		"of another topic": {publication(newParty(t, alice).id(), many[0])},
	} {
		alice.sayRaw(frames...)
		if page := alice.read(p, p.s.Seq()+1, 0); len(page.GetItems()) > 0 {
			t.Errorf("%s: stored", name)
		}
	}
	var flood [][]byte
	for _, m := range many {
		flood = append(flood, publication(p.id(), m))
	}
	bob.sayRaw(flood...) // what is over the quota of bob's account is not said either
	alice.awaitStored(p, many[0], many[1])
	a1 := p.message(alice, 1)
	alice.say(p, a1)
	bobs.hears(a1)
	alice.awaitStored(p, many[0], many[1], a1)
}

// A device that does not read loses what is said, and costs no more memory than so much.
func TestRoomTopicSlow(t *testing.T) {
	end := newTopicEnd()
	frame := make([]byte, 100<<10)
	for range 100 {
		end.say(frame)
	}
	frames, _ := end.next()
	if len(frames) != maxUnsaid/len(frame) {
		t.Errorf("%d frames wait", len(frames))
	}
	end.say(frame)
	if frames, _ := end.next(); len(frames) != 1 {
		t.Errorf("%d frames, after all were said", len(frames))
	}
}

// FuzzGossip reads anything.
func FuzzGossip(f *testing.F) {
	f.Add(publication(protocol.RoomID{1}, []byte("text"))[1:])
	f.Add(subscription(protocol.RoomID{1}, true)[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := parseGossip(b)
		if err == nil && (len(g.joined) > len(b) || len(g.published) > maxPutItems) {
			t.Errorf("%d rooms, %d messages out of %d bytes", len(g.joined), len(g.published), len(b))
		}
	})
}

// The library reads what is written here.
func TestGossipFrames(t *testing.T) {
	id := protocol.RoomID{7}
	var said, joined pb.RPC
	if err := said.Unmarshal(publication(id, []byte("text"))[1:]); err != nil {
		t.Fatal(err)
	}
	if m := said.GetPublish(); len(m) != 1 || string(m[0].GetData()) != "text" || m[0].GetTopic() != protocol.RoomTopic(id) {
		t.Errorf("published %v", m)
	}
	if err := joined.Unmarshal(subscription(id, true)[1:]); err != nil {
		t.Fatal(err)
	}
	if m := joined.GetSubscriptions(); len(m) != 1 || !m[0].GetSubscribe() || m[0].GetTopicid() != protocol.RoomTopic(id) {
		t.Errorf("joined %v", m)
	}
}
