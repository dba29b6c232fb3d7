package engine

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// TestRoomsAnyNetworkAnyCrash lets the members of a room write, come, go and be
// removed over a network that loses and doubles, while processes die and links are
// cut. After it heals all who are in the room agree about it; each has, once and in
// the order of its author, all that was said while it could read, and nothing else.
func TestRoomsAnyNetworkAnyCrash(t *testing.T) {
	origin := newWorld(t)
	id, _ := roomOf(t, origin, "alice", "bob", "carol", "dave")
	rapid.Check(t, func(rt *rapid.T) {
		c := &roomChaos{t: rt, w: origin.clone(rt), id: id, said: map[*node][]string{}}
		c.run()
		c.heal()
		c.verify()
	})
}

type roomChaos struct {
	t    *rapid.T
	w    *world
	id   protocol.RoomID
	said map[*node][]string // in the order of composing
}

func (c *roomChaos) run() {
	for _, n := range c.w.nodes {
		n.fate = func() fate { return fates[rapid.IntRange(0, len(fates)-1).Draw(c.t, "fate")] }
		n.crash = func() bool { return rapid.IntRange(0, 99).Draw(c.t, "crash") == 99 }
	}
	actions := map[string]func(n *node){
		"say":     c.say,
		"burst":   func(n *node) { c.say(n); c.say(n); c.say(n) },
		"step":    func(n *node) { n.step() },
		"settle":  func(*node) { c.steps() },
		"offline": func(n *node) { n.offline = !n.offline },
		"away":    func(n *node) { n.away = !n.away },
		"restart": func(n *node) { n.load() },
		"remove":  func(n *node) { c.act(n, func(o *node) room.Op { return room.Remove{Account: o.account()} }) },
		"mute": func(n *node) {
			c.act(n, func(o *node) room.Op { return room.SetMemberRights{Account: o.account(), Muted: true} })
		},
		"unmute": func(n *node) {
			c.act(n, func(o *node) room.Op { return room.SetMemberRights{Account: o.account()} })
		},
		"promote": func(n *node) {
			c.act(n, func(o *node) room.Op { return room.SetRole{Account: o.account(), Role: room.RoleModerator} })
		},
		"rotate": func(n *node) { c.act(n, func(*node) room.Op { return room.Rotate{} }) },
		"leave": func(n *node) {
			n.update(func(tx store.Tx) (Hint, error) { return n.e.LeaveRoom(tx, c.w.now, c.id) }) // who may not stays
		},
		"invite": c.invite,
		"join": func(n *node) {
			if n.room(c.id).Stage == RoomInvited {
				n.join(c.id)
			}
		},
		"rename": func(n *node) {
			n.update(func(tx store.Tx) (Hint, error) { // who may not does not
				return n.e.DescribeRoom(tx, c.w.now, c.id, room.About{Name: "Name " + n.name})
			})
		},
		"time": func(*node) { c.w.now = c.w.now.Add(rapid.SampledFrom(times).Draw(c.t, "time")) },
	}
	names := slices.Sorted(maps.Keys(actions))
	for range rapid.IntRange(5, 60).Draw(c.t, "actions") {
		n := c.node("node")
		c.survive(func() { actions[rapid.SampledFrom(names).Draw(c.t, "action")](n) })
	}
}

func (c *roomChaos) node(label string) *node {
	return c.w.nodes[rapid.IntRange(0, len(c.w.nodes)-1).Draw(c.t, label)]
}

// survive restarts everything when a process dies.
func (c *roomChaos) survive(fn func()) { (&chaos{t: c.t, w: c.w}).survive(fn) }

func (c *roomChaos) say(n *node) {
	text := fmt.Sprintf("%s %d", n.name, len(c.said[n]))
	if n.trySay(c.id, protocol.NewMsgID(), text) == nil {
		c.said[n] = append(c.said[n], text)
	}
}

// act lets a member do something, if it may.
func (c *roomChaos) act(n *node, op func(other *node) room.Op) {
	if other := c.node("other"); other != n {
		n.write(c.id, op(other))
	}
}

func (c *roomChaos) invite(n *node) {
	other := c.node("other")
	n.update(func(tx store.Tx) (Hint, error) { return n.e.InviteToRoom(tx, c.w.now, c.id, other.account()) })
}

