package node_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
)

// texts returns the texts of a page, in order.
func texts(page []api.Message) []string {
	all := []string{}
	for _, m := range page {
		all = append(all, m.Text)
	}
	return all
}

// has tells whether somebody has exactly these texts with somebody, in order.
func has(p, with *nodetest.Person, want ...string) func() bool {
	return func() bool { return slices.Equal(texts(p.With(with)), want) }
}

// reached tells whether a message of p is in a state.
func reached(p *nodetest.Person, id string, want api.State) func() bool {
	return func() bool { return p.Message(id).State == want }
}

// Two people who know nothing but an invite exchange their first messages.
func TestIM16_FirstMessages(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	hello := alice.Say(bob, "hello bob")
	if hello.State != api.Queued || !hello.Mine || hello.With != "bob" {
		t.Errorf("just sent: %+v", hello)
	}
	net.Wait("bob has the message", has(bob, alice, "hello bob"))
	bob.Say(alice, "hello alice")
	net.Wait("alice has the answer", has(alice, bob, "hello bob", "hello alice"))
	net.Wait("alice's message is delivered", reached(alice, hello.ID, api.Delivered))

	second := alice.Say(bob, "and now directly")
	net.Wait("the second is delivered", reached(alice, second.ID, api.Delivered))
	if got := alice.Message(second.ID); got.Path != api.Direct {
		t.Errorf("went by %q, want direct", got.Path)
	}
	if err := bob.MarkRead(t.Context(), api.ReadRequest{With: "alice", UpTo: 1000}); err != nil {
		t.Fatal(err)
	}
	net.Wait("alice sees that it was read", reached(alice, second.ID, api.Read))
}

// states collects the states of each message as events tell them.
type states struct {
	mu  sync.Mutex
	got map[string][]api.State
}

func watchStates(t *testing.T, p *nodetest.Person) *states {
	s := &states{got: map[string][]api.State{}}
	last, err := p.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range p.Events(t.Context(), last) {
			if err != nil {
				return
			}
			if e.Message == nil || !e.Message.Mine {
				continue
			}
			s.mu.Lock()
			s.got[e.Message.ID] = append(s.got[e.Message.ID], e.Message.State)
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() { p.Stop(); <-done })
	return s
}

func (s *states) of(id string) []api.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got[id])
}

var order = []api.State{api.Queued, api.Stored, api.Delivered, api.Read}

// waits tells whether the trace of a message says why it waits.
func waits(t *testing.T, p *nodetest.Person, id string) func() bool {
	return func() bool {
		trace, err := p.Trace(t.Context(), id)
		return err == nil && slices.ContainsFunc(trace.Steps, func(s api.Step) bool { return s.What == "waiting" && s.Detail != "" })
	}
}

// The recipient is offline: messages wait in the mailbox, arrive once, in
// order, and their states only move forward.
func TestIM08_OfflineRecipient(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "before")
	net.Wait("bob has the first", has(bob, alice, "before"))
	bob.Stop()

	watch := watchStates(t, alice)
	want := []string{"before"}
	var sent []api.Message
	for i := range 20 {
		text := fmt.Sprintf("message %d", i)
		sent, want = append(sent, alice.Say(bob, text)), append(want, text)
	}
	for _, m := range sent {
		net.Wait("it is in the mailbox", reached(alice, m.ID, api.Stored))
	}
	if got := alice.Message(sent[0].ID); got.Path != api.Mailbox {
		t.Errorf("went by %q, want mailbox", got.Path)
	}
	bob.Start()
	net.Wait("bob has all, in order", has(bob, alice, want...))
	for _, m := range sent {
		net.Wait("alice knows that it arrived", reached(alice, m.ID, api.Delivered))
	}
	if err := bob.MarkRead(t.Context(), api.ReadRequest{With: "alice", UpTo: 1000}); err != nil {
		t.Fatal(err)
	}
	for _, m := range sent {
		net.Wait("alice knows that it was read", reached(alice, m.ID, api.Read))
		net.Wait("events say so too", func() bool { return slices.Contains(watch.of(m.ID), api.Read) })
		got := watch.of(m.ID)
		if !slices.IsSortedFunc(got, func(a, b api.State) int { return slices.Index(order, a) - slices.Index(order, b) }) {
			t.Errorf("states of a message: %v", got)
		}
	}
	bob.Stop()
	bob.Start()
	net.Wait("bob is back", bob.Up)
	alice.Say(bob, "after")
	net.Wait("nothing came twice", has(bob, alice, append(want, "after")...))
}

func TestSendingTwiceSendsOnce(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	request := api.SendRequest{ID: protocol.NewMsgID().String(), To: "bob", Text: "once"}
	for range 3 {
		m, err := alice.Send(t.Context(), request)
		if err != nil || m.ID != request.ID {
			t.Fatalf("sent %v, %v", m, err)
		}
	}
	alice.Say(bob, "then this")
	net.Wait("bob has both, once", has(bob, alice, "once", "then this"))
	request.Text = "something else"
	if _, err := alice.Send(t.Context(), request); codeOf(err) != api.ErrConflict {
		t.Errorf("same id, other text: %v", err)
	}
}

