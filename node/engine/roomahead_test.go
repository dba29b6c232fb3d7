package engine

import (
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
)

// givesAhead gives another node a chain of an epoch.
func (n *node) givesAhead(id protocol.RoomID, to *node, epoch uint64) protocol.Code {
	n.w.t.Helper()
	_, d, err := (chain.Sender{}).Start(n.w.now, message.View{Room: id, Epoch: epoch, Seq: epoch}, n.device())
	n.w.check(err)
	mid := protocol.NewMsgID()
	keys := &wire.RoomKeys{Room: id[:], Distributions: [][]byte{d.Marshal()}}
	return forgeContent(n.w, n, to, &wire.Content{MsgId: mid[:], Body: &wire.Content_RoomKeys{RoomKeys: keys}})
}

// Who makes up epochs, in the room or not, has mail kept in a mailbox for minutes and not
// for ever, and one timer set.
func TestMadeUpEpochsEnd(t *testing.T) {
	w, id, a, b, _ := trio(t)
	m := w.add("mallory")
	w.befriend(m, a)
	for _, from := range []*node{m, b} {
		for i := range uint64(5) {
			if code := from.givesAhead(id, a, 1<<40+i); code != protocol.Unavailable {
				t.Errorf("%s: %v before the log was read", from.name, code)
			}
		}
	}
	if got := a.timers(timerRoomAsk); got != 1 {
		t.Errorf("%d timers", got)
	}
	w.pass(maxAheadTime)
	b.givesAhead(id, a, 1<<40) // brought again, it has the log read again
	w.settle()
	for _, from := range []*node{m, b} {
		for i := range uint64(5) {
			if code := from.givesAhead(id, a, 1<<40+5-i); code != protocol.OK {
				t.Errorf("%s: %v after the log was read", from.name, code)
			}
		}
	}
	b.say(id, "still heard")
	w.settle()
	if got := texts(a.heard(id)); got[len(got)-1] != "still heard" {
		t.Errorf("alice has %q", got)
	}
}

// While the log cannot be read, chains of later epochs wait, however long; also those of
// somebody whose coming was not read.
func TestKeysWaitForTheLog(t *testing.T) {
	w, id, a, b, c := trio(t)
	d := w.add("dave")
	w.befriend(d, a)
	w.befriend(d, c)
	c.away, c.offline = true, true
	a.invite(id, d)
	w.settle()
	d.join(id)
	w.settle()
	w.check(a.write(id, room.Rotate{}))
	w.settle()
	b.say(id, "of bob")
	d.say(id, "of dave")
	w.settle()
	for range 3 {
		for _, from := range []*node{b, d} {
			if code := from.givesAhead(id, c, a.room(id).State.Epoch()); code != protocol.Unavailable {
				t.Errorf("%s: %v", from.name, code)
			}
		}
		w.pass(2 * maxAheadTime)
	}
	c.away, c.offline = false, false
	w.settle()
	w.pass(maxAheadTime)
	for _, from := range []*node{b, d} {
		want := "of " + map[*node]string{b: "bob", d: "dave"}[from]
		found := false
		for _, text := range texts(c.heard(id)) {
			found = found || text == want
		}
		if !found {
			t.Errorf("carol has %q, not %q", texts(c.heard(id)), want)
		}
	}
}
