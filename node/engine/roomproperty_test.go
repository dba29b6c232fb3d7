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
		c := rapidRoomChaos(rt, origin.clone(rt), id)
		c.run(5 + c.draw(56, "actions"))
		c.heal()
		c.verify()
	})
}

// roomChaos is what happens to a room, drawn at random.
type roomChaos struct {
	t       tb
	w       *world
	id      protocol.RoomID
	draw    func(n int, what string) int // from 0 to n-1
	crashes int                          // a process dies in one transaction of so many
	said    map[*node][]string           // in the order of composing
	given   []distribution
}

// distribution is that a device was given the keys of an epoch.
type distribution struct {
	from, to *node
	epoch    uint64
}

func rapidRoomChaos(rt *rapid.T, w *world, id protocol.RoomID) *roomChaos {
	return &roomChaos{
		t: rt, w: w, id: id, crashes: 100, said: map[*node][]string{},
		draw: func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(rt, what) },
	}
}

// trouble makes the network lose and double, and processes die.
func (c *roomChaos) trouble() {
	for _, n := range c.w.nodes {
		n.fate = func() fate { return fates[c.draw(len(fates), "fate")] }
		n.crash = func() bool { return c.draw(c.crashes, "crash") == c.crashes-1 }
		n.tap = func(to *node, env []byte) { c.note(n, to, env) }
	}
}

func (c *roomChaos) run(actions int) {
	c.trouble()
	do := c.actions()
	names := append(slices.Sorted(maps.Keys(do)), "say", "say", "burst", "burst", "gossip", "settle", "settle", "settle")
	for range actions {
		n := c.node("node")
		c.survive(n, func() { do[names[c.draw(len(names), "action")]](n) })
	}
}

func (c *roomChaos) actions() map[string]func(n *node) {
	return map[string]func(n *node){
		"say":     c.say,
		"burst":   func(n *node) { c.say(n); c.say(n); c.say(n) },
		"step":    func(n *node) { n.step() },
		"settle":  func(*node) { c.steps() },
		"gossip":  func(n *node) { n.gossipAll(c.id) },
		"offline": func(n *node) { n.offline = !n.offline },
		"away":    func(n *node) { n.away = !n.away },
		"cut":     func(*node) { c.cut() },
		"join up": func(*node) { c.joinUp() },
		"restart": func(n *node) { n.load() },
		"stray":   func(*node) { c.arrive() },
		"mail":    c.shuffle,
		"remove":  c.on(func(a protocol.AccountID) room.Op { return room.Remove{Account: a} }),
		"ban":     c.on(func(a protocol.AccountID) room.Op { return room.Ban{Account: a} }),
		"unban":   c.on(func(a protocol.AccountID) room.Op { return room.Unban{Account: a} }),
		"mute": c.on(func(a protocol.AccountID) room.Op {
			return room.SetMemberRights{Account: a, Muted: true}
		}),
		"deafen": c.on(func(a protocol.AccountID) room.Op {
			return room.SetMemberRights{Account: a, HasOwn: true, Own: room.Send}
		}),
		"restore": c.on(func(a protocol.AccountID) room.Op { return room.SetMemberRights{Account: a} }),
		"promote": c.on(func(a protocol.AccountID) room.Op {
			return room.SetRole{Account: a, Role: room.RoleModerator}
		}),
		"demote": c.on(func(a protocol.AccountID) room.Op { return room.SetRole{Account: a, Role: room.RoleMember} }),
		"rotate": c.on(func(protocol.AccountID) room.Op { return room.Rotate{} }),
		"lock":   c.on(func(protocol.AccountID) room.Op { return room.Lock{On: c.draw(4, "on") == 0} }),
		"leave": func(n *node) {
			n.update(func(tx store.Tx) (Hint, error) { return n.e.LeaveRoom(tx, c.w.now, c.id) }) // who may not stays
		},
		"invite": c.invite,
		"join":   func(*node) { c.joinInvited() },
		"rename": func(n *node) {
			n.update(func(tx store.Tx) (Hint, error) { // who may not does not
				return n.e.DescribeRoom(tx, c.w.now, c.id, room.About{Name: "Name " + n.name})
			})
		},
		"time": func(*node) { c.w.now = c.w.now.Add(times[c.draw(len(times), "time")]) },
	}
}

