package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/store"
)

const (
	maxRoomHeard   = 256              // messages heard that wait for their commit; of more the mailbox is read
	maxMates       = 4096             // devices of members who are no contacts that may connect
	aheadReadEvery = 10 * time.Second // a room's log is read because of what was heard
)

// roomTopics are the topics of the rooms that this account is in.
type roomTopics struct {
	heard chan heardInRoom

	mu     sync.RWMutex
	joined map[string]*roomTopic // by the topic's name
}

// roomTopic is the topic of a room, and whom it is for by the room's log.
type roomTopic struct {
	id      protocol.RoomID
	topic   *pubsub.Topic
	leave   func()
	head    [32]byte // of the log that the rest is from
	members map[peer.ID]device
	checker message.Checker
	asked   time.Time // when the log was last read because of what was heard
}

type heardInRoom struct {
	room    protocol.RoomID
	message []byte
}

func newRoomTopics() roomTopics {
	return roomTopics{heard: make(chan heardInRoom, maxRoomHeard), joined: map[string]*roomTopic{}}
}

// allows tells whether a peer is to be talked to in a topic.
func (r *roomTopics) allows(p peer.ID, topic string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.joined[topic]
	if t == nil {
		return false
	}
	_, member := t.members[p]
	return member
}

// mates are the devices of all who are in a room with us; of too many always the same.
func (r *roomTopics) mates() (all []device) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, name := range slices.Sorted(maps.Keys(r.joined)) {
		members := r.joined[name].members
		for _, p := range slices.Sorted(maps.Keys(members)) {
			if len(all) == maxMates {
				return all
			}
			if d := members[p]; d.account != (protocol.AccountID{}) { // the rendezvous
				all = append(all, d)
			}
		}
	}
	return all
}

// follow makes a room's topic fit its log: joined while the account is in the room, and
// open to the devices that may read there. Who lost that is disconnected, so that it
// begins anew as what it is now.
func (t *topics) follow(ctx context.Context, id protocol.RoomID) error {
	name := protocol.RoomTopic(id)
	var r engine.Room
	var checker message.Checker
	err := t.n.kv.View(ctx, func(tx store.Tx) (err error) {
		if r, err = t.n.eng.Room(tx, t.n.now(), id); err != nil || r.Stage != engine.RoomJoined {
			return err
		}
		checker, err = t.n.eng.RoomChecker(tx, t.n.now(), id)
		return err
	})
	if err != nil && !errors.Is(err, engine.ErrNoRoom) {
		return fmt.Errorf("read a room for its topic: %w", err)
	}
	if r.Stage != engine.RoomJoined {
		return t.leaveRoom(ctx, name)
	}
	t.rooms.mu.RLock()
	before := t.rooms.joined[name]
	t.rooms.mu.RUnlock()
	if before != nil && before.head == r.State.Head() {
		return nil
	}
	now := &roomTopic{id: id, head: r.State.Head(), members: t.members(r), checker: checker}
	if before != nil {
		now.topic, now.leave = before.topic, before.leave
	}
	t.setRoom(name, now)
	if now.topic == nil {
		topic, leave, err := t.join(name, t.validateIn(name), pubsub.WithValidatorInline(true))
		if err != nil {
			t.setRoom(name, nil)
			return err
		}
		t.rooms.mu.Lock()
		now.topic, now.leave = topic, leave
		t.rooms.mu.Unlock()
	}
	return t.membersChanged(ctx, before, now)
}

// members are whom a room's topic is for: the devices that may read, and the rendezvous.
func (t *topics) members(r engine.Room) map[peer.ID]device {
	all := map[peer.ID]device{}
	for p, d := range readersOf(r.State) {
		if p != t.n.gate.home && p != t.n.host.ID() {
			all[p] = device{account: d.Cert.Account, id: d.ID, peer: p, mate: true}
		}
	}
	if peer.ID(r.Home.Peer) == t.n.gate.home {
		all[t.n.gate.home] = device{peer: t.n.gate.home}
	}
	return all
}

// readersOf are the devices that may read, by libp2p identity. Of two with one identity
// the device that was in the log first has it: a certificate does not prove it.
func readersOf(s *room.State) map[peer.ID]room.Device {
	all := map[peer.ID]room.Device{}
	for _, d := range s.Readers() {
		p := peer.ID(d.Cert.PeerID)
		if other, taken := all[p]; !taken || s.DeviceSince(d.ID) < s.DeviceSince(other.ID) {
			all[p] = d
		}
	}
	return all
}

func (t *topics) setRoom(name string, r *roomTopic) {
	t.rooms.mu.Lock()
	defer t.rooms.mu.Unlock()
	if r == nil {
		delete(t.rooms.joined, name)
		return
	}
	t.rooms.joined[name] = r
}

func (t *topics) leaveRoom(ctx context.Context, name string) error {
	t.rooms.mu.RLock()
	before := t.rooms.joined[name]
	t.rooms.mu.RUnlock()
	if before == nil {
		return nil
	}
	t.setRoom(name, nil)
	before.leave()
	return t.membersChanged(ctx, nil, nil)
}

