package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

// clone is another world in the same state: making accounts and sessions anew
// for every run would take most of the time.
func (w *world) clone(t tb) *world {
	c := newWorldWith(t, w.rsa)
	c.now, c.home.log = w.now, w.home.log.clone()
	for name, e := range w.home.names {
		next := *e
		c.home.names[name] = &next
	}
	for id, s := range w.home.devices {
		next := *s
		next.oneTime, next.mail = slices.Clone(s.oneTime), slices.Clone(s.mail)
		next.bound = maps.Clone(s.bound)
		c.home.devices[id] = &next
	}
	c.home.sealed = maps.Clone(w.home.sealed)
	for id, r := range w.home.rooms {
		c.home.rooms[id] = r.clone()
	}
	c.home.guests, c.home.seen = maps.Clone(w.home.guests), maps.Clone(w.home.seen)
	for _, n := range w.nodes {
		m := &node{w: c, name: n.name, kv: n.copyStore()}
		c.nodes = append(c.nodes, m)
		m.load()
	}
	return c
}

// copyStore is the store as it is now, in another one.
func (n *node) copyStore() *memory.DB {
	db := memory.New()
	var rows []store.Pair
	n.view(func(tx store.Tx) error {
		for pair, err := range tx.Scan([]byte{0}, nil) {
			if err != nil {
				return err
			}
			rows = append(rows, pair)
		}
		return nil
	})
	for chunk := range slices.Chunk(rows, 100) {
		n.w.check(db.Update(context.Background(), func(tx store.Tx) error {
			for _, pair := range chunk {
				if err := tx.Set(pair.Key, pair.Value); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return db
}

// TestAnyNetworkAnyCrash lets two nodes write to each other over a network
// that loses, doubles, delays and reorders, while processes die and links are
// cut. After it heals, everything is there exactly once and in order.
func TestAnyNetworkAnyCrash(t *testing.T) {
	origin, _, _ := pair(t)
	rapid.Check(t, func(rt *rapid.T) {
		c := &chaos{t: rt, w: origin.clone(rt), sent: map[*node][]string{}, states: map[protocol.MsgID]State{}}
		c.run()
		c.heal()
		c.verify()
	})
}

type chaos struct {
	t      *rapid.T
	w      *world
	sent   map[*node][]string // texts, in the order of composing
	states map[protocol.MsgID]State
	forgot bool
}

func (c *chaos) run() {
	for _, n := range c.w.nodes {
		n.fate = func() fate { return fates[rapid.IntRange(0, len(fates)-1).Draw(c.t, "fate")] }
		n.crash = func() bool { return rapid.IntRange(0, 49).Draw(c.t, "crash") == 49 }
	}
	actions := map[string]func(n *node){
		"send":    c.send,
		"burst":   func(n *node) { c.send(n); c.send(n); c.send(n) },
		"step":    func(n *node) { n.step() },
		"settle":  func(*node) { c.steps() },
		"away":    func(n *node) { n.away = !n.away },
		"offline": func(n *node) { n.offline = !n.offline },
		"restart": func(n *node) { n.load() },
		"retry":   c.retry,
		"stray":   func(*node) { c.arrive() },
		"mail":    c.shuffle,
		"read":    c.read,
		"amnesia": c.amnesia,
		"log":     c.followLog,
		"time":    func(*node) { c.w.now = c.w.now.Add(rapid.SampledFrom(times).Draw(c.t, "time")) },
	}
	names := slices.Sorted(maps.Keys(actions))
	for range rapid.IntRange(5, 60).Draw(c.t, "actions") {
		n := c.w.nodes[rapid.IntRange(0, 1).Draw(c.t, "node")]
		c.survive(func() { actions[rapid.SampledFrom(names).Draw(c.t, "action")](n) })
		c.checkStates()
	}
}

var (
	fates = []fate{arrives, arrives, arrives, lost, ackLost, delayed, repeated, astray}
	times = []time.Duration{10 * time.Millisecond, time.Second, 40 * time.Second, 3 * time.Minute, time.Hour, 26 * time.Hour}
)

// survive restarts everything when a process dies.
func (c *chaos) survive(fn func()) {
	defer func() {
		if diedOf(recover()) != nil {
			for _, n := range c.w.nodes {
				n.rise()
			}
		}
	}()
	fn()
}

// diedOf returns the node whose process died of what was recovered, if one did.
func diedOf(r any) *node {
	if r == nil {
		return nil
	}
	c, died := r.(crashed)
	if !died {
		panic(r)
	}
	return c.n
}

// rise starts a process that will not die while it starts.
func (n *node) rise() {
	crash := n.crash
	n.crash = nil
	n.load()
	n.crash = crash
}

func (c *chaos) other(n *node) *node {
	if n == c.w.nodes[0] {
		return c.w.nodes[1]
	}
	return c.w.nodes[0]
}

// send writes a text; when the process dies the person tries again with the
// same id.
func (c *chaos) send(n *node) {
	text := fmt.Sprintf("%s %d", n.name, len(c.sent[n]))
	id := protocol.NewMsgID()
	for {
		var err error
		died := true
		c.survive(func() {
			err = n.trySend(c.other(n), id, text)
			died = false
		})
		if !died {
			c.w.check(err)
			break
		}
	}
	c.sent[n] = append(c.sent[n], text)
}

func (c *chaos) steps() {
	for range 5 {
		for _, n := range c.w.nodes {
			n.step()
		}
	}
}

func (c *chaos) retry(n *node) { n.hint.outbox(c.other(n).device()) }

// arrive lets something come that was underway for long.
func (c *chaos) arrive() {
	if len(c.w.stray) == 0 {
		return
	}
	i := rapid.IntRange(0, len(c.w.stray)-1).Draw(c.t, "stray")
	s := c.w.stray[i]
	c.w.stray = slices.Delete(c.w.stray, i, i+1)
	s.to.receive(s.env, s.from.device(), Relayed)
}

// shuffle reorders and doubles mail.
func (c *chaos) shuffle(n *node) {
	s := c.w.home.devices[n.device()]
	if len(s.mail) == 0 {
		return
	}
	i := rapid.IntRange(0, len(s.mail)-1).Draw(c.t, "mail")
	s.mail = slices.Concat(s.mail[i:], s.mail[:i])
	if rapid.Bool().Draw(c.t, "double") {
		s.mail = append(s.mail, slices.Clone(s.mail[0]))
	}
}

// amnesia makes a node lose its sessions, once: nothing notices when both lose
// the very session that was to repair this.
func (c *chaos) amnesia(n *node) {
	if !c.forgot {
		n.loseSessions(c.other(n))
		c.forgot = true
	}
}

// followLog lets the log grow, and one of the two see it: heads of it go along in
// what they send.
func (c *chaos) followLog(n *node) {
	c.w.home.log.grow(rapid.IntRange(1, 5).Draw(c.t, "entries"))
	if !n.offline {
		n.followLog()
	}
}

func (c *chaos) read(n *node) {
	n.do(func(tx store.Tx) (Hint, error) {
		return n.e.MarkRead(tx, c.w.now, c.other(n).account(), uint64(rapid.IntRange(0, 60).Draw(c.t, "upTo")))
	})
}

// checkStates checks that no own message went back.
func (c *chaos) checkStates() {
	for _, n := range c.w.nodes {
		for _, m := range n.history(c.other(n)) {
			if !m.Mine {
				continue
			}
			if order[m.State] < order[c.states[m.ID]] {
				c.t.Fatalf("%s: %q went from %s to %s", n.name, m.Text, c.states[m.ID], m.State)
			}
			c.states[m.ID] = m.State
		}
	}
}

func (c *chaos) heal() {
	for _, n := range c.w.nodes {
		n.fate, n.crash, n.away, n.offline = nil, nil, false, false
		n.load()
	}
	for len(c.w.stray) > 0 {
		c.arrive()
	}
	c.w.pass(4 * 24 * time.Hour)
}

func (c *chaos) verify() {
	defer func() {
		if r := recover(); r != nil {
			c.log()
			panic(r)
		}
	}()
	for _, n := range c.w.nodes {
		if alarm, stands := n.alarmOfLog(); stands {
			c.t.Fatalf("%s has an alarm of an honest log: %s", n.name, alarm.Problem)
		}
		other := c.other(n)
		var theirs []string
		for _, m := range n.history(other) {
			switch {
			case !m.Mine:
				theirs = append(theirs, m.Text)
				if m.State != StateReceived {
					c.t.Fatalf("%s: position %d is %s", n.name, m.Position, m.State)
				}
			case order[m.State] < order[StateDelivered]:
				c.t.Fatalf("%s: %q is %s", n.name, m.Text, m.State)
			}
		}
		if !slices.Equal(theirs, c.sent[other]) {
			c.t.Fatalf("%s has %q, want %q", n.name, theirs, c.sent[other])
		}
	}
	c.w.checkEmpty()
}

// log tells what a failed run ended with.
func (c *chaos) log() {
	for _, n := range c.w.nodes {
		for _, m := range n.history(c.other(n)) {
			c.t.Logf("%s %2d mine=%-5v %-9s %-8v %q %s", n.name, m.Position, m.Mine, m.State, m.Via, m.Text, m.Problem)
		}
		for _, kind := range []Kind{KindUndecryptable, KindNotice} {
			for _, e := range firstFew(n.events(kind)) {
				c.t.Logf("%s %s %s %s: %s", n.name, e.Time.Format("02 15:04:05.000"), e.Kind, e.Cause, e.Text)
			}
		}
	}
}

func firstFew(list []Event) []Event { return list[:min(len(list), 10)] }
