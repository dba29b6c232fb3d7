package main

import (
	"errors"
	"iter"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) listenCommand() *cli.Command {
	c := &cli.Command{
		Name: "listen", ArgsUsage: "[NAME]", Usage: "print messages as they come, of everybody or of one contact",
		Description: listenHelp, Flags: listenFlags(),
		Action: asking(0, 1, func(c *cli.Context, client *api.Client) error { return p.listenTo(c, client, c.Args().First()) }),
	}
	c.BashComplete = p.complete(c, contactNames, nil)
	return c
}

const listenHelp = "Runs until Ctrl-C. With --json every event is a line; remember its \"seq\" and go on later with --after."

func listenFlags() []cli.Flag {
	return []cli.Flag{
		&cli.Uint64Flag{Name: "after", Usage: "begin after the event with this `NUMBER`; 0 is all that is kept", DefaultText: "now"},
		&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "stop after `N` messages"},
		&cli.BoolFlag{Name: "peek", Usage: "do not mark messages as read"},
		idsFlag(),
	}
}

// listenTo prints what happens in one conversation, or in all if with is empty.
func (p *program) listenTo(c *cli.Context, client *api.Client, with string) error {
	if strings.HasPrefix(with, "#") {
		r, err := client.Room(c.Context, with)
		if err != nil {
			return err
		}
		with = conversation("", r.ID)
	}
	var events iter.Seq2[api.Event, error]
	if c.IsSet("after") {
		events = client.Events(c.Context, c.Uint64("after"))
	} else {
		events = client.NewEvents(c.Context)
	}
	left := c.Int("count")
	for e, err := range events {
		if c.Context.Err() != nil {
			return nil // Ctrl-C is how one leaves
		}
		if err != nil {
			return listenEnded(err)
		}
		from := conversation(e.With, e.Room)
		if with != "" && from != with {
			continue
		}
		if e.Quiet && with == "" && !c.Bool("json") {
			continue
		}
		if err := p.showEvent(c, e); err != nil {
			return err
		}
		if e.Kind != "message" || e.Message == nil || e.Message.Mine {
			continue
		}
		if !c.Bool("peek") {
			if err := client.MarkRead(c.Context, api.ReadRequest{With: from, UpTo: e.Message.Position}); err != nil {
				return listenEnded(err)
			}
		}
		if left--; left == 0 {
			return nil
		}
	}
	return nil
}

func listenEnded(err error) error {
	if errors.Is(err, api.ErrNotRunning) {
		return fail(exitNotRunning, "your node has stopped").hint("start it: parley up")
	}
	return err
}

func (p *program) showEvent(c *cli.Context, e api.Event) error {
	if c.Bool("json") {
		return p.json(e)
	}
	switch {
	case e.Kind == "message" && e.Message != nil:
		switch m := *e.Message; {
		case m.Mine:
		case m.Room != "":
			p.showMessage(idOf(c, m)+label(m.With)+" ", m)
		default:
			p.showMessage(idOf(c, m), m)
		}
	case e.Kind == "changed" && (e.Text == "" || e.Mine && e.Cause != api.CauseFile): // what the user did
	case e.Kind == "changed" && e.Room != "":
		p.say("%s * %s: %s", clock(e.Time), label(e.With), e.Text)
	case e.Kind == "room":
		p.showRoomEvent(e)
	case e.Kind == "state": // of own messages: history and trace show it
	case e.Kind == "request":
		p.say("%s * %s asks to be your contact: parley accept %s", clock(e.Time), e.With, e.With)
		if e.Text != "" {
			p.say("      %s", e.Text)
		}
	case e.Kind == "accepted":
		p.say("%s * %s is your contact now", clock(e.Time), e.With)
	case e.Kind == "contact":
		p.say("%s * %s: %s", clock(e.Time), e.With, e.Text)
	case e.Kind == "undecryptable":
		p.say("%s * a message of %s could not be opened (%s)", clock(e.Time), e.With, e.Cause)
	case e.Text != "":
		p.say("%s * %s", clock(e.Time), e.Text)
	}
	return nil
}

// showRoomEvent prints what happened in a room, and what there is to do about it.
func (p *program) showRoomEvent(e api.Event) {
	where := label(e.With)
	switch e.Cause {
	case "invited":
		p.say("%s * %s: %s: parley room join %s", clock(e.Time), where, e.Text, typed(e.With, e.Room))
	case "not_done":
		p.say("%s * %s: could not be done: %s", clock(e.Time), where, e.Text)
	case "fork":
		p.say("%s ! %s: %s: parley room fork %s", clock(e.Time), where, e.Text, typed(e.With, e.Room))
	case "bad_log":
		p.say("%s ! %s: %s: parley room show %s", clock(e.Time), where, e.Text, typed(e.With, e.Room))
	default:
		p.say("%s * %s: %s", clock(e.Time), where, e.Text)
	}
}