// node draws a node, half of the time one of those that may do more at first.
func (c *roomChaos) node(what string) *node {
	from := len(c.w.nodes)
	if c.draw(2, "any") == 0 {
		from = mightyOf(from)
	}
	return c.w.nodes[c.draw(from, what)]
}

// mightyOf is how many of n nodes may do more than speak: the owner, then moderators.
func mightyOf(n int) int { return n/8 + 1 }

// survive starts a process again that dies, and the one in whose name fn runs: what it
// was doing is left undone.
func (c *roomChaos) survive(n *node, fn func()) {
	defer func() {
		if dead := diedOf(recover()); dead != nil {
			dead.rise()
			if dead != n {
				n.rise()
			}
		}
	}()
	fn()
}

func (c *roomChaos) say(n *node) {
	text := fmt.Sprintf("%s %d", n.name, len(c.said[n]))
	if n.trySay(c.id, protocol.NewMsgID(), text) == nil {
		c.said[n] = append(c.said[n], text)
	}
}

// on lets a member do something about another, if it may.
func (c *roomChaos) on(op func(protocol.AccountID) room.Op) func(n *node) {
	return func(n *node) {
		if other := c.node("other"); other != n {
			n.write(c.id, op(other.account()))
		}
	}
}

// invite lets the one who knows everybody invite somebody.
func (c *roomChaos) invite(*node) {
	n, other := c.w.nodes[0], c.node("other")
	n.update(func(tx store.Tx) (Hint, error) { return n.e.InviteToRoom(tx, c.w.now, c.id, other.account()) })
}

func (c *roomChaos) joinInvited() {
	for _, n := range c.w.nodes {
		if n.room(c.id).Stage == RoomInvited {
			c.survive(n, func() { n.join(c.id) })
		}
	}
}

func (c *roomChaos) steps() {
	for range 5 {
		for _, n := range c.w.nodes {
			c.survive(n, func() { n.step() })
		}
	}
}

// cut takes some nodes away from the rendezvous and from the others; they reach each
// other.
func (c *roomChaos) cut() {
	for _, n := range c.w.nodes {
		n.side = c.draw(2, "side")
		n.offline = n.side == 1
	}
}

func (c *roomChaos) joinUp() {
	for _, n := range c.w.nodes {
		n.side, n.offline = 0, false
	}
}

// arrive lets something come that was underway for long.
func (c *roomChaos) arrive() {
	if len(c.w.stray) > 0 {
		i := c.draw(len(c.w.stray), "stray")
		s := c.w.stray[i]
		c.w.stray = slices.Delete(c.w.stray, i, i+1)
		s.to.receive(s.env, s.from.device(), Relayed)
	}
}

// shuffle reorders and doubles mail.
func (c *roomChaos) shuffle(n *node) {
	if s := n.shelf(); len(s.mail) > 0 {
		i := c.draw(len(s.mail), "mail")
		s.mail = slices.Concat(s.mail[i:], s.mail[:i], [][]byte{slices.Clone(s.mail[i])})
	}
}

func (c *roomChaos) heal() {
	c.mend()
	c.w.pass(2 * 24 * time.Hour)
}

// mend ends all trouble, and starts every process anew.
func (c *roomChaos) mend() {
	for _, n := range c.w.nodes {
		n.fate, n.crash, n.away, n.offline, n.side = nil, nil, false, false, 0
		n.load()
	}
	for len(c.w.stray) > 0 {
		c.arrive()
	}
}