func (c *roomChaos) steps() {
	for range 5 {
		for _, n := range c.w.nodes {
			n.step()
		}
	}
}

func (c *roomChaos) heal() {
	c.mend()
	c.w.pass(2 * 24 * time.Hour)
}

// mend ends all trouble, and starts every process anew.
func (c *roomChaos) mend() {
	for _, n := range c.w.nodes {
		n.fate, n.crash, n.away, n.offline = nil, nil, false, false
		n.load()
	}
	for _, s := range c.w.stray {
		s.to.receive(s.env, s.from.device(), Relayed)
	}
	c.w.stray = nil
}

// verify holds what everybody shows against what the rendezvous has.
func (c *roomChaos) verify() {
	home := c.w.home.rooms[c.id]
	for _, n := range c.w.nodes {
		m, in := home.state.Member(n.account())
		got := n.room(c.id)
		if in != (got.Stage == RoomJoined) {
			c.t.Fatalf("%s is in the room: %v, and thinks %q", n.name, in, got.Stage)
		}
		c.verifyHistory(n, home)
		if !in {
			continue
		}
		if got.State.Head() != home.state.Head() || got.Queued != 0 && home.state.Rights(n.account()).Has(room.Send) {
			c.t.Fatalf("%s is at %d of %d, with %d queued, as a %v", n.name, got.State.Seq(), home.state.Seq(), got.Queued, m.Role)
		}
		if got.Forked {
			c.t.Fatalf("%s has an alarm of an honest log", n.name)
		}
	}
}

// verifyHistory checks that a node shows what it may read, all of it if it is in the
// room, once and in the order of the authors.
func (c *roomChaos) verifyHistory(n *node, home *roomHome) {
	shown, inOrder := map[protocol.DeviceID][]string{}, map[protocol.DeviceID][]string{}
	for _, m := range n.heard(c.id) {
		if m.State != StateStored && m.State != StateReceived {
			continue
		}
		if slices.Contains(shown[m.Device], m.Text) {
			c.t.Fatalf("%s shows %q twice", n.name, m.Text)
		}
		shown[m.Device] = append(shown[m.Device], m.Text)
		if !m.Late {
			inOrder[m.Device] = append(inOrder[m.Device], m.Text)
		}
	}
	for _, author := range c.w.nodes {
		list := shown[author.device()]
		if got := inOrder[author.device()]; !ordered(got, c.said[author]) {
			c.t.Fatalf("%s shows of %s %q, who wrote %q", n.name, author.name, got, c.said[author])
		}
		for _, text := range c.stored(author, home, n) {
			if !slices.Contains(list, text) {
				c.t.Fatalf("%s has of %s only %q: %q is missing", n.name, author.name, list, text)
			}
		}
		for _, text := range list {
			if author != n && !slices.Contains(c.readable(author, home, n), text) {
				c.t.Fatalf("%s has %q of %s, and may not", n.name, text, author.name)
			}
		}
	}
}

// ordered tells that list holds some of all, in that order.
func ordered(list, all []string) bool {
	for _, text := range list {
		i := slices.Index(all, text)
		if i < 0 {
			return false
		}
		all = all[i+1:]
	}
	return true
}

// readable are the texts of an author that were sealed in an epoch in which a node
// could read.
func (c *roomChaos) readable(author *node, home *roomHome, n *node) (list []string) {
	for _, s := range c.w.home.sealed {
		if s.by == author.device() && home.state.May(n.device(), s.epoch, room.Read) == nil {
			list = append(list, s.text)
		}
	}
	return list
}

// stored are those of them that the rendezvous has for a node that is in the room, by
// an author who is too, and so can still give his keys.
func (c *roomChaos) stored(author *node, home *roomHome, n *node) (list []string) {
	m, in := home.state.Member(n.account())
	by, there := home.state.Member(author.account())
	if !in || !there {
		return nil
	}
	for _, item := range home.messages {
		s := c.w.home.sealed[protocol.IDOf(item.Message)]
		since := max(m.Joined, by.Joined)
		if s.by == author.device() && author != n && s.epoch >= since && home.state.May(n.device(), s.epoch, room.Read) == nil &&
			home.state.May(author.device(), s.epoch, room.Send) == nil {
			list = append(list, s.text)
		}
	}
	return list
}