// membersChanged lets those connect who came into a room, and ends the connections of
// those who are out of it.
func (t *topics) membersChanged(ctx context.Context, before, now *roomTopic) error {
	if before != nil && maps.Equal(before.members, now.members) {
		return nil
	}
	if before != nil {
		for p := range before.members {
			if _, still := now.members[p]; !still {
				t.n.host.Network().ClosePeer(p)
			}
		}
	}
	return t.n.refreshPeers(ctx)
}

// say tells messages to those who hear the room's topic now.
func (t *topics) say(ctx context.Context, id protocol.RoomID, list [][]byte) {
	t.rooms.mu.RLock()
	var topic *pubsub.Topic
	if r := t.rooms.joined[protocol.RoomTopic(id)]; r != nil {
		topic = r.topic
	}
	t.rooms.mu.RUnlock()
	if topic == nil {
		return
	}
	for _, m := range list {
		if err := topic.Publish(ctx, m); err != nil && ctx.Err() == nil {
			t.n.log.Debug("message not told on the room's topic", "room", id, "err", err)
		}
	}
}

// wakeRoomsOf says that a device is connected now that is in rooms.
func (t *topics) wakeRoomsOf(p peer.ID) {
	t.rooms.mu.RLock()
	defer t.rooms.mu.RUnlock()
	for _, r := range t.rooms.joined {
		if _, is := r.members[p]; is {
			t.n.rooms.wake(r.id)
		}
	}
}

// validateIn judges what is heard on a room's topic by the log that it was last made to
// fit: it reads no store. What is passed on is also taken in.
func (t *topics) validateIn(name string) pubsub.ValidatorEx {
	return func(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		t.rooms.mu.RLock()
		r := t.rooms.joined[name]
		t.rooms.mu.RUnlock()
		if r == nil {
			return pubsub.ValidationIgnore
		}
		if from == t.n.host.ID() {
			return pubsub.ValidationAccept
		}
		if _, err := r.checker.Live(t.n.now(), m.GetData()); err != nil {
			return t.refuse(name, err)
		}
		select {
		case t.rooms.heard <- heardInRoom{r.id, m.GetData()}:
		default:
			t.n.rooms.wake(r.id)
		}
		return pubsub.ValidationAccept
	}
}

// refuse says what becomes of a message that is not passed on (SPEC "Who is heard").
func (t *topics) refuse(name string, err error) pubsub.ValidationResult {
	switch {
	case errors.Is(err, message.ErrMalformed), errors.Is(err, message.ErrForged):
		return pubsub.ValidationReject
	case errors.Is(err, message.ErrFuture):
		t.readAhead(name)
	}
	return pubsub.ValidationIgnore
}

// readAhead reads a room's log because somebody is ahead of us, or says so: not often.
func (t *topics) readAhead(name string) {
	t.rooms.mu.Lock()
	defer t.rooms.mu.Unlock()
	r := t.rooms.joined[name]
	if r == nil || time.Since(r.asked) < aheadReadEvery {
		return
	}
	r.asked = time.Now()
	t.n.rooms.wake(r.id)
}

// hearRooms takes in what was heard on topics of rooms, until ctx ends.
func (t *topics) hearRooms(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case first := <-t.rooms.heard:
			batch := t.batchFrom(first)
			err := t.n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return t.take(tx, batch) })
			if err == nil || ctx.Err() != nil {
				continue
			}
			t.n.log.Warn("messages of rooms not taken live", "err", err)
			for _, m := range batch { // the mailbox has them
				t.n.rooms.wake(m.room)
			}
		}
	}
}

// batchFrom collects what is committed together.
func (t *topics) batchFrom(first heardInRoom) []heardInRoom {
	batch, size := []heardInRoom{first}, len(first.message)
	for len(batch) < batchCount && size < batchBytes {
		select {
		case m := <-t.rooms.heard:
			batch = append(batch, m)
			size += len(m.message)
		default:
			return batch
		}
	}
	return batch
}

func (t *topics) take(tx store.Tx, batch []heardInRoom) (all engine.Hint, err error) {
	for _, m := range batch {
		h, err := t.n.eng.HearRoom(tx, t.n.now(), m.room, m.message)
		if _, refused := errors.AsType[*message.Error](err); err != nil && !refused && !errors.Is(err, engine.ErrNoRoom) {
			return all, err
		}
		all.Merge(h)
	}
	return all, nil
}

// topicFilter decides which subscriptions are remembered: of rooms all, as a peer may
// know of a room before we do, but not more than maxTopics of each.
type topicFilter struct {
	heads string

	mu    sync.Mutex
	named map[peer.ID]map[string]bool // the topics that a peer says it listens to
}

func (f *topicFilter) CanSubscribe(topic string) bool {
	_, isRoom := protocol.RoomOfTopic(topic)
	return topic == f.heads || isRoom
}

func (f *topicFilter) FilterIncomingSubscriptions(from peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	named := f.named[from]
	if named == nil {
		named = map[string]bool{}
	}
	kept := slices.DeleteFunc(pubsub.FilterSubscriptions(subs, f.CanSubscribe), func(s *pb.RPC_SubOpts) bool {
		topic := s.GetTopicid()
		if !s.GetSubscribe() {
			delete(named, topic)
			return false
		}
		if !named[topic] && len(named) >= maxTopics {
			return true
		}
		named[topic] = true
		return false
	})
	if f.named[from] = named; len(named) == 0 {
		delete(f.named, from)
	}
	return kept, nil
}
