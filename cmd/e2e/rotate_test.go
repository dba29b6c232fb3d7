//go:build linux

package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
)

// TestKLC03_ProcessesRotateWhileTheyTalk: two people write to each other all the
// time while all kinds of keys are replaced; every message arrives once, in
// order. PARLEY_ROTATIONS sets how many rounds of rotations.
func TestKLC03_ProcessesRotateWhileTheyTalk(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.start()
	alice, bob := g.join("alice"), g.join("bob")
	g.must(drive.Befriend(g.ctx, alice, bob))
	desk := g.laptop(bob, "desk")
	g.must(bob.Link(g.ctx, desk))

	talking, stop := context.WithCancel(g.ctx)
	var senders sync.WaitGroup
	var sent [2][]string
	senders.Go(func() { sent[0] = g.talk(talking, alice, "bob") })
	senders.Go(func() { sent[1] = g.talk(talking, bob, "alice") })
	_, err := bob.Run(g.ctx, "device", "revoke", "desk", "--yes") // replaces the account key
	g.must(err)
	for range often(t, "PARLEY_ROTATIONS", 1) {
		for _, p := range []drive.Person{alice, bob} {
			for _, args := range [][]string{
				{"keys", "rotate", "signed"}, {"keys", "rotate", "sessions"}, {"keys", "rotate", "rsa"}, {"keys", "rotate", "all"},
				{"down"}, {"up"}, // replaces the wrap key
			} {
				_, err := p.Run(g.ctx, args...)
				g.must(err)
			}
		}
	}
	stop()
	senders.Wait()
	t.Logf("%d and %d messages", len(sent[0]), len(sent[1]))
	g.awaitAll(bob, alice, sent[0])
	g.awaitAll(alice, bob, sent[1])
	g.awaitStates(alice, "bob")
	g.awaitStates(bob, "alice")
}

// talk sends messages until ctx ends, and insists on each.
func (g *group) talk(ctx context.Context, p drive.Person, to string) (sent []string) {
	for ctx.Err() == nil {
		req := api.SendRequest{ID: protocol.NewMsgID().String(), To: to, Text: fmt.Sprintf("%s %05d", p.Name, len(sent))}
		for g.ctx.Err() == nil {
			client, err := api.Dial(p.Dir)
			if err == nil {
				if _, err = client.Send(g.ctx, req); err == nil {
					break
				}
			}
			time.Sleep(20 * time.Millisecond) // the node is being restarted
		}
		sent = append(sent, req.Text)
		time.Sleep(2 * time.Millisecond) // 500 a second, as far as the machine does them
	}
	return sent
}
