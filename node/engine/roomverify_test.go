package engine

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// What must be true of a room after whatever happened to it.

// note looks at what is given to a device, as the device will read it: whose keys it
// gets, of which epochs.
func (c *roomChaos) note(from, to *node, env []byte) {
	id, opening, err := session.PeekSession(env)
	c.w.check(err)
	if opening {
		return
	}
	var plain []byte
	to.view(func(tx store.Tx) error {
		x, err := to.e.begin(tx, c.w.now)
		if err != nil {
			return err
		}
		s, ok, err := x.session(id)
		if err != nil || !ok {
			return err
		}
		if _, plain, err = s.Decrypt(c.w.now, env); err != nil { // of a session that is over
			plain = nil
		}
		return nil
	})
	content := &wire.Content{}
	c.w.check(proto.Unmarshal(plain, content))
	for _, b := range content.GetRoomKeys().GetDistributions() {
		d, err := chain.ParseDistribution(from.device(), b)
		c.w.check(err)
		c.given = append(c.given, distribution{from, to, d.View.Epoch})
	}
}

// verify holds what everybody shows against what the rendezvous has.
func (c *roomChaos) verify() {
	home := c.w.home.rooms[c.id]
	for _, d := range c.given {
		if !home.state.May(d.to.device(), d.epoch, room.Read) {
			c.t.Fatalf("%s was given keys of epoch %d by %s, and could not read in it", d.to.name, d.epoch, d.from.name)
		}
	}
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
	shown, inOrder := map[string]bool{}, map[protocol.DeviceID][]string{}
	may := c.readable(home, n)
	for _, m := range n.heard(c.id) {
		if m.State != StateStored && m.State != StateReceived {
			continue
		}
		if shown[m.Text] {
			c.t.Fatalf("%s shows %q twice", n.name, m.Text)
		}
		if !m.Mine && !may[m.Text] {
			c.t.Fatalf("%s shows %q, and may not", n.name, m.Text)
		}
		shown[m.Text] = true
		if !m.Late {
			inOrder[m.Device] = append(inOrder[m.Device], m.Text)
		}
	}
	for _, author := range c.w.nodes {
		if got := inOrder[author.device()]; !ordered(got, c.said[author]) {
			c.t.Fatalf("%s shows of %s %q, who wrote %q", n.name, author.name, got, c.said[author])
		}
	}
	m, in := home.state.Member(n.account())
	for _, b := range home.messages {
		said := c.w.home.sealed[b.ID()]
		if in && said.epoch >= m.Joined && may[said.text] && !shown[said.text] && home.state.May(n.device(), said.epoch, room.Read) {
			c.t.Fatalf("%s, in the room since %d, does not show %q of epoch %d", n.name, m.Joined, said.text, said.epoch)
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

// readable are the texts that were sealed in an epoch in which a node could read.
func (c *roomChaos) readable(home *roomHome, n *node) map[string]bool {
	texts, may := map[string]bool{}, map[uint64]bool{}
	for _, s := range c.w.home.sealed {
		if _, known := may[s.epoch]; !known {
			may[s.epoch] = home.state.May(n.device(), s.epoch, room.Read)
		}
		texts[s.text] = texts[s.text] || may[s.epoch]
	}
	return texts
}
