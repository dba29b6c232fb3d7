package engine

import (
	"errors"
	"maps"
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/store"
)

// roomHome is what the rendezvous keeps of a room: it orders the log and stores each
// message once.
type roomHome struct {
	log      [][]byte
	state    *room.State
	messages []message.Message // the cursor of each is its place, from 1
	known    map[protocol.EnvelopeID]bool
	everIn   map[protocol.AccountID]bool
	lie      func(to *node, page *RoomPage) // changes what it answers; nil: does not
}

func (h *roomHome) clone() *roomHome {
	next := *h
	next.log, next.messages = slices.Clone(h.log), slices.Clone(h.messages)
	next.known, next.everIn = maps.Clone(h.known), maps.Clone(h.everIn)
	return &next
}

// share tells whether two accounts are in one room, or the first was in the second's.
func (r *rendezvous) share(a, b protocol.AccountID) bool {
	for _, h := range r.rooms {
		_, hasB := h.state.Member(b)
		if hasB && h.everIn[a] {
			return true
		}
	}
	return false
}

// append takes the next entry of a log, or tells what is there instead.
func (r *rendezvous) append(raw []byte) (since [][]byte, err error) {
	entry, err := room.ParseEntry(raw)
	r.w.check(err)
	h := r.rooms[entry.Room()]
	if h == nil {
		state, err := room.Open(entry)
		r.w.check(err)
		r.rooms[entry.Room()] = &roomHome{
			log: [][]byte{raw}, state: state,
			known: map[protocol.EnvelopeID]bool{}, everIn: map[protocol.AccountID]bool{entry.Account: true},
		}
		return nil, nil
	}
	if hash, ok := h.state.At(entry.Seq); ok {
		if hash == entry.Hash() {
			return nil, nil
		}
		return h.log[entry.Seq:], nil
	}
	before := h.state
	if err := before.CheckTime(entry, r.w.now); err != nil {
		return nil, err
	}
	if h.state, err = before.Extend(entry); err != nil {
		h.state = before
		return nil, err
	}
	h.log, h.everIn[entry.Account] = append(h.log, raw), true
	r.news(entry.Room(), before, h.state)
	return nil, nil
}

// news hints the devices of everybody who is in a room, or was until now.
func (r *rendezvous) news(id protocol.RoomID, states ...*room.State) {
	for _, n := range r.w.nodes {
		for _, s := range states {
			if _, in := s.Member(n.account()); in && !n.offline {
				n.hint.Rooms = addOnce(n.hint.Rooms, id)
			}
		}
	}
}

// putRoom stores a message.
func (r *rendezvous) putRoom(id protocol.RoomID, b []byte) protocol.Code {
	h := r.rooms[id]
	c := message.Checker{Room: id, Epochs: message.EpochsAt(h.state.Epoch()), Sender: h.state.Sender, Demoted: h.state.Demoted}
	m, err := message.Parse(b)
	r.w.check(err)
	if h.known[m.ID()] {
		return protocol.OK
	}
	switch _, err := c.Live(r.w.now, b); {
	case errors.Is(err, message.ErrPast), errors.Is(err, message.ErrFuture):
		return protocol.StaleEpoch
	case err != nil:
		return protocol.BadRequest
	}
	h.known[m.ID()] = true
	h.messages = append(h.messages, m)
	r.news(id, h.state)
	return protocol.OK
}

// readRoom answers somebody who is in a room, or invited.
func (r *rendezvous) readRoom(n *node, id protocol.RoomID, p RoomPlan, max int) (page RoomPage, ok bool) {
	h := r.rooms[id]
	if h == nil {
		return page, false
	}
	m, in := h.state.Member(n.account())
	if !in && n.e.isGuest() {
		return page, false
	}
	public, _ := key.ParseLinkPublic(p.Link)
	_, byLink := h.state.SignsIn(public, p.Proof, n.account(), n.device())
	if _, before, _ := h.state.AccountOf(n.device()); !in && !byLink && !h.state.Invited(n.account()) && before.IsZero() {
		return page, false
	}
	if p.From < uint64(len(h.log)) {
		page.Entries = slices.Clone(h.log[p.From:])
	}
	for i := p.After; in && i < uint64(len(h.messages)) && len(page.Messages) < max; i++ {
		if h.messages[i].Epoch >= m.Joined {
			page.Messages = append(page.Messages, RoomItem{i + 1, h.messages[i].Bytes()})
		}
	}
	if h.lie != nil {
		h.lie(n, &page)
	}
	return page, true
}

