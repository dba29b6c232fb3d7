package engine

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

// TestOTK15_AnyCopies copies the stores of two people, sets them back and starts
// the copies at random, while both write and links come and go. All end healthy,
// each store as a device of its own: every text is shown, once and in order,
// nothing is sealed twice with one key, no prekey is published twice, and there
// are no more new devices than there were copies.
//
// Left out is what nobody can notice: a store that is set back to before it used
// its sessions out of reach of the rendezvous, and copies that both talk to
// others out of its reach.
func TestOTK15_AnyCopies(t *testing.T) {
	origin, _, _ := pair(t)
	rapid.Check(t, func(rt *rapid.T) {
		c := &copies{t: rt, w: origin.clone(rt), lives: map[*node]*life{}, lastUse: map[sending]use{}, sealed: map[protocol.EnvelopeID]use{}}
		for _, n := range c.w.nodes {
			c.lives[n] = &life{linked: true, device: n.device()}
			n.fate = c.fate
		}
		c.run()
		c.heal()
		c.verify()
	})
}

// copies is what happens to the copies of two stores.
type copies struct {
	t       *rapid.T
	w       *world
	lives   map[*node]*life
	saved   []snapshot
	written []*writing
	clock   int // grows with every action
	sealed  map[protocol.EnvelopeID]use
	lastUse map[sending]use // of what left
	made    int             // copies that were started, and states gone back to
	reborn  int
	dies    bool // processes that become new devices
}

// life is what one store went through.
type life struct {
	linked  bool
	device  protocol.DeviceID // that the rendezvous took it for
	since   int               // the state of the store is not older than this
	setBack []int             // when
	reborn  int               // when last
	looked  int               // envelopes of node.sent that were looked at
}

type snapshot struct {
	of *node
	kv *memory.DB
	at int
}

// use is that something was sealed.
type use struct {
	by *node
	at int
}

// sending is what one device seals with in one session.
type sending struct {
	session protocol.SessionID
	device  protocol.DeviceID
}

// writing is a text, and all that are to show it: of each group one.
type writing struct {
	text   string
	by     *node
	at     int
	device []protocol.DeviceID
	shown  map[protocol.DeviceID][]*node // who was the device then or since
}

const maxCopies = 3

func (c *copies) run() {
	actions := map[string]func(n *node){
		"write":    c.write,
		"burst":    func(n *node) { c.write(n); c.write(n); c.write(n) },
		"talk":     func(*node) { c.talk() },
		"settle":   func(*node) { c.w.settle() },
		"step":     func(n *node) { n.step() },
		"save":     c.save,
		"copy":     func(*node) { c.start() },
		"set back": c.setBack,
		"link":     c.link,
		"unlink":   c.unlink,
		"away":     func(n *node) { n.away = !n.away || !c.lives[n].linked },
		"time":     func(*node) { c.w.now = c.w.now.Add(rapid.SampledFrom(times).Draw(c.t, "time")) },
	}
	c.dies = true
	names := slices.Sorted(maps.Keys(actions))
	for range rapid.IntRange(10, 60).Draw(c.t, "actions") {
		n := c.w.nodes[rapid.IntRange(0, len(c.w.nodes)-1).Draw(c.t, "node")]
		c.clock++
		actions[rapid.SampledFrom(names).Draw(c.t, "action")](n)
		c.after()
	}
}

// fate is what the network does to an envelope. None is lost for long: a copy
// would be found out before it came.
func (c *copies) fate() fate {
	return rapid.SampledFrom([]fate{arrives, arrives, arrives, lost, ackLost, delayed, repeated}).Draw(c.t, "fate")
}

// after is what goes on all the time: beats, and the watch over what is sealed.
func (c *copies) after() {
	for _, n := range slices.Clone(c.w.nodes) {
		c.watch(n)
		if c.lives[n].linked && n.e.HelloDue() {
			if code := c.hello(n); code != protocol.OK {
				c.t.Fatalf("%s is told %v in a link", n.name, code)
			}
		}
		for _, x := range c.written {
			for _, d := range x.device {
				if d == c.lives[n].device && !slices.Contains(x.shown[d], n) {
					x.shown[d] = append(x.shown[d], n)
				}
			}
		}
	}
}

