package engine

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
)

func (n *node) gaps(id protocol.RoomID, turn uint64, limit int) (list []RoomGap) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		list, err = n.e.RoomGaps(tx, id, turn, limit)
		return err
	})
	return list
}

// chainFrom is a chain of the node's device that begins with a number.
func (n *node) chainFrom(id protocol.RoomID, first uint64) []byte {
	n.w.t.Helper()
	b := n.distribution(id)
	device := n.device()
	number := binary.BigEndian.AppendUint64(nil, first)
	name := key.Hash("group chain", b[121:], id[:], b[33:41], device[:], number)
	copy(b[81:], name[:])
	copy(b[113:], number)
	return b
}

// Who says that he wrote a lot which nobody has keeps nobody from fetching what others
// wrote.
func TestMadeUpGapsKeepNobodyWaiting(t *testing.T) {
	w, id, a, b, c := trio(t)
	b.giveChain(id, a, b.chainFrom(id, 1<<20))
	dist, list := c.flood(id, 3)
	c.giveChain(id, a, dist)
	w.check(a.takeRoom(id, items(list[2])))
	got := a.gaps(id, 0, 64)
	var made, real []RoomGap
	for _, g := range got {
		if g.Device == b.device() {
			made = append(made, g)
		} else {
			real = append(real, g)
		}
	}
	if len(made) != gapShare || made[gapShare-1].Last-made[0].First >= gapShare*gapRun || len(real) != 1 || real[0].Last-real[0].First != 1 {
		t.Errorf("asks for %v", got)
	}
	shown := map[protocol.DeviceID]bool{}
	for turn := range uint64(2) {
		for _, g := range a.gaps(id, turn<<32, gapShare) {
			shown[g.Device] = true
		}
	}
	if !shown[b.device()] || !shown[c.device()] {
		t.Error("another turn does not begin with others")
	}
	before := len(a.gaps(id, 0, 64))
	b.giveChain(id, a, b.chainFrom(id, 1<<60))
	if after := a.gaps(id, 1<<30, 64); len(after) != before || slices.ContainsFunc(after, func(g RoomGap) bool { return g.Last >= 1<<20 }) {
		t.Errorf("asks for %v", after)
	}
}

// Each missing message has its turn, and no turn asks for more than the share.
func TestEveryGapHasItsTurn(t *testing.T) {
	gaps := []RoomGap{{First: 1, Last: 1}, {First: 3, Last: 300}, {First: 302, Last: 302}, {First: 400, Last: 463}, {First: 500, Last: 564}}
	asked := map[uint64]int{}
	for turn := range uint64(3) {
		list := gapsInTurn(gaps, turn)
		if len(list) > gapShare || !ascending(list) {
			t.Errorf("turn %d: %v", turn, list)
		}
		for _, g := range list {
			if g.Last-g.First >= gapRun {
				t.Errorf("turn %d: %v", turn, g)
			}
			for n := g.First; n <= g.Last; n++ {
				asked[n]++
			}
		}
	}
	for _, g := range gaps {
		for n := g.First; n <= g.Last; n++ {
			if asked[n] != 1 {
				t.Errorf("%d is asked for %d times", n, asked[n])
			}
			delete(asked, n)
		}
	}
	if len(asked) > 0 {
		t.Errorf("%v are not missing", asked)
	}
}
