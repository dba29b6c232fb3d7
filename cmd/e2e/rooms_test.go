package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
)

const climbing = "#climbing"

// gather makes people, who are contacts of the first, and a room of them all.
func (g *group) gather(names ...string) (all []drive.Person) {
	g.t.Helper()
	for _, name := range names {
		all = append(all, g.join(name))
	}
	for _, p := range all[1:] {
		g.must(drive.Befriend(g.ctx, all[0], p))
	}
	g.must(drive.Gather(g.ctx, climbing, all[0], all[1:]...))
	return all
}

// speak has somebody write to the room, and waits until the room's mailbox has it.
func (g *group) speak(p drive.Person, text string) {
	g.t.Helper()
	_, err := p.Run(g.ctx, "room", "send", climbing, text, "--wait")
	g.must(err)
}

// heard returns what a person's node has of the room, by author, each in order.
func (g *group) heard(p drive.Person) map[string][]string {
	messages, err := p.History(g.ctx, climbing)
	if err != nil {
		return nil
	}
	by := map[string][]string{}
	for _, m := range messages {
		if m.State != api.Hole {
			by[m.From] = append(by[m.From], m.Text)
		}
	}
	return by
}

// awaitHeard waits until somebody has at least this many messages of the room.
func (g *group) awaitHeard(p drive.Person, want int) {
	g.t.Helper()
	g.must(drive.Until(g.ctx, 2*time.Minute, fmt.Sprintf("%s has %d messages of the room", p.Name, want), func() bool {
		messages, err := p.History(g.ctx, climbing)
		holes := slices.ContainsFunc(messages, func(m api.Message) bool { return m.State == api.Hole })
		return err == nil && len(messages) >= want && !holes
	}))
}

// TestRoom: five talk. Who is removed reads nothing of what comes then; who was away
// catches up; the rendezvous is killed and comes back.
func TestRoom(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.start()
	all := g.gather("alice", "bob", "carol", "dave", "erin")
	alice, bob, carol, dave, erin := all[0], all[1], all[2], all[3], all[4]
	for _, p := range all {
		g.speak(p, "hello of "+p.Name)
	}
	for _, p := range all {
		g.awaitHeard(p, len(all))
	}

	_, err := carol.Run(g.ctx, "down")
	g.must(err)
	_, err = alice.Run(g.ctx, "room", "kick", climbing, "dave")
	g.must(err)
	g.must(dave.AwaitRoom(g.ctx, climbing, "is out", func(r api.Room) bool { return r.Stage == api.RoomOut }))
	var later []string
	for i := range 10 {
		later = append(later, fmt.Sprintf("without dave %d", i))
		g.speak(alice, later[i])
	}
	g.host.Kill()
	g.start()
	g.speak(erin, "back again")

	_, err = carol.Run(g.ctx, "up")
	g.must(err)
	for _, p := range []drive.Person{alice, bob, carol, erin} {
		g.awaitHeard(p, len(all)+len(later)+1)
	}
	if got := g.heard(carol)["alice"]; !slices.Equal(got, append([]string{"hello of alice"}, later...)) {
		t.Errorf("carol, who was away, has of alice %q", got)
	}
	messages, err := dave.History(g.ctx, climbing)
	g.must(err)
	for _, m := range messages {
		if slices.Contains(later, m.Text) || m.Text == "back again" || m.State == api.Hole {
			t.Errorf("dave, who was removed, has %+v", m)
		}
	}
	if _, err := dave.Run(g.ctx, "room", "send", climbing, "still here"); err == nil {
		r, _ := dave.Room(g.ctx, climbing)
		t.Errorf("dave, who was removed, may write: %+v", r)
		g.logTroubles(dave)
	}
}

// TestRoomKillAtRandomMoments: SIGKILL of nodes and of the rendezvous while all write to
// a room loses nothing, doubles nothing and reorders nothing of an author. PARLEY_SOAK
// sets the number of messages.
func TestRoomKillAtRandomMoments(t *testing.T) {
	t.Parallel()
	total := often(t, "PARLEY_SOAK", 150)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d messages, seed %d", total, seed)
	g := newGroup(t)
	g.start()
	people := g.gather("alice", "bob", "carol")

	sending, stop := context.WithCancel(g.ctx)
	var killer, senders sync.WaitGroup
	kills := 0
	killer.Go(func() { kills = g.killUntil(sending, rand.New(rand.NewPCG(seed, 0)), people...) })
	sent := make([][]string, len(people))
	pace := max(10*time.Millisecond, 15*time.Second/time.Duration(total)) // long enough for some kills
	for i, p := range people {
		senders.Go(func() { sent[i] = g.sendAll(p, climbing, total/len(people), pace) })
	}
	senders.Wait()
	stop()
	killer.Wait()
	t.Logf("all sent through %d kills", kills)
	if kills == 0 {
		t.Fatal("nothing was killed")
	}

	for _, p := range people {
		g.awaitHeard(p, total/len(people)*len(people))
		var got [][]string
		for _, texts := range g.heard(p) {
			got = append(got, texts)
		}
		for i, want := range sent {
			if !slices.ContainsFunc(got, func(texts []string) bool { return slices.Equal(texts, want) }) {
				t.Errorf("%s does not have the messages of %s, each once and in order", p.Name, people[i].Name)
				g.logTroubles(p)
			}
		}
	}
}
