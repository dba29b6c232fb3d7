package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

const idHelp = "ID is what `parley send` says and `parley history --ids` shows; its first 6 characters are enough."

// actionCommands are what can be done to messages and conversations.
func (p *program) actionCommands() []*cli.Command {
	forMe := &cli.BoolFlag{Name: "for-me", Usage: "only on your own devices; also what others wrote"}
	remove := &cli.BoolFlag{Name: "remove", Usage: "take your reaction back"}
	timer := &cli.Command{
		Name: "timer", ArgsUsage: "NAME [TIME|off]", Usage: "let new messages of a conversation disappear, for all who are in it, or see whether they do",
		Description: "TIME is such as 10m, 8h or 7d: so long after a message was read it is destroyed; at its author's, after it was\nwritten. NAME is a contact, or with # before it a room, in which that takes the right to rename. Others can\nhave copied what they read.",
		Action:      asking(1, 2, p.timer),
	}
	quiet := &cli.Command{
		Name: "quiet", ArgsUsage: "NAME [TIME|off]", Usage: "hear no more of a conversation, for a time or until off",
		Description: "On all your devices: `parley listen` leaves its messages out, save those that mention you, unless it is asked\nfor NAME. They are in the history. NAME is a contact, or with # before it a room.",
		Action:      asking(1, 2, p.quiet),
	}
	pins := &cli.Command{Name: "pins", ArgsUsage: "NAME", Usage: "the pinned messages of a conversation", Action: asking(1, 1, p.pins)}
	for _, c := range []*cli.Command{timer, quiet, pins} {
		c.BashComplete = p.complete(c, contactNames, nil)
	}
	all := []*cli.Command{
		{Name: "reply", ArgsUsage: "ID TEXT...", Usage: "answer a message", Description: idHelp, Action: asking(2, -1, p.reply)},
		{
			Name: "react", ArgsUsage: "ID EMOJI", Usage: "react to a message with one emoji, in place of the one before",
			Description: idHelp, Flags: []cli.Flag{remove}, Action: asking(1, 2, p.react),
		},
		{
			Name: "edit", ArgsUsage: "ID TEXT...", Usage: "change what you wrote, within 24 hours",
			Description: idHelp, Action: asking(2, -1, p.edit),
		},
		{
			Name: "delete", ArgsUsage: "ID", Usage: "delete for everyone what you wrote within 24 hours; in a room also what others wrote, if you may kick",
			Description: idHelp, Flags: []cli.Flag{forMe}, Action: asking(1, 1, p.delete),
		},
		{Name: "pin", ArgsUsage: "ID", Usage: "pin a message for everyone", Description: idHelp, Action: asking(1, 1, p.pin(api.MessagePin))},
		{Name: "unpin", ArgsUsage: "ID", Usage: "undo pin", Description: idHelp, Action: asking(1, 1, p.pin(api.MessageUnpin))},
		pins, timer, quiet,
	}
	for _, c := range all {
		c.Category = "Messages"
	}
	return all
}

// change does something to the message that the first argument names.
func (p *program) change(c *cli.Context, client *api.Client, verb string, r api.MessageRequest, done string) error {
	m, err := client.ChangeMessage(c.Context, c.Args().First(), verb, r)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(m)
	}
	p.say(done)
	return nil
}

func (p *program) reply(c *cli.Context, client *api.Client) error {
	to, err := client.Trace(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	with := conversation(to.Message.With, to.Message.Room)
	m, err := client.Send(c.Context, api.SendRequest{To: with, Text: strings.Join(c.Args().Tail(), " "), ReplyTo: to.Message.ID})
	if err != nil {
		return err
	}
	if m, err = follow(c.Context, client, m, 0); err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(m)
	}
	p.say("%s  id %s", describeState(m), m.ID)
	return nil
}

func (p *program) react(c *cli.Context, client *api.Client) error {
	emoji := c.Args().Get(1)
	if remove := c.Bool("remove"); remove == (emoji != "") {
		return usageError("say which emoji, or --remove").hint("parley react ID 👍")
	}
	done := "your reaction is there"
	if emoji == "" {
		done = "your reaction is taken back"
	}
	return p.change(c, client, api.MessageReact, api.MessageRequest{Emoji: emoji}, done)
}

func (p *program) edit(c *cli.Context, client *api.Client) error {
	return p.change(c, client, api.MessageEdit, api.MessageRequest{Text: strings.Join(c.Args().Tail(), " ")}, "the message is changed")
}

