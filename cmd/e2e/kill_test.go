package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
)

// TestKillAtRandomMoments: SIGKILL of either node or the rendezvous, again and
// again while both sides send, loses nothing, doubles nothing and reorders
// nothing. PARLEY_SOAK sets the number of messages.
func TestKillAtRandomMoments(t *testing.T) {
	t.Parallel()
	total := often(t, "PARLEY_SOAK", 400)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d messages, seed %d", total, seed)
	g := newGroup(t)
	g.start()
	alice, bob := g.join("alice"), g.join("bob")
	g.must(drive.Befriend(g.ctx, alice, bob))

	sending, stop := context.WithCancel(g.ctx)
	var killer sync.WaitGroup
	kills := 0
	killer.Go(func() { kills = g.killUntil(sending, rand.New(rand.NewPCG(seed, 0)), alice, bob) })
	var senders sync.WaitGroup
	var sent [2][]string
	pace := max(10*time.Millisecond, 40*time.Second/time.Duration(total)) // long enough for some kills
	senders.Go(func() { sent[0] = g.sendAll(alice, "bob", total/2, pace) })
	senders.Go(func() { sent[1] = g.sendAll(bob, "alice", total/2, pace) })
	senders.Wait()
	stop()
	killer.Wait()
	t.Logf("all sent through %d kills", kills)
	if kills == 0 {
		t.Fatal("nothing was killed")
	}

	g.awaitAll(bob, alice, sent[0])
	g.awaitAll(alice, bob, sent[1])
	g.awaitStates(alice, "bob")
	g.awaitStates(bob, "alice")
}

// sendAll sends n messages and insists on each until it is accepted, with the
// same id, so that an answer lost to a kill doubles nothing.
func (g *group) sendAll(p drive.Person, to string, n int, pace time.Duration) (sent []string) {
	for i := range n {
		req := api.SendRequest{ID: protocol.NewMsgID().String(), To: to, Text: fmt.Sprintf("%s %05d", p.Name, i)}
		for g.ctx.Err() == nil {
			if client, err := api.Dial(p.Dir); err == nil {
				if _, err = client.Send(g.ctx, req); err == nil {
					break
				}
			}
			time.Sleep(20 * time.Millisecond) // the node is being restarted
		}
		sent = append(sent, req.Text)
		time.Sleep(pace)
	}
	return sent
}

// killUntil kills a random process every now and then and starts it again.
func (g *group) killUntil(ctx context.Context, rnd *rand.Rand, people ...drive.Person) (kills int) {
	for {
		select {
		case <-ctx.Done():
			return kills
		case <-time.After(time.Duration(200+rnd.IntN(1500)) * time.Millisecond):
		}
		kills++
		if victim := rnd.IntN(len(people) + 1); victim < len(people) {
			g.killNode(people[victim])
		} else {
			g.host.Kill()
			g.start()
		}
	}
}

func (g *group) killNode(p drive.Person) {
	status, err := p.Status(g.ctx)
	if err == nil {
		syscall.Kill(status.PID, syscall.SIGKILL)
	}
	if _, err := p.Run(g.ctx, "up"); err != nil && g.ctx.Err() == nil {
		g.t.Errorf("start %s again after SIGKILL: %v", p.Name, err)
	}
}

func (g *group) awaitAll(p, from drive.Person, want []string) {
	g.t.Helper()
	var got []string
	err := drive.Until(g.ctx, 2*time.Minute, fmt.Sprintf("%s has all of %s's messages", p.Name, from.Name), func() bool {
		got = g.texts(p, from.Name)
		return len(got) >= len(want)
	})
	if slices.Equal(got, want) {
		return
	}
	at := firstDifference(got, want)
	g.t.Errorf("%s has %d of %d messages of %s (%v); first difference at %d", p.Name, len(got), len(want), from.Name, err, at)
	g.explain(p, from, want[min(at, len(want)-1)])
	g.t.FailNow()
}

// explain logs what both sides know of a message that has not come, and of the
// rows around the place where it should be.
func (g *group) explain(p, from drive.Person, missing string) {
	for _, side := range []struct {
		who, with drive.Person
	}{{from, p}, {p, from}} {
		messages, _ := side.who.History(g.ctx, side.with.Name)
		logged := 0
		for _, m := range messages {
			if odd := m.State == api.Hole || m.State == api.Queued || m.State == api.Stored || m.Text == missing; odd && logged < 20 {
				logged++
				g.t.Logf("%s: %+v", side.who.Name, m)
			}
			if m.Mine && m.Text == missing {
				trace, err := side.who.Run(g.ctx, "trace", m.ID)
				g.t.Logf("%s's trace of %q: %s %v", side.who.Name, missing, trace, err)
			}
		}
		status, err := side.who.Run(g.ctx, "status")
		g.t.Logf("%s's status: %s %v", side.who.Name, status, err)
		g.logTroubles(side.who)
	}
}

// logTroubles logs the person's events that are neither messages nor states.
func (g *group) logTroubles(p drive.Person) {
	client, err := api.Dial(p.Dir)
	if err != nil {
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(g.ctx, 3*time.Second)
	defer cancel()
	for e, err := range client.Events(ctx, 0) {
		if err != nil {
			return
		}
		if e.Kind != "message" && e.Kind != "state" {
			g.t.Logf("%s: %+v", p.Name, e)
		}
	}
}

func firstDifference(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// awaitStates waits until the author knows that everything was delivered.
func (g *group) awaitStates(p drive.Person, to string) {
	g.t.Helper()
	g.must(drive.Until(g.ctx, 2*time.Minute, p.Name+" knows that all was delivered", func() bool {
		messages, err := p.History(g.ctx, to)
		return err == nil && !slices.ContainsFunc(messages, func(m api.Message) bool {
			return m.Mine && m.State != api.Delivered && m.State != api.Read
		})
	}))
}