// watch checks that nothing leaves that was sealed with a session which another
// store had moved on, or the same one before it was set back.
func (c *copies) watch(n *node) {
	for _, r := range n.rows(tableOut) {
		var item itemRow
		c.w.check(item.decode(r.Value))
		c.noteSealed(item.envelope, n)
	}
	l := c.lives[n]
	for _, env := range n.sent[l.looked:] {
		e := protocol.IDOf(env)
		c.noteSealed(e, n)
		sealed := c.sealed[e]
		id, _, err := session.PeekSession(env)
		c.w.check(err)
		key := sending{id, n.device()}
		last := c.lastUse[key]
		own := last.by == n && (len(l.setBack) == 0 || last.at > l.setBack[len(l.setBack)-1])
		if sealed.at > l.since && last.at > l.since && !own {
			c.t.Fatalf("%s sealed with session %v, which was used elsewhere since", n.name, id)
		}
		if sealed.at > last.at {
			c.lastUse[key] = sealed
		}
	}
	l.looked = len(n.sent)
}

func (c *copies) noteSealed(e protocol.EnvelopeID, by *node) {
	if _, known := c.sealed[e]; !known {
		c.sealed[e] = use{by, c.clock}
	}
}

func (c *copies) peer(n *node) *node {
	return c.w.nodes[slices.IndexFunc(c.w.nodes, func(m *node) bool { return m.account() != n.account() })]
}

func (c *copies) write(n *node) {
	to := c.peer(n)
	x := &writing{text: fmt.Sprintf("%03d", len(c.written)), by: n, at: c.clock, shown: map[protocol.DeviceID][]*node{}}
	for _, cert := range n.contact(to).Devices {
		x.device = append(x.device, cert.DeviceID())
	}
	n.send(to, x.text)
	c.written = append(c.written, x)
}

// talk lets everybody write.
func (c *copies) talk() {
	for _, n := range c.w.nodes {
		c.write(n)
		n.step()
	}
}

func (c *copies) save(n *node) { c.saved = append(c.saved, snapshot{n, n.copyStore(), c.clock}) }

// start starts a copy of some state of a store beside it.
func (c *copies) start() {
	if len(c.saved) == 0 || c.made == maxCopies {
		return
	}
	s := rapid.SampledFrom(c.saved).Draw(c.t, "copied")
	n := &node{w: c.w, name: s.of.name, kv: copyOf(c.w, s.kv), away: true, offline: true, fate: c.fate}
	n.reload()
	for _, m := range c.w.nodes {
		if m.device() != n.device() || c.lives[m].linked {
			continue
		}
		if m.e.HelloDue() {
			return
		}
		m.away = true
	}
	c.made++
	c.w.nodes = append(c.w.nodes, n)
	c.lives[n] = &life{since: s.at}
}

func copyOf(w *world, kv *memory.DB) *memory.DB { return (&node{w: w, kv: kv}).copyStore() }

// setBack sets a store back to a state of itself that it had before.
func (c *copies) setBack(n *node) {
	own := slices.DeleteFunc(slices.Clone(c.saved), func(s snapshot) bool { return s.of != n })
	l := c.lives[n]
	if len(own) == 0 || c.made == maxCopies || !l.linked && n.e.HelloDue() {
		return
	}
	c.made++
	s := rapid.SampledFrom(own).Draw(c.t, "state")
	n.kv = copyOf(c.w, s.kv)
	n.reload()
	n.away, n.offline, l.linked, l.device = true, true, false, protocol.DeviceID{}
	l.since, l.setBack = s.at, append(l.setBack, c.clock)
}

func (c *copies) hello(n *node) (code protocol.Code) {
	var h Hello
	n.do(func(tx store.Tx) (_ Hint, err error) {
		h, err = n.e.Hello(tx, []byte{1})
		return Hint{}, err
	})
	if code = c.w.home.welcome(n.device(), h); code == protocol.OK {
		n.do(func(tx store.Tx) (Hint, error) { return Hint{}, n.e.Welcomed(tx, h) })
	}
	return code
}

// link connects a node to the rendezvous. A copy becomes a new device. Who held
// the device before is told that it was replaced, and is quiet until it has
// asked.
func (c *copies) link(n *node) {
	if c.lives[n].linked {
		return
	}
	if c.hello(n) != protocol.OK {
		c.reborn++
		c.lives[n].reborn = c.clock
		n.away, n.offline = true, false
		for _, env := range c.w.home.devices[n.device()].mail { // read, not acknowledged
			n.receive(env, protocol.DeviceID{}, Mailbox)
		}
		n.connect()
		n.rebirth(func() bool { return c.dies && rapid.IntRange(0, 5).Draw(c.t, "dies") == 5 })
	}
	for _, m := range c.w.nodes {
		if m != n && m.device() == n.device() {
			m.away, m.offline, c.lives[m].linked = true, true, false
		}
	}
	n.away, n.offline, c.lives[n].linked, c.lives[n].device = false, false, true, n.device()
	n.connect()
	n.syncPrekeys()
	c.w.nodes = append([]*node{n}, slices.DeleteFunc(c.w.nodes, func(m *node) bool { return m == n })...)
}