func (p *program) delete(c *cli.Context, client *api.Client) error {
	done := "the message is deleted here, and goes from the others' devices as they hear of it"
	if c.Bool("for-me") {
		done = "the message is deleted on your devices"
	}
	return p.change(c, client, api.MessageDelete, api.MessageRequest{ForMe: c.Bool("for-me")}, done)
}

func (p *program) pin(verb string) func(*cli.Context, *api.Client) error {
	return func(c *cli.Context, client *api.Client) error {
		return p.change(c, client, verb, api.MessageRequest{}, "the message is "+verb+"ned")
	}
}

func (p *program) pins(c *cli.Context, client *api.Client) error {
	list, err := client.Pinned(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(listed("messages", list))
	}
	for _, m := range list {
		p.showMessage(idBefore(m), m)
	}
	return nil
}

func (p *program) timer(c *cli.Context, client *api.Client) error {
	name := c.Args().First()
	if c.NArg() == 1 {
		s, err := client.Conversation(c.Context, name)
		if err != nil {
			return err
		}
		return p.sayTimer(c, s)
	}
	lasts, err := timeOrOff(c.Args().Get(1))
	if err != nil {
		return err
	}
	s, err := client.SetTimer(c.Context, api.TimerRequest{With: name, Lasts: int64(lasts / time.Second)})
	if err != nil {
		return err
	}
	return p.sayTimer(c, s)
}

func (p *program) sayTimer(c *cli.Context, s api.Conversation) error {
	if c.Bool("json") {
		return p.json(s)
	}
	if s.Lasts == 0 {
		p.say("new messages with %s stay", titled(s.With))
		return nil
	}
	lasts := duration(time.Duration(s.Lasts) * time.Second)
	p.say("new messages with %s disappear %s after they are read", titled(s.With), &lasts)
	return nil
}

// forEver is how long a conversation is quiet of which nobody said how long.
const forEver = 100 * 365 * 24 * time.Hour

func (p *program) quiet(c *cli.Context, client *api.Client) error {
	lasts := forEver
	if c.NArg() == 2 {
		var err error
		if lasts, err = timeOrOff(c.Args().Get(1)); err != nil {
			return err
		}
	}
	r := api.MuteRequest{With: c.Args().First()}
	if lasts > 0 {
		until := time.Now().Add(lasts)
		r.Until = &until
	}
	s, err := client.Mute(c.Context, r)
	if err != nil {
		return err
	}
	switch {
	case c.Bool("json"):
		return p.json(s)
	case s.QuietUntil == nil:
		p.say("you hear of %s again", titled(s.With))
	case lasts == forEver:
		p.say("%s is quiet until you type: parley quiet %s off", titled(s.With), shellWord(c.Args().First()))
	default:
		p.say("%s is quiet until %s", titled(s.With), minute(*s.QuietUntil))
	}
	return nil
}

// titled names a conversation within a line.
func titled(with string) string {
	if strings.HasPrefix(with, "#") {
		return label(with)
	}
	return with
}

// timeOrOff reads a time such as 8h or 7d; 0 for off.
func timeOrOff(text string) (time.Duration, error) {
	if text == "off" {
		return 0, nil
	}
	var d duration
	if err := d.Set(text); err != nil {
		return 0, usageError("%v", err).hint("or: off")
	}
	return time.Duration(d), nil
}

// said is the text of a message, with what goes with it on lines below.
func said(m api.Message) block {
	lines := []string{m.Text}
	if m.Deleted {
		lines[0] = "[deleted]"
	}
	if m.File != nil {
		lines = append(notEmpty(m.Text), filePart(m))
	}
	if m.Edited != nil {
		lines[0] += " (edited)"
	}
	if q := m.ReplyTo; q != nil && q.Text != "" {
		lines = append(lines, fmt.Sprintf("↪ %s: %s", q.From, q.Text))
	} else if q != nil {
		lines = append(lines, fmt.Sprintf("↪ a message of %s that is not here", q.From))
	}
	var below []string
	if m.Pinned {
		below = append(below, "📌")
	}
	for _, r := range m.Reactions {
		below = append(below, r.Emoji+" "+r.From)
	}
	if len(below) > 0 {
		lines = append(lines, strings.Join(below, "  "))
	}
	return block{"      ", strings.Join(lines, "\n")}
}