// While the rendezvous is down contacts go on directly, and after its return
// everything works as before.
func TestRendezvousDownAndBack(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "1")
	net.Wait("connected", has(bob, alice, "1"))
	net.Home.Stop()
	net.Wait("alice sees that it is down", func() bool { return !alice.Up() })

	alice.Say(bob, "2")
	net.Wait("bob has it without the rendezvous", has(bob, alice, "1", "2"))
	bob.Say(alice, "3")
	net.Wait("alice has the answer", has(alice, bob, "1", "2", "3"))

	alice.Stop() // forgets its connections, but not where bob was
	alice.Start()
	alice.Say(bob, "4")
	net.Wait("bob has it from a new connection", has(bob, alice, "1", "2", "3", "4"))

	bob.Stop()
	waiting := alice.Say(bob, "5")
	net.Wait("the trace says why it waits", waits(t, alice, waiting.ID))
	net.Home.Start()
	net.Wait("alice is back", alice.Up)
	net.Wait("what waited is in the mailbox", reached(alice, waiting.ID, api.Stored))
	bob.Start()
	net.Wait("bob has it", has(bob, alice, "1", "2", "3", "4", "5"))
}

// A call that is answered hello_first counts as made while offline, and the
// next connection, with a hello, is soon there.
func TestHelloFirstConnectsAnew(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	before := linkSince(t, alice)
	err := alice.HelloFirst()
	if _, refused := errors.AsType[*protocol.Error](err); refused || !errors.Is(err, node.ErrOffline) {
		t.Errorf("the caller is told: %v", err)
	}
	net.Wait("alice has another link", func() bool { return alice.Up() && linkSince(t, alice).After(before) })
	alice.Say(bob, "1")
	net.Wait("bob has it", has(bob, alice, "1"))
}

func linkSince(t *testing.T, p *nodetest.Person) (since time.Time) {
	t.Helper()
	s, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Rendezvous.Since != nil {
		since = *s.Rendezvous.Since
	}
	return since
}

// Nobody can be dialed: all goes through the relay.
func TestRelayedOnly(t *testing.T) {
	t.Parallel()
	net := nodetest.NewWith(t, 2, nodetest.Options{Node: func(_ int, c *node.Config) { c.Listen = nodetest.NoListen }})
	alice, bob := net.People[0], net.People[1]
	net.Wait("both have a place at the relay", func() bool { return relayUp(t, alice) && relayUp(t, bob) })
	net.Befriend(alice, bob)
	want := []string{}
	for i := range 10 {
		text := fmt.Sprint("relayed ", i)
		want = append(want, text)
		m := alice.Say(bob, text)
		net.Wait("it is delivered", reached(alice, m.ID, api.Delivered))
		if got := alice.Message(m.ID); i > 0 && got.Path != api.Relayed {
			t.Errorf("message %d went by %q, want relayed", i, got.Path)
		}
	}
	net.Wait("bob has all", has(bob, alice, want...))
	if got := alice.Contact("bob"); got.Path != api.Relayed || got.Online == nil || !*got.Online {
		t.Errorf("contact: %+v", got)
	}
	for pong, err := range alice.Ping(t.Context(), "bob") {
		if err != nil || pong.Problem != "" || pong.Path != api.Relayed {
			t.Errorf("ping: %+v, %v", pong, err)
		}
		break
	}
}

func relayUp(t *testing.T, p *nodetest.Person) bool {
	t.Helper()
	s, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Relay.Up
}

func TestBlockedContactGetsNothing(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "1")
	net.Wait("connected", has(bob, alice, "1"))
	if _, err := bob.Block(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	net.Wait("the connection is cut", func() bool { return alice.Contact("bob").Path == "" })
	net.Wait("presence ends", func() bool { o := alice.Contact("bob").Online; return o != nil && !*o })
	refused := alice.Say(bob, "2")
	net.Wait("it is refused", waits(t, alice, refused.ID))
	for pong := range alice.Ping(t.Context(), "bob") {
		if pong.Problem == "" {
			t.Errorf("a blocked contact gets a reply: %+v", pong)
		}
		break
	}
	if got := texts(bob.With(alice)); !slices.Equal(got, []string{"1"}) {
		t.Errorf("bob has %q from somebody he blocked", got)
	}
	if _, err := bob.Send(t.Context(), api.SendRequest{To: "alice", Text: "3"}); codeOf(err) != api.ErrConflict {
		t.Errorf("writing to a blocked contact: %v", err)
	}
	if _, err := bob.Unblock(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	after := alice.Say(bob, "4")
	net.Wait("after unblocking it goes again", reached(alice, after.ID, api.Delivered))
}

// Contacts see each other come and go; others see nothing.
func TestIM10_Presence(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	net.Befriend(alice, bob)
	online := func(who *nodetest.Person, want bool) func() bool {
		return func() bool { o := alice.Contact(who.Name).Online; return o != nil && *o == want }
	}
	net.Wait("alice sees bob", online(bob, true))
	bob.Stop()
	net.Wait("alice sees bob leave", online(bob, false))
	begun := time.Now()
	bob.Start()
	net.Wait("alice sees bob come", online(bob, true))
	t.Logf("seen %v after its start", time.Since(begun).Round(time.Millisecond))

	if _, err := alice.Add(t.Context(), api.AddRequest{Name: "carol"}); err != nil {
		t.Fatal(err)
	}
	net.Wait("carol is asked", func() bool { return carol.Contact("alice").Relation == api.Incoming })
	if c := alice.Contact("carol"); c.Online != nil || c.Path != "" {
		t.Errorf("alice sees presence of somebody who has not accepted: %+v", c)
	}
	if c := carol.Contact("alice"); c.Online != nil {
		t.Errorf("carol sees presence of somebody she has not accepted: %+v", c)
	}
}
