package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
)

// TestRoomOfManyAnyNetworkAnyCrash is TestRoomsAnyNetworkAnyCrash in a room of more nodes,
// of whom any speaks, over schedules that are numbers: PARLEY_ROOM_NODES says how many
// nodes, PARLEY_ROOM_SCHEDULES how many schedules, PARLEY_ROOM_SEED with which to begin.
func TestRoomOfManyAnyNetworkAnyCrash(t *testing.T) {
	nodes, schedules := envNumber(t, "PARLEY_ROOM_NODES", 8), envNumber(t, "PARLEY_ROOM_SCHEDULES", 10)
	first := envNumber(t, "PARLEY_ROOM_SEED", 1)
	origin, id := crowdedRoom(t, nodes)
	var cloning sync.Mutex
	var all tally
	t.Cleanup(func() {
		if all.keys < schedules*nodes || all.messages < schedules || all.entries < schedules {
			t.Errorf("hardly anything happened: %d entries, %d messages, %d keys", all.entries, all.messages, all.keys)
		}
	})
	for seed := first; seed < first+schedules; seed++ {
		t.Run(fmt.Sprint("schedule ", seed), func(t *testing.T) {
			t.Parallel()
			cloning.Lock()
			w := origin.clone(t)
			cloning.Unlock()
			c := newRoomChaos(t, w, id, seed)
			c.run(30 + 2*nodes)
			c.heal()
			c.verify()
			all.add(c, origin.home.rooms[id])
		})
	}
}

// newRoomChaos draws from a number.
func newRoomChaos(t *testing.T, w *world, id protocol.RoomID, seed int) *roomChaos {
	dice := rand.New(rand.NewPCG(uint64(seed), 0))
	c := &roomChaos{
		t: t, w: w, id: id, crashes: 50 * len(w.nodes), said: map[*node][]string{},
		draw: func(n int, _ string) int { return dice.IntN(n) },
	}
	for _, n := range w.nodes {
		c.said[n] = []string{"hello of " + n.name}
	}
	return c
}

// tally is how much happened in all schedules.
type tally struct {
	mu                      sync.Mutex
	entries, messages, keys int
}

func (a *tally) add(c *roomChaos, before *roomHome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	home := c.w.home.rooms[c.id]
	a.entries += len(home.log) - len(before.log)
	a.messages += len(home.messages) - len(before.messages)
	a.keys += len(c.given)
	c.t.Logf("%d entries, %d messages, %d keys", len(home.log)-len(before.log), len(home.messages)-len(before.messages), len(c.given))
}

func envNumber(t testing.TB, name string, or int) int {
	text := os.Getenv(name)
	if text == "" {
		return or
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// crowdedRoom is a room of n nodes, in which everybody has a session with everybody.
func crowdedRoom(t testing.TB, n int) (*world, protocol.RoomID) {
	w := newWorld(t)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("node", i)
	}
	id, nodes := roomOf(t, w, names...)
	for _, n := range nodes {
		n.say(id, "hello of "+n.name)
		w.settle()
	}
	for _, n := range nodes[1:mightyOf(n)] {
		w.check(nodes[0].write(id, room.SetRole{Account: n.account(), Role: room.RoleModerator}))
	}
	w.pass(time.Hour)
	return w, id
}
