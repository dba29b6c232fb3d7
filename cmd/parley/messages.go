package main

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
)

func (p *program) messageCommands() []*cli.Command {
	send := &cli.Command{
		Name: "send", ArgsUsage: "NAME TEXT...|PATH...|-", Usage: "send a message, files or folders; - takes the text from standard input, byte by byte",
		Description: sendHelp, Flags: sendFlags("wait until it is on the other computer; exit code 7 if it is not in time"),
		Action: sending(func(c *cli.Context, client *api.Client) error { return p.sendTo(c, client, c.Args().First()) }),
	}
	history := &cli.Command{
		Name: "history", ArgsUsage: "NAME", Usage: "what you and a contact wrote", Flags: historyFlags(),
		Action: asking(1, 1, func(c *cli.Context, client *api.Client) error { return p.historyOf(c, client, c.Args().First()) }),
	}
	for _, c := range []*cli.Command{send, history} {
		c.BashComplete = p.complete(c, contactNames, nil)
	}
	all := []*cli.Command{
		send,
		p.listenCommand(),
		history,
		{
			Name: "trace", ArgsUsage: "ID", Usage: "what happened to a message, step by step",
			Description: "ID is what `parley send` and `parley history --json` say; its first 6 characters are enough.",
			Action:      asking(1, 1, p.trace),
		},
		p.exportCommand(),
	}
	for _, c := range all {
		c.Category = "Messages"
	}
	return all
}

const sendHelp = "The message is safe on this computer when the command ends. It goes on its way by itself,\nalso if the other side comes back only next week. Text that begins with a dash comes after --.\nA file or folder stays where it is, and your node gives it to who was sent it, resumed when it is cut, until they\nhave it. Ctrl-C leaves that to the node. At a terminal an argument that begins with ./ ../ / or ~/ is a path; in\nscripts, where it may be anybody's words, it is text: there --file says what is a file. Such words come after --."

func sendFlags(wait string) []cli.Flag {
	return append(fileFlags(),
		&cli.BoolFlag{Name: "wait", Usage: wait},
		&cli.GenericFlag{Name: "timeout", Usage: "how long to wait, such as 10s or 2m", Value: new(duration), DefaultText: "30s; for files until they have arrived"},
		&cli.StringFlag{Name: "id", Usage: "the message's `ID`: a second try with the same one sends nothing twice"},
	)
}

func historyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "n", Usage: "the newest `N` messages", Value: 50},
		&cli.Uint64Flag{Name: "before", Usage: "only messages before this `POSITION`"},
		&cli.BoolFlag{Name: "peek", Usage: "do not mark messages as read"},
		idsFlag(),
	}
}

// sendTo sends what follows the first argument.
func (p *program) sendTo(c *cli.Context, client *api.Client, to string) error {
	d, err := p.readDraft(c)
	switch {
	case err != nil:
		return err
	case d.pipe:
		return p.sendPipe(c, client, to)
	case len(d.files) > 0:
		return p.sendFiles(c, client, to, d)
	}
	return p.sendText(c, client, to, d.text)
}

// sendText sends a message without a file; - is what standard input holds.
func (p *program) sendText(c *cli.Context, client *api.Client, to, text string) error {
	if text == "-" {
		read, err := io.ReadAll(io.LimitReader(p.stdin, protocol.MaxText+1))
		if err != nil {
			return err
		}
		text = string(read)
	}
	if text == "" {
		return usageError("there is no text to send")
	}
	if len(text) > protocol.MaxText {
		return usageError("a message has at most %d bytes", protocol.MaxText)
	}
	if !utf8.ValidString(text) {
		return usageError("a message is text in UTF-8")
	}
	m, err := client.Send(c.Context, api.SendRequest{ID: c.String("id"), To: to, Text: text})
	if err != nil {
		return orRoom(c, client, err, to)
	}
	p.noteFile(c)
	wait := waitTime(c)
	if m, err = follow(c.Context, client, m, wait); err != nil {
		return err
	}
	if c.Bool("json") {
		err = p.json(m)
	} else {
		p.say("%s  id %s", describeState(m), m.ID)
	}
	if err == nil && wait > 0 && !arrived(m) {
		return fail(exitQueued, "%s does not have it yet", m.With).
			hint("it goes on its way by itself; see where it is: parley trace %s", m.ID)
	}
	return err
}

// arrived tells that an own message is where it was to go: on a device of the contact,
// or in the room's mailbox, from where every member takes it.
func arrived(m api.Message) bool {
	return m.State == api.Delivered || m.State == api.Read || m.State == api.Stored && m.Room != ""
}

const defaultWait = 30 * time.Second

// waitTime is how long send was asked to wait; 0 if it was not.
func waitTime(c *cli.Context) time.Duration {
	if !c.Bool("wait") {
		return 0
	}
	return cmp.Or(time.Duration(*c.Generic("timeout").(*duration)), defaultWait)
}

