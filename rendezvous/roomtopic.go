package rendezvous

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
)

// The rendezvous is a peer of the topic of every room: what is stored for a room it
// says at once to all devices of members that have a link, and what members say on the
// topic it stores. It speaks gossipsub by itself. The library would tell every peer
// the topics of all rooms, so who is connected would learn which rooms there are; and
// it says what it publishes also to who left. Here nothing is kept of topics at all:
// who hears a message is who is in the room and online when it is stored.

const (
	maxUnsaid  = 1 << 20          // bytes that wait for one device; what comes then is not said to it
	speakAgain = 30 * time.Second // after a device did not listen

	gossipPerSec = 100 // messages of gossipsub that are read from one peer
	gossipBurst  = 500
	knownLately  = 16384 // messages that were said already are not said again
)

// topicEnd is what a device is to be told on the topics of its rooms.
type topicEnd struct {
	wake chan struct{} // capacity 1: there is something to say

	mu        sync.Mutex // guards what follows
	changed   bool       // announced is not what it should be
	announced map[protocol.RoomID]struct{}
	unsaid    [][]byte
	size      int // of unsaid
}

func newTopicEnd() *topicEnd {
	return &topicEnd{wake: make(chan struct{}, 1), announced: map[protocol.RoomID]struct{}{}}
}

// say tells the device a message of gossipsub, unless it does not keep up.
func (t *topicEnd) say(frame []byte) {
	t.mu.Lock()
	if t.size+len(frame) <= maxUnsaid {
		t.unsaid, t.size = append(t.unsaid, frame), t.size+len(frame)
	}
	t.mu.Unlock()
	t.rouse()
}

// announce makes the device be told of which rooms we hear the topics: those rooms
// anew, and what changed since it was told.
func (t *topicEnd) announce(anew ...protocol.RoomID) {
	t.mu.Lock()
	t.changed = true
	for _, id := range anew {
		delete(t.announced, id)
	}
	t.mu.Unlock()
	t.rouse()
}

func (t *topicEnd) rouse() {
	select {
	case t.wake <- struct{}{}:
	default: // the writer is awake already
	}
}

// forget begins anew, for another stream.
func (t *topicEnd) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed, t.announced = true, map[protocol.RoomID]struct{}{}
	t.unsaid, t.size = nil, 0
}

// next returns what there is to say, and whether announcements are behind.
func (t *topicEnd) next() (frames [][]byte, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	frames, changed = t.unsaid, t.changed
	t.unsaid, t.size, t.changed = nil, 0, false
	return frames, changed
}

// announcements are what the device has to be told so that it knows of these rooms, and
// of no others.
func (t *topicEnd) announcements(rooms []store.Room) (frames [][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := map[protocol.RoomID]struct{}{}
	for _, r := range rooms {
		in[r.ID] = struct{}{}
		if _, told := t.announced[r.ID]; !told {
			frames = append(frames, subscription(r.ID, true))
		}
	}
	for id := range t.announced {
		if _, still := in[id]; !still {
			frames = append(frames, subscription(id, false))
		}
	}
	t.announced = in
	return frames
}

// speak says on topics what a device is to be told, until ctx ends. A device that does
// not listen loses it: what is on a topic is read elsewhere too.
func (s *Server) speak(ctx context.Context, l *link) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.topics.wake:
		}
		if s.speakOn(ctx, l) == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(speakAgain):
		}
		l.topics.forget()
	}
}

