package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// While the rendezvous is away, members ask each other what was said in their rooms
// (SPEC "Among members"), and tell those who are connected what they say. A topic alone
// would not do: it tells nobody who connected just now. Asking finds what was said while
// somebody was not connected.

const (
	matesWanted = 3                // connections to members of a room, while there is no rendezvous
	matesAsked  = 8                // members asked one after the other
	mateAgain   = 10 * time.Second // the same member is asked again
	alonePulse  = 20 * time.Second // rooms are looked at while there is no rendezvous
	maxRounds   = 64               // answers of one member, before others have their turn
	roomAnswer  = 384 << 10        // bytes of what is given in one answer
	askCost     = 10               // messages of gossip that a question counts as
)

// handleRoom answers a member's device what this one has of a room.
func (n *Node) handleRoom(s network.Stream) {
	req := &wire.Request{}
	n.answerDevice(s, req, func(from device) (proto.Message, error) {
		page := &wire.RoomPage{}
		err := n.giveRoom(from, req, page)
		if refusal, ok := errors.AsType[*protocol.Error](err); ok {
			return &wire.Response{Code: uint32(refusal.Code), Detail: refusal.Detail, RetryAfterMs: uint64(refusal.RetryAfter.Milliseconds())}, nil
		}
		return &wire.Response{Result: &wire.Response_RoomPage{RoomPage: page}}, err
	})
}

func (n *Node) giveRoom(to device, req *wire.Request, page *wire.RoomPage) error {
	switch {
	case !n.home.wasAsked():
		return protocol.Refuse(protocol.Unavailable, "")
	case !n.rooms.asks.allow(to.peer, askCost, time.Now()):
		e := protocol.Refuse(protocol.RateLimited, "too many questions")
		e.RetryAfter = mateAgain
		return e
	}
	put, log, fill := req.GetPutRoom(), req.GetReadRoom(), req.GetFillRoom() // one of them
	id, err := protocol.FromBytes[protocol.RoomID](slices.Concat(put.GetRoom(), log.GetRoom(), fill.GetRoom()))
	switch {
	case err != nil:
		return protocol.Refuse(protocol.BadRequest, "no id of a room; members give its log and messages, and take messages")
	case put != nil:
		err = n.hearMember(to, id, put.GetMessages())
	case log != nil:
		err = n.giveLog(to, id, log.GetFromSeq(), page)
	default:
		err = n.giveMessages(to, id, fill.GetRanges(), page)
	}
	switch {
	case errors.Is(err, engine.ErrNotInRoom):
		return protocol.Refuse(protocol.UnknownRoom, "no such room for this device")
	case errors.Is(err, engine.ErrBadWants):
		return protocol.Refuse(protocol.BadRequest, "%v", engine.ErrBadWants)
	}
	return err
}

// hearMember takes what a member tells of a room, and tells it on the topic: to those
// who are connected to us and not to him. ErrNotInRoom for who is no member.
func (n *Node) hearMember(from device, id protocol.RoomID, messages [][]byte) error {
	if len(messages) > sendCount {
		return protocol.Refuse(protocol.BadRequest, "too many messages")
	}
	var good [][]byte
	err := n.do(n.ctx, func(tx store.Tx) (all engine.Hint, err error) {
		good = nil
		if err := n.eng.CheckReader(tx, n.now(), id, from.id); err != nil {
			return all, err
		}
		for _, b := range messages {
			h, err := n.eng.HearRoom(tx, n.now(), id, b)
			all.Merge(h)
			_, refused := errors.AsType[*message.Error](err)
			switch {
			case err == nil:
				good = append(good, b)
			case !refused:
				return all, err
			}
		}
		return all, nil
	})
	n.topics.say(n.ctx, id, good)
	return err
}

func (n *Node) giveLog(to device, id protocol.RoomID, from uint64, page *wire.RoomPage) error {
	return n.kv.View(n.ctx, func(tx store.Tx) (err error) {
		page.Entries, err = n.eng.GiveRoomLog(tx, n.now(), id, to.id, from, roomAnswer)
		return err
	})
}