// glance is how long send looks at a message that it was not asked to wait for,
// because most are delivered within a few milliseconds.
const glance = 250 * time.Millisecond

// follow looks at a message until it has been delivered, or the time is up.
// Without a time to wait, it is enough that the message has left.
func follow(ctx context.Context, client *api.Client, m api.Message, wait time.Duration) (api.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, max(wait, glance))
	defer cancel()
	for pause := 2 * time.Millisecond; m.State == api.Queued || m.State == api.Stored && wait > 0 && !arrived(m); pause = min(2*pause, 250*time.Millisecond) {
		select {
		case <-ctx.Done():
			if context.Cause(ctx) == context.DeadlineExceeded {
				return m, nil
			}
			return m, ctx.Err()
		case <-time.After(pause):
		}
		t, err := client.Trace(ctx, m.ID)
		if err != nil {
			if ctx.Err() == nil {
				return m, err
			}
			continue
		}
		m = t.Message
	}
	return m, nil
}

func describeState(m api.Message) string {
	text := string(m.State)
	switch {
	case m.State == api.Stored && m.Room != "":
		text = "in the room"
	case m.State == api.Stored:
		text = "waits for " + m.With + " at the rendezvous"
	case m.Path == api.Direct:
		text += " directly"
	case m.Path != "":
		text += " (" + string(m.Path) + ")"
	}
	if m.Problem != "" {
		text += ": " + m.Problem
	}
	return text
}

func (p *program) historyOf(c *cli.Context, client *api.Client, with string) error {
	want := c.Int("n")
	if want < 1 {
		return usageError("-n is at least 1")
	}
	var all []api.Message
	for before := c.Uint64("before"); len(all) < want; before = all[0].Position {
		page, err := client.History(c.Context, with, before, min(want-len(all), api.MaxHistory))
		if err != nil {
			return orRoom(c, client, err, with)
		}
		if len(page) == 0 {
			break
		}
		all = append(page, all...)
	}
	if c.Bool("json") {
		if err := p.json(listed("messages", all)); err != nil {
			return err
		}
	} else {
		for _, m := range all {
			p.showMessage(idOf(c, m), m)
		}
	}
	if c.Bool("peek") {
		return nil
	}
	return markRead(c.Context, client, all)
}

// markRead notes that a page of a conversation has been seen.
func markRead(ctx context.Context, client *api.Client, page []api.Message) error {
	for _, m := range slices.Backward(page) {
		if m.State == api.Received {
			return client.MarkRead(ctx, api.ReadRequest{With: conversation(m.With, m.Room), UpTo: m.Position})
		}
	}
	return nil
}

func idsFlag() cli.Flag {
	return &cli.BoolFlag{Name: "ids", Usage: "show by what `parley reply`, react, edit, delete and pin name each message"}
}

// idOf is what is shown of a message's id, if the user wants to see it.
func idOf(c *cli.Context, m api.Message) string {
	if !c.Bool("ids") {
		return ""
	}
	return idBefore(m)
}

func idBefore(m api.Message) string {
	if m.ID == "" { // a hole
		return ""
	}
	return "[" + m.ID[:min(len(m.ID), idShown)] + "] "
}

// conversation is what the API calls the conversation of a message or an event. The
// name of a room may be another's too, or change; its id stays.
func conversation(with, room string) string {
	if room != "" {
		return "#" + room
	}
	return with
}

// author is who wrote a message.
func author(m api.Message, me string) string {
	switch {
	case m.Mine:
		return me
	case m.Room != "" && strings.Contains(m.From, ":"): // or the name would say something
		return strings.ReplaceAll(m.From, ":", ".")
	case m.Room != "":
		return m.From
	}
	return m.With
}

// showMessage prints a message, after the name of its room if that is not plain from
// the rest. Lines after its first are indented, so that none of them looks like another
// message.
func (p *program) showMessage(where string, m api.Message) {
	who, state := where+author(m, "me"), ""
	if m.Mine && !arrived(m) {
		state = "  [" + describeState(m) + "]"
	}
	switch {
	case m.State == api.Hole:
		p.say("%s %s: [a message is missing]", clock(m.Recorded), who)
	case m.Late:
		p.say("%s %s (late): %s", clock(m.Recorded), who, said(m))
	default:
		p.say("%s %s: %s%s", clock(m.Recorded), who, said(m), state)
	}
}

func (p *program) trace(c *cli.Context, client *api.Client) error {
	t, err := client.Trace(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(t)
	}
	p.say("%s  %s", t.Message.ID, describeState(t.Message))
	for _, s := range t.Steps {
		p.say("%s  %-13s %s", s.Time.Local().Format("2006-01-02 15:04:05.000"), s.What, s.Detail)
	}
	return nil
}
