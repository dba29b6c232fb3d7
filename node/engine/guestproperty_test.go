package engine

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/room"
)

// TestGuestsAnyNetworkAnyCrash lets a guest and the members of a room write, while its rights
// and the password change, processes die in whatever they do, links are cut, clocks differ by
// five minutes, and the guest knocks again and again. After it heals the guest is in, as
// the same guest, and everybody has what was said while he could read.
func TestGuestsAnyNetworkAnyCrash(t *testing.T) {
	origin := newWorld(t)
	id, nodes, _ := houseOf(t, origin, "alice", "bob")
	origin.check(nodes[0].write(id, room.SetRole{Account: nodes[1].account(), Role: room.RoleModerator}))
	origin.settle()
	rapid.Check(t, func(rt *rapid.T) {
		w := origin.clone(rt)
		g := w.nodes[2]
		c := &guestChaos{rapidRoomChaos(rt, w, id), g, w.nodes[:2], "open sesame"}
		account := g.account()
		c.run()
		c.heal()
		c.verify()
		if m, in := w.home.rooms[id].state.Member(account); !in || m.Role != room.RoleGuest || g.account() != account {
			rt.Fatalf("the guest is not in: %+v", g.guest())
		}
	})
}

type guestChaos struct {
	*roomChaos
	guest    *node
	doors    []*node
	password string
}

func (c *guestChaos) run() {
	c.trouble()
	for _, n := range c.w.nodes {
		n.skew = time.Duration(c.draw(3, "skew")-1) * 5 * time.Minute
	}
	actions := map[string]func(n *node){
		"say":     c.say,
		"step":    func(n *node) { n.step() },
		"settle":  func(*node) { c.steps() },
		"offline": func(n *node) { n.offline = !n.offline },
		"away":    func(n *node) { n.away = !n.away },
		"restart": func(n *node) { n.load() },
		"knock":   c.knock,
		"mute":    func(n *node) { n.write(c.id, room.SetMemberRights{Account: c.guest.account(), Muted: true}) },
		"unmute":  func(n *node) { n.write(c.id, room.SetMemberRights{Account: c.guest.account()}) },
		"rotate":  func(n *node) { n.write(c.id, room.Rotate{}) },
		"password": func(*node) {
			c.doors[0].setPassword(c.id, c.password, c.draw(2, "ask again") == 1)
		},
		"time": func(*node) { c.w.now = c.w.now.Add(times[c.draw(len(times), "time")]) },
		"day":  func(*node) { c.w.now = c.w.now.Add(13 * time.Hour) },
	}
	names := slices.Sorted(maps.Keys(actions))
	for range 5 + c.draw(36, "actions") {
		n := c.node("node")
		c.survive(n, func() { actions[names[c.draw(len(names), "action")]](n) })
	}
}

// knock is a visit that may be cut off anywhere.
func (c *guestChaos) knock(*node) {
	cut := c.draw(6, "cut")
	v, err := c.guest.knock(c.doors[c.draw(len(c.doors), "door")], c.id, secret(c.password))
	if err != nil || cut == 0 || v.door.offline {
		return
	}
	if v.admit() != nil || cut == 1 {
		return
	}
	v.door.step()
	if cut == 2 {
		return
	}
	welcome, waits, err := v.ask()
	if err == nil && !waits && cut > 3 {
		v.enter(welcome)
	}
}

// heal has the guest knock as its program does, when it hears that it is out.
func (c *guestChaos) heal() {
	c.mend()
	c.w.pass(2 * time.Hour)
	for range 2 {
		if c.guest.guest().Stage == GuestKnocks {
			if err := c.guest.comeIn(c.doors[0], c.id, c.password); err != nil {
				c.t.Fatalf("the guest is refused: %v", err)
			}
		}
		c.w.pass(time.Hour)
	}
	if c.guest.guest().Stage != GuestIn {
		c.t.Fatalf("the guest is %+v", c.guest.guest())
	}
}
