package node_test

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
)

// change does something to a message.
func change(t *testing.T, p *nodetest.Person, id, verb string, r api.MessageRequest) api.Message {
	t.Helper()
	m, err := p.ChangeMessage(t.Context(), id, verb, r)
	if err != nil {
		t.Fatalf("%s does %q: %v", p.Name, verb, err)
	}
	return m
}

// told waits for an event of kind changed that somebody else made, and returns it.
func told(t *testing.T, p *nodetest.Person, cause string) api.Event {
	t.Helper()
	for e, err := range p.Events(t.Context(), 0) {
		if err != nil {
			t.Fatalf("%s's events: %v", p.Name, err)
		}
		if e.Kind == "changed" && e.Cause == cause && !e.Mine {
			return e
		}
	}
	t.Fatalf("%s's events ended", p.Name)
	return api.Event{}
}

// What one does to a message the other sees, and is told in words.
func TestActionsWithAContact(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	first := alice.Say(bob, "shall we climb?")
	net.Wait("bob has it", has(bob, alice, "shall we climb?"))

	change(t, bob, first.ID[:8], api.MessageReact, api.MessageRequest{Emoji: "👍"})
	if e := told(t, alice, api.CauseReaction); e.By != "bob" || e.With != "bob" || e.Text != `bob reacted 👍 to "shall we climb?"` {
		t.Errorf("event: %+v", e)
	}
	answer, err := bob.Send(t.Context(), api.SendRequest{To: "alice", Text: "yes", ReplyTo: first.ID})
	if err != nil || answer.ReplyTo == nil || answer.ReplyTo.Text != "shall we climb?" || answer.ReplyTo.From != "alice" {
		t.Fatalf("answer: %+v, %v", answer, err)
	}
	net.Wait("alice has the answer", has(alice, bob, "shall we climb?", "yes"))
	if q := alice.With(bob)[1].ReplyTo; q == nil || q.ID != first.ID || q.From != "alice" {
		t.Errorf("it answers %+v", q)
	}
	change(t, alice, first.ID, api.MessageEdit, api.MessageRequest{Text: "shall we climb on Sunday?"})
	net.Wait("bob sees the edit", func() bool {
		m := bob.With(alice)[0]
		return m.Text == "shall we climb on Sunday?" && m.Edited != nil && len(m.Reactions) == 1 && m.Reactions[0].Mine
	})
	change(t, bob, first.ID, api.MessagePin, api.MessageRequest{})
	net.Wait("alice sees the pin", func() bool {
		list, err := alice.Pinned(t.Context(), "bob")
		return err == nil && len(list) == 1 && list[0].ID == first.ID && list[0].Pinned
	})
	change(t, alice, first.ID, api.MessageDelete, api.MessageRequest{})
	net.Wait("it is deleted at bob's", func() bool { m := bob.With(alice)[0]; return m.Deleted && m.Text == "" })
	if m := change(t, bob, answer.ID, api.MessageDelete, api.MessageRequest{ForMe: true}); m.ID != "" {
		t.Errorf("deleted for him, and still there: %+v", m)
	}
	if len(bob.With(alice)) != 1 || len(alice.With(bob)) != 2 {
		t.Error("deleted for one is not deleted for one")
	}
	for verb, want := range map[string]string{api.MessageReact: api.ErrConflict, "paint": api.ErrNotFound} {
		if _, err := bob.ChangeMessage(t.Context(), first.ID, verb, api.MessageRequest{Emoji: "👍"}); codeOf(err) != want {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if _, err := bob.ChangeMessage(t.Context(), "aaaaaaaa", api.MessageReact, api.MessageRequest{Emoji: "👍"}); codeOf(err) != api.ErrNotFound {
		t.Errorf("no message: %v", err)
	}
}

// A timer is for both, quiet for one.
func TestSettingsOfAConversation(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	if _, err := bob.SetTimer(t.Context(), api.TimerRequest{With: "alice", Lasts: 3600}); err != nil {
		t.Fatal(err)
	}
	if e := told(t, alice, api.CauseTimer); e.Text != "bob set new messages to disappear 1h after they are read" {
		t.Errorf("event: %+v", e)
	}
	until := time.Now().Add(time.Hour)
	if _, err := alice.Mute(t.Context(), api.MuteRequest{With: "bob", Until: &until}); err != nil {
		t.Fatal(err)
	}
	s, err := alice.Conversation(t.Context(), "bob")
	if err != nil || s.Lasts != 3600 || s.QuietUntil == nil || s.With != "bob" {
		t.Errorf("alice's settings: %+v, %v", s, err)
	}
	if s, err := bob.Conversation(t.Context(), "alice"); err != nil || s.Lasts != 3600 || s.QuietUntil != nil {
		t.Errorf("bob's settings: %+v, %v", s, err)
	}
	m := bob.Say(alice, "soon gone")
	if m.Lasts != 3600 || m.Expires == nil {
		t.Errorf("bob's message: %+v", m)
	}
	net.Wait("alice has it", has(alice, bob, "soon gone"))
	if got := alice.With(bob)[0]; got.Lasts != 3600 || got.Expires != nil {
		t.Errorf("alice has not read it: %+v", got)
	}
	if _, err := bob.SetTimer(t.Context(), api.TimerRequest{With: "alice", Lasts: 1 << 40}); codeOf(err) != api.ErrBadInput {
		t.Errorf("a timer of a thousand years: %v", err)
	}
}

// In a room all see what members do, and a name after @ is a mention.
func TestActionsInARoom(t *testing.T) {
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	room := net.NewRoom("climbing", alice, bob, carol)
	said := alice.SayIn(room, "@bob, do you come?")
	hear(net, bob, room, "alice: @bob, do you come?")
	hear(net, carol, room, "alice: @bob, do you come?")
	of := func(p *nodetest.Person) api.Message {
		page, err := p.History(t.Context(), "#climbing", 0, 1)
		if err != nil || len(page) != 1 {
			t.Fatalf("%s: %v", p.Name, err)
		}
		return page[0]
	}
	if b, c := of(bob), of(carol); !b.MentionsMe || c.MentionsMe || len(c.Mentions) != 1 {
		t.Errorf("bob's: %+v, carol's: %+v", b, c)
	}
	change(t, carol, said.ID, api.MessageReact, api.MessageRequest{Emoji: "🎉"})
	change(t, alice, said.ID, api.MessagePin, api.MessageRequest{})
	net.Wait("bob sees both", func() bool {
		m := of(bob)
		return m.Pinned && len(m.Reactions) == 1 && m.Reactions[0].Emoji == "🎉" && m.Reactions[0].From == "carol"
	})
	if _, err := bob.ChangeMessage(t.Context(), said.ID, api.MessageUnpin, api.MessageRequest{}); codeOf(err) != api.ErrRefused {
		t.Errorf("a member unpins: %v", err)
	}
	change(t, bob, bob.SayIn(room, "by mistake").ID, api.MessageDelete, api.MessageRequest{})
	net.Wait("carol sees that there was one", func() bool { return of(carol).Deleted })
}