// followRoom does what a program does for a room; it tells whether that changed
// anything.
func (n *node) followRoom(id protocol.RoomID) (busy bool) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.FollowRoom(tx, n.w.now, id) })
	plan := n.roomPlan(id)
	if plan.Append != nil {
		n.appendRoom(id, plan.Append)
		busy = true
	}
	if plan.Guests {
		n.askForGuests(id)
	}
	if !plan.Follow {
		return busy
	}
	for range 100 {
		plan = n.roomPlan(id)
		page, ok := n.w.home.readRoom(n, id, plan, 7)
		if !ok && n.e.isGuest() {
			n.guestRefused(n.w.home.refusalOf(n, id))
		} else if !ok && plan.Link != nil {
			n.do(func(tx store.Tx) (Hint, error) {
				return n.e.RoomTurnedAway(tx, n.w.now, id, protocol.Refuse(protocol.UnknownRoom, ""))
			})
		}
		if !ok {
			break
		}
		if err := n.update(func(tx store.Tx) (Hint, error) { return n.e.TakeRoom(tx, n.w.now, id, page) }); err != nil {
			n.do(func(tx store.Tx) (Hint, error) { return n.e.RoomFailed(tx, n.w.now, id, err) })
			return busy
		}
		if next := n.roomPlan(id); next.From == plan.From && next.After == plan.After {
			break
		}
		busy = true
	}
	n.fillRoom(id)
	return n.sendRoom(id) || busy
}

func (n *node) roomPlan(id protocol.RoomID) (p RoomPlan) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		if p, err = n.e.RoomPlan(tx, n.w.now, id); err == ErrNoRoom { // it was forgotten: only the rendezvous wakes it
			n.hint.Rooms = slices.DeleteFunc(n.hint.Rooms, func(other protocol.RoomID) bool { return other == id })
			return nil
		}
		return err
	})
	return p
}

func (n *node) appendRoom(id protocol.RoomID, entry []byte) {
	n.w.t.Helper()
	what := n.drawFate()
	if what == lost {
		return
	}
	since, err := n.w.home.append(entry)
	if what == ackLost {
		return
	}
	n.do(func(tx store.Tx) (Hint, error) {
		switch {
		case err != nil:
			return n.e.RoomNotAppended(tx, n.w.now, id, entry, protocol.Refuse(protocol.BadRequest, "%v", err))
		case since != nil:
			return n.e.TakeRoom(tx, n.w.now, id, RoomPage{Entries: since})
		}
		return n.e.TakeRoom(tx, n.w.now, id, RoomPage{Entries: [][]byte{entry}})
	})
}

func (n *node) drawFate() fate {
	if n.fate == nil {
		return arrives
	}
	return n.fate()
}

// fillRoom asks for what is missing.
func (n *node) fillRoom(id protocol.RoomID) {
	n.w.t.Helper()
	var gaps []RoomGap
	n.view(func(tx store.Tx) (err error) {
		gaps, err = n.e.RoomGaps(tx, id, 0, 64)
		return err
	})
	h := n.w.home.rooms[id]
	var page RoomPage
	for _, g := range gaps {
		for _, m := range h.messages {
			if m.Device == g.Device && m.Number >= g.First && m.Number <= g.Last {
				page.Messages = append(page.Messages, RoomItem{Message: m.Bytes()})
			}
		}
	}
	if len(page.Messages) > 0 {
		n.do(func(tx store.Tx) (Hint, error) { return n.e.TakeRoom(tx, n.w.now, id, page) })
	}
}

// sendRoom puts messages into the room's mailbox and tells who hears of it live.
func (n *node) sendRoom(id protocol.RoomID) (busy bool) {
	n.w.t.Helper()
	if !n.roomPlan(id).Send {
		return false
	}
	list := n.outbox(id)
	n.noteSealed(id)
	for _, m := range list {
		what := n.drawFate()
		if what == repeated || what == ackLost {
			n.gossip(id, m.Message)
		}
		if what == lost {
			continue
		}
		code := n.w.home.putRoom(id, m.Message)
		if what == ackLost {
			continue
		}
		n.do(func(tx store.Tx) (Hint, error) {
			if code == protocol.OK {
				return n.e.RoomStored(tx, n.w.now, id, []protocol.EnvelopeID{m.ID})
			}
			return n.e.RoomRefused(tx, n.w.now, id, m.ID, protocol.Refuse(code, ""))
		})
	}
	return len(list) > 0
}

