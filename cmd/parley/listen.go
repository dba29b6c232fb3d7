package main

import (
	"errors"
	"iter"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) listenCommand() *cli.Command {
	c := &cli.Command{
		Name: "listen", ArgsUsage: "[NAME]", Usage: "print messages as they come, of everybody or of one contact",
		Description: "Runs until Ctrl-C. With --json every event is a line; remember its \"seq\" and go on later with --after.",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "after", Usage: "begin after the event with this `NUMBER`; 0 is all that is kept", DefaultText: "now"},
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "stop after `N` messages"},
			&cli.BoolFlag{Name: "peek", Usage: "do not mark messages as read"},
			idsFlag(),
		},
		Action: asking(0, 1, p.listen),
	}
	c.BashComplete = p.completeContacts(c)
	return c
}

func (p *program) listen(c *cli.Context, client *api.Client) error {
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
		if with := c.Args().First(); with != "" && e.With != with {
			continue
		}
		if e.Quiet && c.Args().First() == "" && !c.Bool("json") {
			continue
		}
		if err := p.showEvent(c, e); err != nil {
			return err
		}
		if e.Kind != "message" || e.Message == nil || e.Message.Mine {
			continue
		}
		if !c.Bool("peek") {
			if err := client.MarkRead(c.Context, api.ReadRequest{With: e.With, UpTo: e.Message.Position}); err != nil {
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
		if !e.Message.Mine {
			p.showMessage(*e.Message, c.Bool("ids"))
		}
	case e.Kind == "changed" && (e.Mine || e.Text == ""): // what the user did
	case e.Kind == "changed" && e.Room != "":
		p.say("%s * in %s %s", clock(e.Time), e.With, e.Text)
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