func (n *Node) giveMessages(to device, id protocol.RoomID, asked []*wire.RoomRange, page *wire.RoomPage) error {
	var wants []engine.RoomGap
	for _, r := range asked {
		d, err := protocol.FromBytes[protocol.DeviceID](r.GetDevice())
		if err != nil {
			return protocol.Refuse(protocol.BadRequest, "no id of a device")
		}
		wants = append(wants, engine.RoomGap{Device: d, First: r.GetFirst(), Last: r.GetLast()})
	}
	return n.kv.View(n.ctx, func(tx store.Tx) error {
		list, more, err := n.eng.GiveRoom(tx, n.now(), id, to.id, wants, roomAnswer)
		page.More = more
		for _, b := range list {
			page.Items = append(page.Items, &wire.RoomItem{Message: b})
		}
		return err
	})
}

// askMembers tells members what was said here that they were not told yet, and asks them,
// beside the room's worker: one who does not answer is not to hold up what is said.
func (r *rooms) askMembers(w *roomWorker, said []engine.RoomMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(said); n > 0 {
		told := slices.IndexFunc(said, func(m engine.RoomMessage) bool { return m.ID == w.route.toldLast })
		w.route.toldLast = said[n-1].ID
		said = said[told+1:]
	}
	if len(said) > 0 {
		r.n.goOn(func() { w.tellMembers(r.n.ctx, said) })
	}
	if w.route.asking {
		w.route.askAgain = true
		return
	}
	w.route.asking = r.n.goOn(func() {
		for again := true; again; again = r.askedMembers(w.route) {
			w.amongMembers(r.n.ctx)
		}
	})
}

// tellMembers tells members who are connected what was said.
func (w *roomWorker) tellMembers(ctx context.Context, said []engine.RoomMessage) {
	put := &wire.PutRoom{Room: w.id[:]}
	for _, m := range said {
		put.Messages = append(put.Messages, m.Message)
	}
	var telling errgroup.Group
	telling.SetLimit(matesAsked)
	for _, d := range w.n.topics.matesIn(w.id) {
		if !w.n.dialer.connected(d.peer) {
			continue
		}
		telling.Go(func() error {
			if _, err := w.n.askRoom(ctx, d, &wire.Request{Call: &wire.Request_PutRoom{PutRoom: put}}); err != nil {
				w.n.log.Debug("a member was told in vain", "room", w.id, "device", d.id, "err", err)
			}
			return nil
		})
	}
	telling.Wait()
}

// goOn does something beside its caller, until it is done or the node ends. It returns
// false if the node has ended.
func (n *Node) goOn(fn func()) bool {
	if !n.enter() {
		return false
	}
	go func() {
		defer n.leave()
		fn()
	}()
	return true
}

// askedMembers tells whether they are to be asked once more.
func (r *rooms) askedMembers(s *roomRoute) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	again = s.askAgain && r.n.ctx.Err() == nil
	s.asking, s.askAgain = again, false
	return again
}

// amongMembers asks members who are connected what they have of the room, and connects
// to some of the others if there are few. Whoever is not there, or gives nothing that is
// good, is asked again another time.
func (w *roomWorker) amongMembers(ctx context.Context) {
	mates := w.n.topics.matesIn(w.id)
	rand.Shuffle(len(mates), func(i, j int) { mates[i], mates[j] = mates[j], mates[i] })
	w.meet(ctx, mates)
	asked := 0
	for _, d := range mates {
		if asked == matesAsked || ctx.Err() != nil || w.n.home.isUp() {
			return
		}
		if !w.n.dialer.connected(d.peer) || !w.n.rooms.mayAsk(w.route, d.peer) {
			continue
		}
		asked++
		if err := w.askMember(ctx, d); err != nil {
			w.n.log.Debug("a member was asked in vain", "room", w.id, "device", d.id, "err", err)
		}
	}
}

// meet connects to members if few are connected. Who connects is asked: see wakeRoomsOf.
func (w *roomWorker) meet(ctx context.Context, mates []device) {
	missing := matesWanted
	var others []device
	for _, d := range mates {
		if w.n.dialer.connected(d.peer) {
			missing--
		} else {
			others = append(others, d)
		}
	}
	if !w.n.rooms.mayMeet(w.route) {
		return
	}
	for _, d := range others[:max(0, min(missing, len(others)))] {
		w.n.goOn(func() {
			if err := w.n.dialer.dial(ctx, d); err != nil {
				w.n.log.Debug("a member was not reached", "room", w.id, "device", d.id, "err", err)
			}
		})
	}
}