// speakOn opens a stream and speaks on it until ctx ends, which is no error.
func (s *Server) speakOn(ctx context.Context, l *link) error {
	opening, cancel := context.WithTimeout(ctx, s.cfg.Limits.WriteTimeout)
	defer cancel()
	stream, err := p2p.OpenStream(opening, l.stream.Conn(), protocol.TopicProtocol)
	if err != nil {
		return fmt.Errorf("open stream for topics: %w", err)
	}
	defer stream.Reset()
	defer context.AfterFunc(ctx, func() { stream.Reset() })()
	for {
		frames, changed := l.topics.next()
		if changed {
			rooms, err := s.store.RoomsOf(ctx, l.account)
			if err != nil {
				return fmt.Errorf("read rooms: %w", err)
			}
			frames = append(l.topics.announcements(rooms), frames...)
		}
		for _, frame := range frames {
			stream.SetWriteDeadline(time.Now().Add(s.cfg.Limits.WriteTimeout))
			if _, err := stream.Write(frame); err != nil && ctx.Err() == nil {
				return fmt.Errorf("say on a topic: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.topics.wake:
		}
	}
}

// passOn says messages that were just stored to the members that are online. The device
// that brought them has them.
func (s *Server) passOn(l *liveRoom, to []protocol.AccountID, messages []store.NewRoomMessage, results []store.RoomPut, by protocol.DeviceID) {
	for i, put := range results {
		known := s.said.get(protocol.IDOf(messages[i].Message))
		if put.Code == protocol.OK && known.CompareAndSwap(false, true) {
			s.presence.say(publication(l.id, messages[i].Message), to, by)
		}
	}
}

// handleTopics reads what a node says on topics. Before its hello was welcomed, and of
// rooms that it is not in, nothing is heard.
func (s *Server) handleTopics(stream network.Stream) {
	defer stream.Reset()
	if !s.enter() {
		return
	}
	defer s.leave()
	ctx, cancel := context.WithCancel(s.hearing)
	defer cancel()
	defer context.AfterFunc(ctx, func() { stream.Reset() })()

	pace := rate.NewLimiter(gossipPerSec, gossipBurst)
	r := bufio.NewReader(stream)
	for pace.Wait(ctx) == nil {
		g, err := readGossip(stream, r)
		if err != nil {
			return
		}
		if !s.hellos.isWelcome(stream.Conn()) {
			continue
		}
		if err := s.hearGossip(ctx, stream.Conn(), g); err != nil {
			s.log.Debug("heard on a topic", "err", err)
		}
	}
}

// hearGossip takes in what a registered device says.
func (s *Server) hearGossip(ctx context.Context, c network.Conn, g gossip) (err error) {
	from, member, err := s.device(ctx, c)
	if err != nil || !member {
		return err
	}
	if l := s.presence.link(from.ID); l != nil && len(g.joined) > 0 {
		l.topics.announce(g.joined...) // what we said before it joined was lost
	}
	for id, messages := range g.published {
		if e := s.hearRoom(ctx, from, id, messages); e != nil {
			err = errors.Join(err, fmt.Errorf("topic of room %s: %w", id, e))
		}
	}
	return err
}

// hearRoom stores messages that a member said on the topic, his own or others', as if
// their authors had put them. It says to nobody what becomes of them.
func (s *Server) hearRoom(ctx context.Context, from store.Device, id protocol.RoomID, said [][]byte) error {
	l := s.rooms.hold(id)
	defer s.rooms.release(l)
	if _, err := s.viewRoom(ctx, l); err != nil {
		return err
	}
	l.mu.RLock() // as in putRoom
	defer l.mu.RUnlock()
	v := l.view.Load()
	if _, err := v.member(from); err != nil {
		return err
	}
	var messages []store.NewRoomMessage
	for _, b := range said {
		if s.said.get(protocol.IDOf(b)).Load() {
			continue
		}
		if err := take(s.now(), 1, "messages on topics", s.rates.roomHeard.get(from.ID)); err != nil {
			return err
		}
		verified, err := v.checker().Live(s.now(), b)
		if err != nil {
			continue // others may be good
		}
		m := verified.Message()
		author, _, _ := v.state.AccountOf(m.Device)
		messages = append(messages, store.NewRoomMessage{
			Device: m.Device, Number: m.Number, By: author, Message: b, Expires: s.now().Add(s.cfg.Limits.RoomTTL),
		})
	}
	_, err := s.storeRoomMail(ctx, l, v, messages, from.ID)
	return err
}