// outbox seals what waits.
func (n *node) outbox(id protocol.RoomID) (list []RoomMessage) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (h Hint, err error) {
		list, h, err = n.e.RoomOutbox(tx, n.w.now, id, 256<<10, 8)
		return h, err
	})
	return list
}

// sealedText is what a room message says, and when it was sealed.
type sealedText struct {
	text  string
	by    protocol.DeviceID
	epoch uint64
}

func (n *node) noteSealed(id protocol.RoomID) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		return all(tx, store.Key(tableRoomOut, id[:]), func(pair store.Pair) (bool, error) {
			row, err := decodeRow[roomOutRow](pair.Value)
			if err != nil || len(row.sealed) == 0 {
				return false, err
			}
			h, _, err := loadHistory(tx, Conversation(id), row.position)
			n.w.home.sealed[protocol.IDOf(row.sealed)] = sealedText{h.text, n.device(), row.epoch}
			return true, err
		})
	})
}

// gossip hands a message to everybody who listens.
func (n *node) gossip(id protocol.RoomID, b []byte) {
	n.w.t.Helper()
	for _, m := range n.w.nodes {
		if m == n || !n.reaches(m) {
			continue
		}
		err := m.update(func(tx store.Tx) (Hint, error) { return m.e.HearRoom(tx, n.w.now, id, b) })
		if refused := new(message.Error); err != nil && !errors.Is(err, ErrNoRoom) && !errors.As(err, &refused) {
			n.w.check(err)
		}
	}
}

// gossipAll hands what waits to everybody who listens.
func (n *node) gossipAll(id protocol.RoomID) {
	n.w.t.Helper()
	list := n.outbox(id)
	n.noteSealed(id)
	for _, m := range list {
		n.gossip(id, m.Message)
	}
}

// enter writes an entry at once, whatever the node's engine knows.
func (n *node) enter(id protocol.RoomID, op room.Op) {
	n.w.t.Helper()
	author := room.Author{Account: n.account(), Device: n.device(), Key: n.e.id.DSK}
	_, e, err := n.w.home.rooms[id].state.Write(n.w.now, author, op)
	n.w.check(err)
	_, err = n.w.home.append(e.Bytes())
	n.w.check(err)
}

// What people do with rooms, and see.

func (n *node) createRoom(name string) (id protocol.RoomID) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (h Hint, err error) {
		id, h, err = n.e.CreateRoom(tx, n.w.now, room.About{Name: name})
		return h, err
	})
	return id
}

func (n *node) invite(id protocol.RoomID, other *node) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.InviteToRoom(tx, n.w.now, id, other.account()) })
}

func (n *node) join(id protocol.RoomID) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.JoinRoom(tx, n.w.now, id) })
}

func (n *node) write(id protocol.RoomID, op room.Op) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.WriteRoom(tx, n.w.now, id, op) })
}

func (n *node) say(id protocol.RoomID, text string) {
	n.w.t.Helper()
	n.w.check(n.trySay(id, protocol.NewMsgID(), text))
}

func (n *node) trySay(id protocol.RoomID, msg protocol.MsgID, text string) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.ComposeRoom(tx, n.w.now, id, msg, text) })
}

func (n *node) room(id protocol.RoomID) (r Room) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		r, err = n.e.Room(tx, n.w.now, id)
		return err
	})
	return r
}

// heard is what was said in a room, as a node shows it.
func (n *node) heard(id protocol.RoomID) (list []Message) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		list, err = n.e.History(tx, Conversation(id), 0, 1000)
		return err
	})
	return list
}

func (n *node) roomEvents(cause string) (count int) {
	for _, ev := range n.events(KindRoom) {
		if ev.Cause == cause {
			count++
		}
	}
	return count
}

// roomOf is a world of people who all know the first, in a room that the first made.
func roomOf(t tb, w *world, names ...string) (id protocol.RoomID, nodes []*node) {
	for _, name := range names {
		nodes = append(nodes, w.add(name))
	}
	for _, n := range nodes[1:] {
		w.befriend(nodes[0], n)
	}
	id = nodes[0].createRoom("Climbing")
	w.settle()
	for _, n := range nodes[1:] {
		nodes[0].invite(id, n)
		w.settle()
		n.join(id)
		w.settle()
	}
	for _, n := range nodes {
		if r := n.room(id); r.Stage != RoomJoined || len(r.State.Members()) != len(nodes) {
			t.Fatalf("%s: %s", n.name, r.Stage)
		}
	}
	return id, nodes
}
