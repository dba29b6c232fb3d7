// Command demo shows Parley at work on one machine: a rendezvous and three
// nodes as real processes with their own data directories, driven only
// through the parley binary, as a person would. `make demo` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
)

func main() {
	bin := flag.String("parley", "bin/parley", "the parley binary")
	once := flag.Bool("once", false, "end when the story is told instead of waiting for ^C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, *bin, *once); err != nil {
		fmt.Fprintln(os.Stderr, "demo failed:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, bin string, once bool) error {
	s, err := newStage(ctx, bin)
	if err != nil {
		return err
	}
	defer s.close()
	for _, act := range []func(*stage) error{meet, talk, away, compare, gather} {
		if err := act(s); err != nil {
			return err
		}
	}
	if once {
		return nil
	}
	s.invitation()
	<-ctx.Done()
	fmt.Println("\nstopping")
	return nil
}

// meet: a rendezvous, two accounts, one contact.
func meet(s *stage) error {
	title("A friend hosts a rendezvous; alice and bob join it and become contacts")
	if err := s.startHost(); err != nil {
		return err
	}
	for _, p := range []drive.Person{s.alice, s.bob} {
		if err := s.run(p, "join", s.host.Invite, "--name", p.Name, "--key-file", p.Key); err != nil {
			return err
		}
	}
	if err := s.run(s.alice, "add", "bob", "--note", "hi, it is alice"); err != nil {
		return err
	}
	if err := s.until("bob sees the request", func() bool { return s.relation(s.bob, "alice") == api.Incoming }); err != nil {
		return err
	}
	if err := s.run(s.bob, "requests"); err != nil {
		return err
	}
	if err := s.run(s.bob, "accept", "alice"); err != nil {
		return err
	}
	return s.until("alice sees the answer", func() bool { return s.relation(s.alice, "bob") == api.Accepted })
}

const greeting = "Hello bob! 你好 👋"

// talk: both online.
func talk(s *stage) error {
	title("Both are online: messages go directly from node to node")
	if err := s.run(s.alice, "send", "bob", greeting, "--wait"); err != nil {
		return err
	}
	return s.run(s.bob, "send", "alice", "Hello alice, I can read you.", "--wait")
}

// away: bob's node stops, messages wait for him, nothing is lost or doubled.
func away(s *stage) error {
	title("Bob's laptop is closed: messages wait, sealed, in his mailbox")
	if err := s.run(s.bob, "down"); err != nil {
		return err
	}
	said := []string{"Are you there?", "Never mind,", "read this when you are back."}
	for _, text := range said {
		if err := s.run(s.alice, "send", "bob", text); err != nil {
			return err
		}
	}
	sent := func(state api.State) (n int) {
		messages, _ := s.alice.History(s.ctx, "bob")
		for _, m := range messages {
			if m.Mine && m.State == state {
				n++
			}
		}
		return n
	}
	if err := s.until("the mailbox has them", func() bool { return sent(api.Stored) == len(said) }); err != nil {
		return err
	}
	if err := s.run(s.bob, "up"); err != nil {
		return err
	}
	if err := s.until("alice knows that they arrived", func() bool { return sent(api.Delivered)+sent(api.Read) == 1+len(said) }); err != nil {
		return err
	}
	messages, err := s.bob.History(s.ctx, "alice")
	if err != nil {
		return err
	}
	var got []string
	for _, m := range messages {
		if !m.Mine {
			got = append(got, m.Text)
		}
	}
	if want := append([]string{greeting}, said...); !slices.Equal(got, want) {
		return fmt.Errorf("bob has %q, want %q: once each and in order", got, want)
	}
	if err := s.run(s.bob, "history", "alice"); err != nil {
		return err
	}
	fmt.Println("  → each arrived once, in the order it was sent")
	return nil
}

// compare: safety numbers and the path of every message.
func compare(s *stage) error {
	title("The safety number, which both see alike, and the way each message went")
	var a, b api.Safety
	if err := s.alice.JSON(s.ctx, &a, "verify", "bob"); err != nil {
		return err
	}
	if err := s.bob.JSON(s.ctx, &b, "verify", "alice"); err != nil {
		return err
	}
	if a.Number == "" || a.Number != b.Number {
		return fmt.Errorf("alice sees safety number %q, bob %q", a.Number, b.Number)
	}
	fmt.Printf("  alice and bob both see %s\n\n", a.Number)
	messages, err := s.alice.History(s.ctx, "bob")
	if err != nil {
		return err
	}
	for _, m := range messages {
		from := "bob"
		if m.Mine {
			from = "alice"
		}
		fmt.Printf("  %-5s  %-9s  %-12s  %s\n", from, m.State, m.Path, m.Text)
	}
	return s.run(s.alice, "status")
}

// gather: a third person, and a room of three.
func gather(s *stage) error {
	title("Carol joins too, and alice makes a room of three")
	if err := s.run(s.carol, "join", s.host.Invite, "--name", "carol", "--key-file", s.carol.Key); err != nil {
		return err
	}
	if err := drive.Befriend(s.ctx, s.alice, s.carol); err != nil {
		return err
	}
	if err := s.run(s.alice, "room", "create", "climbing", "--topic", "Mondays at 7"); err != nil {
		return err
	}
	if err := s.run(s.alice, "room", "invite", "climbing", "bob", "carol"); err != nil {
		return err
	}
	for _, p := range []drive.Person{s.bob, s.carol} {
		invited := func(r api.Room) bool { return r.Stage == api.RoomInvited }
		if err := p.AwaitRoom(s.ctx, "climbing", "is invited", invited); err != nil {
			return err
		}
		if err := s.run(p, "room", "join", "climbing"); err != nil {
			return err
		}
	}
	if err := s.run(s.alice, "room", "send", "climbing", "Who comes on Monday?", "--wait"); err != nil {
		return err
	}
	if err := s.run(s.carol, "room", "send", "climbing", "I do", "--wait"); err != nil {
		return err
	}
	for _, p := range []drive.Person{s.alice, s.bob} {
		if err := s.until(p.Name+" has both messages", func() bool {
			messages, err := p.History(s.ctx, "#climbing")
			return err == nil && len(messages) == 2
		}); err != nil {
			return err
		}
	}
	if err := s.run(s.bob, "room", "history", "climbing"); err != nil {
		return err
	}
	return s.run(s.alice, "room", "members", "climbing")
}
