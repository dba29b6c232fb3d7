package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2p "github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/store"
)

const (
	publishEvery  = 10 * time.Minute // between two heads that this node publishes,
	publishJitter = 2 * time.Minute  // and up to so much more: not all of a group at once
	readEvery     = 10 * time.Minute // between two readings of the log because of what was heard
	maxHeard      = 8                // heads that wait to be judged; more are dropped

	maxTopics   = 512                          // that a peer may name in one message, and in all
	maxGossip   = protocol.MaxEnvelope + 1<<10 // bytes of one message of gossipsub
	gossipPulse = 2 * time.Second              // gossipsub's heartbeat; while nothing is published it sends nothing
	gossipQueue = 256                          // messages for one peer, or to be validated; more are dropped

	gossipPerSec = 100 // messages of one peer that are looked at
	gossipBurst  = 300
)

// topics is what this node hears and says by gossipsub, which reaches the
// devices of contacts that are connected directly, and over them theirs; in rooms those
// of members. It opens no connection, keeps none open, and is never on a relayed one. It
// may lose anything: what must arrive goes by message, or through the room's mailbox.
//
// There is one topic for heads of the directory's log (SPEC "Gossip"), and one of each
// room (see roomtopic.go). Nobody but the rendezvous, which signed a head, vouches for it.
type topics struct {
	n     *Node
	log   directory.Log
	ps    *pubsub.PubSub
	heads *pubsub.Topic
	heard chan directory.Head // to be judged

	read   time.Time // when the log was last read because of a head; only run uses it
	mu     sync.Mutex
	newest directory.Head // of the topic
	judged directory.Head // the last one that was

	rooms roomTopics
}

// newTopics joins the topics. What it starts ends with the node's context.
func newTopics(n *Node) (*topics, error) {
	log, err := directory.NewLog(n.self.Home.Peer)
	if err != nil {
		return nil, fmt.Errorf("log of the rendezvous: %w", err)
	}
	t := &topics{n: n, log: log, heard: make(chan directory.Head, maxHeard), rooms: newRoomTopics()}
	name := "/parley/kt/1/" + log.Origin()
	if t.ps, err = newGossip(n, name, &t.rooms); err != nil {
		return nil, err
	}
	if t.heads, _, err = t.join(name, t.validate, pubsub.WithValidatorInline(true)); err != nil {
		return nil, err
	}
	return t, nil
}

// join joins a topic whose validator has read what it passes on. Stop leaves it.
func (t *topics) join(name string, validate pubsub.ValidatorEx, opts ...pubsub.ValidatorOpt) (topic *pubsub.Topic, stop func(), err error) {
	if err := t.ps.RegisterTopicValidator(name, validate, opts...); err != nil {
		return nil, nil, fmt.Errorf("join %s: %w", name, err)
	}
	topic, err = t.ps.Join(name)
	if err != nil {
		return nil, nil, fmt.Errorf("join %s: %w", name, err)
	}
	leave, err := topic.Relay()
	if err != nil {
		return nil, nil, fmt.Errorf("join %s: %w", name, err)
	}
	return topic, func() {
		leave()
		if err := errors.Join(topic.Close(), t.ps.UnregisterTopicValidator(name)); err != nil && t.n.ctx.Err() == nil {
			t.n.log.Warn("topic not left", "topic", name, "err", err)
		}
	}, nil
}

var (
	errNoMember    = errors.New("no device of ours or of a contact")
	errGossipsFast = errors.New("more messages than are looked at")
)

// gossipPace counts the messages of each peer.
type gossipPace struct {
	mu    sync.Mutex
	peers map[peer.ID]*rate.Limiter // those that said something lately
}

func newGossipPace() *gossipPace { return &gossipPace{peers: map[peer.ID]*rate.Limiter{}} }

// allow tells whether an rpc of so many messages is looked at.
func (g *gossipPace) allow(p peer.ID, messages int, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.peers[p]
	if l == nil {
		maps.DeleteFunc(g.peers, func(_ peer.ID, l *rate.Limiter) bool { return l.TokensAt(now) >= gossipBurst })
		l = rate.NewLimiter(gossipPerSec, gossipBurst)
		g.peers[p] = l
	}
	return l.AllowN(now, max(messages, 1))
}

