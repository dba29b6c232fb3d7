package main

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node"
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
// ends. errOut: the guest is out, and may come back by itself.
func (p *program) converse(c *cli.Context, client *api.Client) error {
	g, err := client.Guest(c.Context)
	if e, ok := errors.AsType[*api.Error](err); ok && e.Code == api.ErrNotFound {
		return node.ErrOtherVisit
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	t := &roomTalk{p: p, c: c, client: client, with: "#" + g.Room}
	if err = t.run(ctx, g); ctx.Err() != nil {
		return nil // Ctrl-C is how one leaves
	}
	return err
}

// run talks until there is a reason to end.
func (t *roomTalk) run(ctx context.Context, g api.Guest) error {
	if err := t.awaitRoom(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	events, err := t.begin(ctx, g)
	if err != nil {
		return err
	}
	came, lines := make(chan arrival), t.p.lines()
	go func() { // ends with ctx
		defer close(came)
		for e, err := range events {
			select {
			case came <- arrival{e, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case line, ok := <-lines:
			if ok {
				err = t.say(ctx, line)
			} else if lines = nil; !t.c.Bool("stay") {
				return t.flush(ctx)
			}
		case a, ok := <-came:
			if !ok {
				return nil
			}
			err = t.hear(ctx, a)
		}
		if err != nil {
			return err
		}
	}
}

// arrival is an event, or why there are no more.
type arrival struct {
	event api.Event
	err   error
}

// awaitRoom waits until the room is here, of which a guest that has just come in knows
// nothing yet.
func (t *roomTalk) awaitRoom(ctx context.Context) error {
	for ctx.Err() == nil {
		_, err := t.client.Room(ctx, t.with[1:])
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.ErrNotFound {
			return err
		}
		if err := t.stillIn(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
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

// say sends a line, or does what it asks of files. That it may not be is no reason to end.
func (t *roomTalk) say(ctx context.Context, line string) error {
	if line == "" {
		return nil
	}
	done, err := t.fileCommand(ctx, line)
	if !done {
		_, err = t.client.Send(ctx, api.SendRequest{To: t.with, Text: line})
	}
	_, refused := errors.AsType[*api.Error](err)
	if _, wrong := errors.AsType[*failure](err); refused || wrong {
		t.p.complain(explain(err), t.c.Bool("json"))
		return nil
	}
	return err
}

// hear shows an event. One of the room may say that the guest is out.
func (t *roomTalk) hear(ctx context.Context, a arrival) error {
	if a.err != nil {
		return a.err
	}
	m := a.event.Message
	if m != nil && m.ID != "" && slices.Contains(t.shown, m.ID) {
		return nil
	}
	spoken := a.event.Kind == "message" && m != nil && !m.Mine
	if spoken && !t.c.Bool("json") {
		t.p.showMessage("", *m) // there is one room
	} else if err := t.p.showEvent(t.c, a.event); err != nil {
		return err
	}
	switch {
	case spoken:
		return t.client.MarkRead(ctx, api.ReadRequest{With: t.with, UpTo: m.Position})
	case a.event.Kind == "room":
		return t.stillIn(ctx)
	}
	return nil
}

// stillIn returns why the guest is in the room no more: errOut if it comes back by
// itself, errLeft if it wanted to go.
func (t *roomTalk) stillIn(ctx context.Context) error {
	g, err := t.client.Guest(ctx)
	switch {
	case err != nil:
		return err
	case g.Stage == api.GuestIn:
		return nil
	case g.Stage == api.GuestKnocks:
		t.p.note("%s", g.Text)
		return errOut
	case g.Stage == api.GuestLeft:
		return errLeft
	}
	return fail(exitLocked, "%s", g.Text)
}

// keysTime is how long a guest that goes waits until the others have the keys of what it
// said. Who has no keys yet when it is gone gets them when it is back.
const keysTime = 10 * time.Second

// flush waits until what was typed is in the room, and, for a while, until all can read it.
func (t *roomTalk) flush(ctx context.Context) error {
	until := time.Now().Add(keysTime)
	for ctx.Err() == nil {
		r, err := t.client.Room(ctx, t.with[1:])
		if err == nil {
			err = t.stillIn(ctx)
		}
		if err != nil {
			return err
		}
		s, err := t.client.Status(ctx)
		if err != nil || r.Queued == 0 && (s.Queued+s.Waiting == 0 || time.Now().After(until)) {
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