// unlink cuts a node off the rendezvous. What it knows goes on: it talks to
// others directly, if no other copy may take its place.
func (c *copies) unlink(n *node) {
	n.offline, c.lives[n].linked = true, false
	alone := !slices.ContainsFunc(c.w.nodes, func(m *node) bool { return m != n && m.device() == n.device() })
	n.away = n.away || !alone
}

func (c *copies) heal() {
	c.dies = false
	for _, n := range c.w.nodes {
		n.fate = nil
	}
	for range 2 { // who was replaced asks again
		for _, n := range slices.Clone(c.w.nodes) {
			c.clock++
			c.link(n)
			c.after()
		}
	}
	for _, n := range c.w.nodes {
		if !c.lives[n].linked {
			c.t.Fatalf("%s is not connected", n.name)
		}
		n.away = false
	}
	c.w.pass(24 * time.Hour)
	c.clock++
	c.after()
}

func (c *copies) verify() {
	if c.reborn > c.made {
		c.t.Fatalf("%d new devices of %d copies", c.reborn, c.made)
	}
	c.checkTexts()
	troubles := map[*node]int{}
	for _, n := range c.w.nodes {
		troubles[n] = n.undecryptable()
	}
	for _, n := range slices.Clone(c.w.nodes) { // they are healthy
		c.clock++
		c.write(n)
		c.w.pass(time.Hour)
		c.after()
	}
	c.checkTexts()
	for n, before := range troubles {
		if n.undecryptable() != before {
			c.t.Fatalf("%s cannot open something after all is well", n.name)
		}
		for _, m := range n.history(c.peer(n)) {
			if m.State == StateHole && m.Recorded.After(c.w.now.Add(-time.Hour)) {
				c.t.Fatalf("%s misses something", n.name)
			}
		}
	}
	bound := map[protocol.PrekeyID]bool{}
	for _, s := range c.w.home.devices {
		for id := range s.bound {
			if bound[id] {
				c.t.Fatalf("prekey %v belongs to two devices", id)
			}
			bound[id] = true
		}
	}
}

// checkTexts checks that every text is shown once, by each device that it was
// written to, and in the order of its author.
func (c *copies) checkTexts() {
	for _, n := range c.w.nodes {
		seen, last := map[string]bool{}, map[*node]string{}
		for _, m := range n.history(c.peer(n)) {
			if m.State == StateHole {
				continue
			}
			if seen[m.Text] {
				c.t.Fatalf("%s shows %q twice", n.name, m.Text)
			}
			seen[m.Text] = true
			x := c.written[slices.IndexFunc(c.written, func(x *writing) bool { return x.text == m.Text })]
			// The old device may have had what came before it; an author who was
			// set back sends again what had a place already; and what waited in
			// a store that was copied comes from two devices, each in its order.
			if m.Mine || m.Late || x.at <= c.lives[n].reborn || c.forgiven(x, nil) || c.waitsInACopy(x) {
				continue
			}
			if m.Text < last[x.by] {
				c.t.Fatalf("%s shows %q after %q", n.name, m.Text, last[x.by])
			}
			last[x.by] = m.Text
		}
	}
	for _, x := range c.written {
		for _, d := range x.device {
			if holders := x.shown[d]; len(holders) > 0 && !c.forgiven(x, holders) && !slices.ContainsFunc(holders, func(n *node) bool { return c.shows(n, x) }) {
				c.t.Fatalf("%q of %s is not shown by device %s", x.text, x.by.name, short(d))
			}
		}
	}
}

// forgiven tells whether a text went with the store of its author or of who got
// it.
func (c *copies) forgiven(x *writing, holders []*node) bool {
	return slices.ContainsFunc(append(holders[:len(holders):len(holders)], x.by), func(n *node) bool {
		return slices.ContainsFunc(c.lives[n].setBack, func(at int) bool { return at > x.at })
	})
}

// waitsInACopy tells whether a copy of its author's store was made after a text
// was written: the copy may send it too.
func (c *copies) waitsInACopy(x *writing) bool {
	return slices.ContainsFunc(c.w.nodes, func(n *node) bool {
		return n != x.by && n.account() == x.by.account() && c.lives[n].since >= x.at
	})
}

func (c *copies) shows(n *node, x *writing) bool {
	return slices.ContainsFunc(n.history(c.peer(n)), func(m Message) bool { return m.Text == x.text })
}
