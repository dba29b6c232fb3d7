package node

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/key"
)

func signer(t *testing.T) directory.Signer {
	t.Helper()
	s, err := directory.NewSigner(key.NewHost())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func head(t *testing.T, s directory.Signer, size uint64, root byte, at time.Time) directory.Head {
	t.Helper()
	h, err := s.Head(size, tlog.Hash{root}, at)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// What is passed on is signed, of this hour, and says more than the topic has seen
// or something else. All that is signed and of this hour is judged, unless more
// comes than can be.
func TestTopicValidator(t *testing.T) {
	const accept, ignore, reject = pubsub.ValidationAccept, pubsub.ValidationIgnore, pubsub.ValidationReject
	own, other, now := signer(t), signer(t), time.Now()
	h := plainHost(t)
	topics := &topics{n: &Node{host: h, now: func() time.Time { return now }}, log: own.Log(), heard: make(chan directory.Head, maxHeard)}
	from := func(p peer.ID, data []byte) pubsub.ValidationResult {
		return topics.validate(t.Context(), p, &pubsub.Message{Message: &pb.Message{Data: data}})
	}
	for _, c := range []struct {
		name   string
		data   []byte
		want   pubsub.ValidationResult
		judged int
	}{
		{"first", head(t, own, 7, 1, now).Bytes(), accept, 1},
		{"the same, later", head(t, own, 7, 1, now.Add(time.Minute)).Bytes(), ignore, 1},
		{"larger", head(t, own, 8, 2, now).Bytes(), accept, 1},
		{"smaller", head(t, own, 7, 1, now).Bytes(), ignore, 1},
		{"another of that size", head(t, own, 8, 3, now).Bytes(), accept, 1},
		{"old", head(t, own, 9, 1, now.Add(-directory.MaxAge-time.Second)).Bytes(), ignore, 0},
		{"of the future", head(t, own, 9, 1, now.Add(directory.MaxAge+2*time.Second)).Bytes(), ignore, 0},
		{"of another log", head(t, other, 9, 1, now).Bytes(), reject, 0},
		{"with a signature of nobody", append(head(t, own, 9, 1, now).Bytes(), "— nobody "+base64.StdEncoding.EncodeToString(make([]byte, 68))+"\n"...), reject, 0},
		{"nothing", nil, reject, 0},
		{"noise", []byte(strings.Repeat("x", maxGossip)), reject, 0},
	} {
		if got := from("somebody", c.data); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := len(topics.heard); got != c.judged {
			t.Errorf("%s: %d heads to be judged", c.name, got)
		}
		for len(topics.heard) > 0 {
			<-topics.heard
		}
	}
	if got := from(h.ID(), head(t, own, 9, 1, now).Bytes()); got != accept || len(topics.heard) != 0 {
		t.Errorf("our own: %v, %d to be judged", got, len(topics.heard))
	}
	topics.judged = head(t, own, 9, 1, now)
	from("somebody", head(t, own, 9, 1, now.Add(time.Minute)).Bytes())
	if len(topics.heard) != 0 {
		t.Error("what was judged is to be judged again")
	}
	if from("somebody", head(t, own, 9, 2, now).Bytes()); len(topics.heard) != 1 {
		t.Error("another of that size is not judged")
	}
	for i := range uint64(2 * maxHeard) {
		from("somebody", head(t, own, 10+i, 1, now).Bytes())
	}
	if len(topics.heard) != maxHeard {
		t.Errorf("%d heads wait", len(topics.heard))
	}
}

func plainHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// Who is no device of a contact or of ours is not listened to, though it may connect.
func TestGossipOfOthersIsIgnored(t *testing.T) {
	a, contact, relay := plainHost(t), plainHost(t), plainHost(t)
	g := newGate(peer.AddrInfo{}, &interfaces{})
	g.set([]device{{peer: contact.ID()}})
	ps, err := newGossip(&Node{ctx: t.Context(), host: a, gate: g}, "topic", &roomTopics{})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := ps.Join("topic")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := topic.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []host.Host{relay, contact} {
		theirs, err := pubsub.NewGossipSub(t.Context(), h, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(), pubsub.WithFloodPublish(true))
		if err != nil {
			t.Fatal(err)
		}
		topic, err := theirs.Join("topic")
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Connect(t.Context(), peer.AddrInfo{ID: a.ID(), Addrs: a.Addrs()}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it can be published to", func() bool { return len(topic.ListPeers()) == 1 })
		if err := topic.Publish(t.Context(), []byte(h.ID())); err != nil {
			t.Fatal(err)
		}
	}
	m, err := sub.Next(t.Context())
	if err != nil || m.ReceivedFrom != contact.ID() {
		t.Errorf("a message of %v, %v", m.ReceivedFrom, err)
	}
}

// Who says too much is not listened to for a while, and the others are. What is
// kept of it does not grow with time.
func TestGossipOfOneIsLimited(t *testing.T) {
	pace := newGossipPace()
	now, heard := time.Now(), 0
	for range 10 * gossipBurst {
		if pace.allow("loud", 1, now) {
			heard++
		}
	}
	if heard != gossipBurst || pace.allow("loud", 0, now) {
		t.Errorf("%d messages are looked at", heard)
	}
	if pace.allow("many at once", gossipBurst+1, now) || !pace.allow("quiet", 1, now) {
		t.Error("one message of another peer is not looked at, or too many are")
	}
	if now = now.Add(time.Second); !pace.allow("loud", gossipPerSec, now) || pace.allow("loud", 1, now) {
		t.Error("a second later it is not as much as a second allows")
	}
	if now = now.Add(time.Hour); !pace.allow("new", 1, now) || len(pace.peers) != 1 {
		t.Errorf("kept of %d peers", len(pace.peers))
	}
}

// A flood of a contact, in rpcs of many messages, is dropped before it is read.
func TestGossipFloodIsDropped(t *testing.T) {
	me, bad := plainHost(t), plainHost(t)
	g := newGate(peer.AddrInfo{}, &interfaces{})
	g.set([]device{{peer: bad.ID()}})
	ps, err := newGossip(&Node{ctx: t.Context(), host: me, gate: g}, "topic", &roomTopics{})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := ps.Join("topic")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := topic.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bad.Connect(t.Context(), peer.AddrInfo{ID: me.ID(), Addrs: me.Addrs()}); err != nil {
		t.Fatal(err)
	}
	s, err := bad.NewStream(t.Context(), me.ID(), "/meshsub/1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	name := "topic"
	send := func(texts ...string) {
		rpc := &pb.RPC{}
		for _, text := range texts {
			rpc.Publish = append(rpc.Publish, &pb.Message{Data: []byte(text), Topic: &name})
		}
		b, err := rpc.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...)); err != nil {
			t.Fatal(err)
		}
	}
	flood := make([]string, gossipBurst+1)
	for i := range flood {
		flood[i] = fmt.Sprint("flood ", i)
	}
	send(flood...)
	send("what is to be heard")
	m, err := sub.Next(t.Context())
	if err != nil || string(m.GetData()) != "what is to be heard" {
		t.Errorf("heard %q, %v", m.GetData(), err)
	}
}

// The streams of gossipsub alone do not keep a connection open.
func TestGossipKeepsNoConnection(t *testing.T) {
	a, b := plainHost(t), plainHost(t)
	for _, h := range []host.Host{a, b} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := newGate(peer.AddrInfo{}, &interfaces{})
		g.set([]device{{peer: a.ID()}, {peer: b.ID()}})
		ps, err := newGossip(&Node{ctx: ctx, host: h, gate: g}, "topic", &roomTopics{})
		if err != nil {
			t.Fatal(err)
		}
		topic, err := ps.Join("topic")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := topic.Relay(); err != nil {
			t.Fatal(err)
		}
		if _, err := ps.Join("another"); err == nil {
			t.Error("a topic that is none of ours is joined")
		}
	}
	b.SetStreamHandler(protocol.MsgProtocol, func(network.Stream) {})
	if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
	conn := a.Network().ConnsToPeer(b.ID())[0]
	gossips := func() (count int) {
		for _, s := range conn.GetStreams() {
			if strings.HasPrefix(string(s.Protocol()), "/meshsub/") {
				count++
			}
		}
		return count
	}
	eventually(t, "both speak gossipsub", func() bool { return gossips() == 2 && len(conn.GetStreams()) == 2 })
	if !idle(conn) {
		t.Error("the connection counts as used")
	}
	if _, err := a.NewStream(t.Context(), b.ID(), protocol.MsgProtocol); err != nil {
		t.Fatal(err)
	}
	if idle(conn) {
		t.Error("a connection that carries messages counts as idle")
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for: %s", what)
		}
	}
}
