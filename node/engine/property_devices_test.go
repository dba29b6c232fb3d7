package engine

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// TestAnyNetworkAllDevices lets up to three devices of each of two accounts
// write over a network that loses, doubles, delays and reorders, while
// processes die. After it heals every device of both shows every text once, in
// order per author device, and the devices of an account agree on its state. Only
// an own text that came to a sibling after others were shown, and says so, is at
// another place there.
func TestAnyNetworkAllDevices(t *testing.T) {
	var origins [3]*world
	for i, size := range [][2]int{{2, 1}, {2, 2}, {3, 2}} {
		origins[i], _, _ = crowd(t, size[0], size[1])
	}
	rapid.Check(t, func(rt *rapid.T) {
		origin := origins[rapid.IntRange(0, len(origins)-1).Draw(rt, "size")]
		c := &manyChaos{
			chaos: chaos{t: rt, w: origin.clone(rt), sent: map[*node][]string{}, states: map[protocol.MsgID]State{}},
			seen:  map[*node]map[protocol.MsgID]State{},
		}
		c.run()
		c.heal()
		c.verify()
	})
}

// manyChaos is chaos among several devices of each account.
type manyChaos struct {
	chaos
	seen map[*node]map[protocol.MsgID]State
}

// peer is a device of the other account.
func (c *manyChaos) peer(n *node) *node {
	i := slices.IndexFunc(c.w.nodes, func(m *node) bool { return m.account() != n.account() })
	return c.w.nodes[i]
}

func (c *manyChaos) run() {
	for _, n := range c.w.nodes {
		n.fate = func() fate { return fates[rapid.IntRange(0, len(fates)-1).Draw(c.t, "fate")] }
		n.crash = func() bool { return rapid.IntRange(0, 79).Draw(c.t, "crash") == 79 }
		c.seen[n] = map[protocol.MsgID]State{}
	}
	actions := map[string]func(n *node){
		"send":    c.write,
		"burst":   func(n *node) { c.write(n); c.write(n); c.write(n) },
		"step":    func(n *node) { n.step() },
		"settle":  func(*node) { c.steps() },
		"away":    func(n *node) { n.away = !n.away },
		"offline": func(n *node) { n.offline = !n.offline },
		"restart": func(n *node) { n.load() },
		"stray":   func(*node) { c.arrive() },
		"mail":    c.shuffle,
		"read":    c.readAll,
		"time":    func(*node) { c.w.now = c.w.now.Add(rapid.SampledFrom(times).Draw(c.t, "time")) },
	}
	names := slices.Sorted(maps.Keys(actions))
	for range rapid.IntRange(5, 40).Draw(c.t, "actions") {
		n := c.w.nodes[rapid.IntRange(0, len(c.w.nodes)-1).Draw(c.t, "node")]
		c.survive(func() { actions[rapid.SampledFrom(names).Draw(c.t, "action")](n) })
		c.checkForward()
	}
}

// write is chaos.send to the other account.
func (c *manyChaos) write(n *node) {
	text := fmt.Sprintf("%s %d", short(n.device()), len(c.sent[n]))
	id := protocol.NewMsgID()
	for died := true; died; {
		var err error
		c.survive(func() {
			err = n.trySend(c.peer(n), id, text)
			died = false
		})
		if !died {
			c.w.check(err)
		}
	}
	c.sent[n] = append(c.sent[n], text)
}

func (c *manyChaos) readAll(n *node) {
	n.do(func(tx store.Tx) (Hint, error) { return n.e.MarkRead(tx, c.w.now, c.peer(n).account(), 1<<40) })
}

// checkForward checks that no own message went back on any device.
func (c *manyChaos) checkForward() {
	for _, n := range c.w.nodes {
		for _, m := range n.history(c.peer(n)) {
			if m.Mine && order[m.State] < order[c.seen[n][m.ID]] {
				c.t.Fatalf("%s: %q went from %s to %s", n.name, m.Text, c.seen[n][m.ID], m.State)
			}
			c.seen[n][m.ID] = m.State
		}
	}
}

func (c *manyChaos) verify() {
	for _, n := range c.w.nodes {
		got, late := map[string][]string{}, map[string]int{}
		for _, m := range n.history(c.peer(n)) {
			author := m.Text[:8]
			got[author] = append(got[author], m.Text)
			if m.Mine && m.Late {
				late[m.Text]++
			}
			if !m.Mine && m.State != StateReceived || m.Mine && order[m.State] < order[StateDelivered] {
				c.t.Fatalf("%s: %q is %s", n.name, m.Text, m.State)
			}
		}
		for _, from := range c.w.nodes {
			want := slices.Clone(c.sent[from])
			if have := got[short(from.device())]; len(late) > 0 {
				slices.SortStableFunc(want, func(x, y string) int { return late[x] - late[y] })
				slices.SortStableFunc(have, func(x, y string) int { return late[x] - late[y] })
				sortTail(want, late)
				sortTail(have, late)
			}
			if !slices.Equal(got[short(from.device())], want) {
				c.t.Fatalf("%s %s has %q of %s %s, want %q", n.name, short(n.device()), got[short(from.device())], from.name, short(from.device()), want)
			}
		}
	}
	c.agree()
	c.w.checkEmpty()
}

// sortTail sorts the late texts at the end: they come in any order.
func sortTail(list []string, late map[string]int) {
	if i := slices.IndexFunc(list, func(s string) bool { return late[s] > 0 }); i >= 0 {
		slices.Sort(list[i:])
	}
}

// agree checks that the devices of an account know the same.
func (c *manyChaos) agree() {
	first := map[string]*node{}
	for _, n := range c.w.nodes {
		other := first[n.name]
		if other == nil {
			first[n.name] = n
			continue
		}
		states := map[protocol.MsgID]State{}
		for _, m := range other.history(c.peer(n)) {
			states[m.ID] = m.State
		}
		for _, m := range n.history(c.peer(n)) {
			if states[m.ID] != m.State {
				c.t.Fatalf("%s: %q is %s on one device, %s on another", n.name, m.Text, states[m.ID], m.State)
			}
		}
		a, b := other.contact(c.peer(n)), n.contact(c.peer(n))
		sameUnread := a.Unread == b.Unread || c.filled(n) || c.filled(other)
		if !sameUnread || a.Relation != b.Relation {
			c.t.Fatalf("%s: %d and %d unread, %q and %q", n.name, a.Unread, b.Unread, a.Relation, b.Relation)
		}
	}
}

// filled tells whether a hole was filled on a device: one that the user had
// read past does not count as unread there, but does where none was.
func (c *manyChaos) filled(n *node) bool {
	return slices.ContainsFunc(n.history(c.peer(n)), func(m Message) bool { return m.Late && !m.Mine })
}