// newGossip starts gossipsub. Messages name no author: what they hold is signed
// by itself. Peers learn of no other peers. In each topic only those are talked to whom
// it is for; who speaks nothing but the old floodsub is not, as it knows no such choice.
func newGossip(n *Node, heads string, rooms *roomTopics) (*pubsub.PubSub, error) {
	params := pubsub.DefaultGossipSubParams()
	params.HeartbeatInterval = gossipPulse
	pace := newGossipPace()
	known := func(p peer.ID) bool { // not other relays, which may also connect
		_, ok := n.gate.deviceOf(p)
		return ok || p == n.gate.home
	}
	ps, err := pubsub.NewGossipSub(n.ctx, n.host,
		pubsub.WithGossipSubParams(params),
		pubsub.WithGossipSubProtocols(gossipVersions, pubsub.GossipSubDefaultFeatures),
		pubsub.WithPeerExchange(false),
		pubsub.WithPeerFilter(func(p peer.ID, topic string) bool {
			if topic == heads {
				d, ok := n.gate.deviceOf(p)
				return ok && !d.mate || p == n.gate.home
			}
			return rooms.allows(p, topic)
		}),
		pubsub.WithAppSpecificRpcInspector(func(p peer.ID, rpc *pubsub.RPC) error {
			switch {
			case !known(p):
				return errNoMember
			case !pace.allow(p, len(rpc.GetPublish()), time.Now()):
				return errGossipsFast
			}
			return nil
		}),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(&topicFilter{heads: heads, named: map[peer.ID]map[string]bool{}}, maxTopics)),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string {
			id := sha256.Sum256(m.GetData())
			return string(id[:])
		}),
		pubsub.WithPeerOutboundQueueSize(gossipQueue),
		pubsub.WithValidateQueueSize(gossipQueue),
		pubsub.WithMaxMessageSize(maxGossip))
	if err != nil {
		return nil, fmt.Errorf("start gossipsub: %w", err)
	}
	return ps, nil
}

var gossipVersions = []libp2p.ID{pubsub.GossipSubID_v12, pubsub.GossipSubID_v11}

// validate reads a head and decides whether it is passed on: only one that goes
// beyond what the topic has seen, or contradicts it. Every one is judged, but not
// one that says what the last one said.
func (t *topics) validate(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	h, err := t.log.Open(m.GetData())
	if err != nil || !bytes.Equal(m.GetData(), h.Bytes()) { // with another signature it would be another message
		return pubsub.ValidationReject
	}
	if age := t.n.now().Sub(h.Time); age > directory.MaxAge || age < -directory.MaxAge {
		return pubsub.ValidationIgnore
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if from != t.n.host.ID() && (h.Size != t.judged.Size || h.Root != t.judged.Root) {
		select {
		case t.heard <- h:
		default:
		}
	}
	if !news(t.newest, h) {
		return pubsub.ValidationIgnore
	}
	t.newest = h
	return pubsub.ValidationAccept
}

// news tells whether a head says more than one that was seen, or something else.
func news(seen, h directory.Head) bool {
	return h.Size > seen.Size || h.Size == seen.Size && h.Root != seen.Root
}

// run judges the heads that come, and publishes our own when it has grown, until
// ctx ends.
func (t *topics) run(ctx context.Context) error {
	due := time.NewTimer(rand.N(publishJitter))
	defer due.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case h := <-t.heard:
			if err = t.judge(ctx, h); err == nil {
				t.mu.Lock()
				t.judged = h
				t.mu.Unlock()
			}
		case <-due.C:
			err = t.publish(ctx)
			due.Reset(publishEvery + rand.N(publishJitter))
		}
		if err != nil && ctx.Err() == nil {
			t.n.log.Warn("gossip of the log", "err", err)
		}
	}
}

// judge takes in a head. One that goes beyond what was read here makes us read on,
// but not each of a group in which much happens: it waits for the next time.
func (t *topics) judge(ctx context.Context, h directory.Head) error {
	return t.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		hint, err := t.n.eng.HeardHead(tx, t.n.now(), h)
		if hint.Log = hint.Log && time.Since(t.read) >= readEvery; hint.Log {
			t.read = time.Now()
		}
		return hint, err
	})
}

// publish says how far the log is that is shown to us, unless somebody else said
// the same.
func (t *topics) publish(ctx context.Context) error {
	own, err := read(ctx, t.n.kv, t.n.eng.LogHead)
	if err != nil {
		return fmt.Errorf("read the head of the log: %w", err)
	}
	t.mu.Lock()
	said := !news(t.newest, own)
	t.mu.Unlock()
	if said || own.IsZero() || t.n.now().Sub(own.Time) > directory.MaxAge {
		return nil
	}
	if err := t.heads.Publish(ctx, own.Bytes()); err != nil {
		return fmt.Errorf("publish the head of the log: %w", err)
	}
	return nil
}
