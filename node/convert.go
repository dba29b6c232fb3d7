package node

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// names turns account ids into the names people know, inside one transaction.
type names struct {
	n     *Node
	tx    store.Tx
	seen  map[protocol.AccountID]string // accounts, and conversations of rooms
	mates map[roommate]string
}

func (n *Node) names(tx store.Tx) names {
	return names{n, tx, map[protocol.AccountID]string{}, map[roommate]string{}}
}

// of returns the name of an account, or its id if it is no longer known; and of a
// conversation that of its room.
func (s names) of(a protocol.AccountID) string {
	if name, ok := s.seen[a]; ok || a == (protocol.AccountID{}) {
		return name
	}
	name := a.String()
	if c, err := s.n.eng.Contact(s.tx, a); err == nil && c.Name != "" {
		name = c.Name
	} else if t, err := s.n.eng.RoomTitle(s.tx, protocol.RoomID(a)); err == nil {
		name = roomName(t)
	}
	s.seen[a] = name
	return name
}

// roomOf returns the room that a conversation is of, if it is of one.
func (s names) roomOf(with protocol.AccountID) (id protocol.RoomID, is bool) {
	return protocol.RoomID(with), strings.HasPrefix(s.of(with), "#") // no name begins so
}

func (s names) message(m engine.Message) api.Message {
	out := api.Message{
		With: s.of(m.With), Position: m.Position, Mine: m.Mine, Text: m.Text, Sent: m.Sent, Recorded: m.Recorded,
		State: api.State(m.State), Path: apiPath(m.Via), Problem: m.Problem, Late: m.Late,
	}
	if m.ID != (protocol.MsgID{}) {
		out.ID = m.ID.String()
	}
	if id, is := s.roomOf(m.With); is {
		out.Room, out.From = id.String(), s.author(id, m)
	}
	s.extras(&out, m)
	out.File = s.file(m.File)
	return out
}

func (s names) event(e engine.Event) api.Event {
	out := api.Event{Seq: e.Seq, Time: e.Time, Kind: e.Kind.String(), With: s.of(e.With), Cause: e.Cause, Text: e.Text, Quiet: e.Quiet}
	if e.Message != nil {
		m := s.message(*e.Message)
		out.Message = &m
	}
	if id, is := s.roomOf(e.With); is || e.Kind == engine.KindRoom { // the latter also of one that was forgotten
		out.Room = id.String()
		if e.Kind == engine.KindRoom {
			out.Text = s.roomEvent(id, e)
		}
	}
	if e.Kind == engine.KindChanged {
		out.By, out.Mine, out.Text = s.in(e.With, e.By), e.By == s.n.self.Account, s.changed(e)
	}
	return out
}

// contactByName finds an account by the name a user typed.
func (n *Node) contactByName(tx store.Tx, name string) (engine.Contact, error) {
	c, err := n.eng.ContactByName(tx, name)
	if errors.Is(err, engine.ErrNotFound) {
		return c, fmt.Errorf("%q: %w", name, engine.ErrNotContact)
	}
	return c, err
}

func apiPath(p engine.Path) api.Path { return api.Path(p.String()) }

func (n *Node) apiContact(c engine.Contact) api.Contact {
	out := api.Contact{
		Name: c.Name, Display: c.Display, Account: c.Account.String(), Relation: c.Relation.String(), Note: c.Note,
		Verified: c.Verified && !c.Held, KeyChanged: c.Held, Unread: c.Unread, Queued: c.Queued, Since: c.Since, Checked: unlessZero(c.Checked),
	}
	if c.Relation == engine.Accepted {
		out.Online, out.Path = n.reach(c.Account)
	}
	return out
}

// reach tells whether an accepted contact is online, nil while nobody can say,
// and how it is connected to us now.
func (n *Node) reach(a protocol.AccountID) (online *bool, path api.Path) {
	for _, d := range n.gate.devicesOf(a) {
		if c := n.dialer.best(d.peer); c != nil {
			yes := true
			return &yes, apiPath(n.pathOf(c))
		}
	}
	if is, known := n.home.presence.of(a); known {
		return &is, ""
	}
	return nil, ""
}

// online is reach for somebody in a room: of who is no contact it is known only while
// there is a connection.
func (n *Node) online(tx store.Tx, a protocol.AccountID) *bool {
	is, _ := n.reach(a)
	c, err := n.eng.Contact(tx, a)
	if is != nil && !*is && (err != nil || c.Relation != engine.Accepted) {
		return nil
	}
	return is
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
