package main

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

// shownAtStart is how much of the history a conversation begins with.
const shownAtStart = 20

// roomTalk is a guest's room at the terminal: what comes is printed, what is typed
// is sent.
type roomTalk struct {
	p      *program
	c      *cli.Context
	client *api.Client
	with   string
	shown  []string // ids of the messages it began with
}

// converse prints what comes in the guest's room and sends what is typed, until one
// ends. errLeft: the guest is out, and may come back by itself.
func (p *program) converse(c *cli.Context, client *api.Client) error {
	g, err := client.Guest(c.Context)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	t := &roomTalk{p: p, c: c, client: client, with: "#" + g.Room}
	events, err := t.begin(ctx, g)
	if err != nil {
		return err
	}
	came, lines := make(chan heard), p.lines()
	go func() { // ends with ctx
		defer close(came)
		for e, err := range events {
			select {
			case came <- heard{e, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil // Ctrl-C is how one leaves
		case line, ok := <-lines:
			if ok {
				err = t.say(ctx, line)
			} else if lines = nil; !c.Bool("stay") {
				return t.flush(ctx)
			}
		case a, ok := <-came:
			if !ok || ctx.Err() != nil {
				return nil
			}
			err = t.hear(ctx, a)
		}
		if err != nil {
			return err
		}
	}
}

// heard is an event, or why there are no more.
type heard struct {
	event api.Event
	err   error
}

// begin shows where one is and what was said before, and returns what comes.
func (t *roomTalk) begin(ctx context.Context, g api.Guest) (iter.Seq2[api.Event, error], error) {
	if t.c.Bool("json") && t.c.IsSet("after") {
		return t.client.Events(ctx, t.c.Uint64("after")), nil
	}
	last, err := t.client.LastEvent(ctx)
	if err != nil {
		return nil, err
	}
	if t.c.Bool("json") {
		return t.client.Events(ctx, last), nil
	}
	page, err := t.client.History(ctx, t.with, 0, shownAtStart)
	if err != nil {
		return nil, err
	}
	t.p.note("You are %s, a guest. Each line you type is sent; Ctrl-D ends it.", g.Name)
	for _, m := range page {
		t.shown = append(t.shown, m.ID)
		t.p.showMessage("", m)
	}
	return t.client.Events(ctx, last), markRead(ctx, t.client, page)
}

// say sends a line. That it may not be sent now is no reason to end.
func (t *roomTalk) say(ctx context.Context, line string) error {
	if line == "" {
		return nil
	}
	_, err := t.client.Send(ctx, api.SendRequest{To: t.with, Text: line})
	if _, ok := errors.AsType[*api.Error](err); ok {
		t.p.complain(explain(err), t.c.Bool("json"))
		return nil
	}
	return err
}

// hear shows an event. One of the room may say that the guest is out.
func (t *roomTalk) hear(ctx context.Context, a heard) error {
	if a.err != nil {
		return listenEnded(a.err)
	}
	m := a.event.Message
	if m != nil && m.ID != "" && slices.Contains(t.shown, m.ID) {
		return nil
	}
	if err := t.p.showEvent(t.c, a.event); err != nil {
		return err
	}
	if a.event.Kind == "message" && m != nil && !m.Mine {
		return t.client.MarkRead(ctx, api.ReadRequest{With: t.with, UpTo: m.Position})
	}
	if m != nil {
		return nil
	}
	return t.stillIn(ctx)
}

// stillIn returns why the guest is in the room no more: errLeft if it comes back by
// itself.
func (t *roomTalk) stillIn(ctx context.Context) error {
	g, err := t.client.Guest(ctx)
	switch {
	case err != nil:
		return err
	case g.Stage == api.GuestIn:
		return nil
	case g.Stage == api.GuestKnocks:
		t.p.note("%s", g.Text)
		return errLeft
	}
	return fail(exitLocked, "%s", g.Text)
}

// flush waits until what was typed is on its way.
func (t *roomTalk) flush(ctx context.Context) error {
	for ctx.Err() == nil {
		r, err := t.client.Room(ctx, t.with[1:])
		if err != nil || r.Queued == 0 {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// lines reads lines of standard input. The reader ends with the input, or the program.
func (p *program) lines() <-chan string {
	if p.typed == nil {
		p.typed = make(chan string)
		go func() {
			defer close(p.typed)
			for {
				line, err := p.readLine()
				if err != nil {
					return
				}
				p.typed <- line
			}
		}()
	}
	return p.typed
}