// askMember takes what one member has of the log, and then of the messages.
func (w *roomWorker) askMember(ctx context.Context, d device) error {
	for range maxRounds {
		plan, err := w.plan(ctx)
		if err != nil || !plan.Follow {
			return err
		}
		page, err := w.n.askRoom(ctx, d, &wire.Request{Call: &wire.Request_ReadRoom{ReadRoom: &wire.ReadRoom{Room: w.id[:], FromSeq: plan.From}}})
		if err != nil || len(page.GetEntries()) == 0 {
			return errors.Join(err, w.askMessages(ctx, d))
		}
		if err := w.takeFrom(ctx, d, engine.RoomPage{Entries: page.GetEntries()}); err != nil {
			return err
		}
		if next, err := w.plan(ctx); err != nil || next.From == plan.From { // what is left it wrote itself
			return errors.Join(err, w.askMessages(ctx, d))
		}
	}
	return nil
}

func (w *roomWorker) askMessages(ctx context.Context, d device) error {
	var before []engine.RoomGap
	for range maxRounds {
		wants, err := read(ctx, w.n.kv, func(tx store.Tx) ([]engine.RoomGap, error) { return w.n.eng.RoomWants(tx, w.n.now(), w.id) })
		if err != nil {
			return fmt.Errorf("read what to ask members for: %w", err)
		}
		if len(wants) == 0 || slices.Equal(wants, before) { // what it gave was of no use
			return nil
		}
		before = wants
		fill := &wire.FillRoom{Room: w.id[:], Ranges: ranges(wants)}
		page, err := w.n.askRoom(ctx, d, &wire.Request{Call: &wire.Request_FillRoom{FillRoom: fill}})
		if err != nil || len(page.GetItems()) == 0 {
			return err
		}
		if err := w.takeFrom(ctx, d, engine.RoomPage{Messages: items(page, false)}); err != nil {
			return err
		}
	}
	return nil
}

func (w *roomWorker) takeFrom(ctx context.Context, d device, page engine.RoomPage) error {
	return w.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		return w.n.eng.TakeRoomFrom(tx, w.n.now(), w.id, d.account, page)
	})
}

// askRoom asks a connected device of a member one question.
func (n *Node) askRoom(ctx context.Context, d device, req *wire.Request) (*wire.RoomPage, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := n.host.NewStream(onlyConnected(ctx), d.peer, protocol.RoomProtocol)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if err := wire.WriteMsg(s, req); err != nil {
		s.Reset()
		return nil, fmt.Errorf("ask a member: %w", err)
	}
	resp := &wire.Response{}
	if err := readFrame(s, resp); err != nil {
		s.Reset()
		return nil, fmt.Errorf("read a member's answer: %w", err)
	}
	return resp.GetRoomPage(), refusalIn(resp)
}

// mayAsk tells whether a member is to be asked now.
func (r *rooms) mayAsk(s *roomRoute, p peer.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(s.mates, func(_ peer.ID, at time.Time) bool { return time.Since(at) > mateAgain })
	if _, lately := s.mates[p]; lately {
		return false
	}
	if s.mates == nil {
		s.mates = map[peer.ID]time.Time{}
	}
	s.mates[p] = time.Now()
	return true
}

// mayMeet tells whether other members are to be dialed now.
func (r *rooms) mayMeet(s *roomRoute) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(s.met) < mateAgain {
		return false
	}
	s.met = time.Now()
	return true
}

// wakeAlone looks at all rooms, if there is no rendezvous.
func (r *rooms) wakeAlone() {
	if r.n.home.isUp() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.states {
		r.wakeLocked(id)
	}
}

// matesIn are the devices of others for whom a room's topic is.
func (t *topics) matesIn(id protocol.RoomID) (list []device) {
	t.rooms.mu.RLock()
	defer t.rooms.mu.RUnlock()
	if r := t.rooms.joined[protocol.RoomTopic(id)]; r != nil {
		for p, d := range r.members {
			if p != t.n.gate.home {
				list = append(list, d)
			}
		}
	}
	return list
}
