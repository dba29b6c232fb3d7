package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

// fileCommands are what can be done with files that others sent, or that were sent.
func (p *program) fileCommands() []*cli.Command {
	list := &cli.Command{
		Name: "files", ArgsUsage: "[NAME]", Usage: "files on their way, and those you have not answered; or all of a conversation",
		Category: "Files", Action: asking(0, 1, p.files),
	}
	list.BashComplete = p.complete(list, contactNames, nil)
	verbs := []*cli.Command{
		{
			Name: "accept", Usage: "fetch a file", Action: asking(1, 1, p.acceptFile),
			Flags: []cli.Flag{
				&cli.PathFlag{Name: "to", Usage: "put it into the folder `DIR`", DefaultText: "what download-dir sets, or ~/Downloads"},
				&cli.BoolFlag{Name: "no-wait", Usage: "do not wait until it is here"},
				&cli.GenericFlag{Name: "timeout", Usage: "how long to wait, such as 10s or 2m; exit code 7 if it is not here in time", Value: new(duration), DefaultText: "until it is here"},
			},
		},
		{Name: "decline", Usage: "say no to a file; who sent it is told", Action: asking(1, 1, p.changeFile(api.FileDecline))},
		{Name: "pause", Usage: "stop fetching a file for now, or giving one that you sent", Action: asking(1, 1, p.changeFile(api.FilePause))},
		{Name: "resume", Usage: "go on with a file that was paused, or that failed", Action: asking(1, 1, p.changeFile(api.FileResume))},
		{Name: "cancel", Usage: "stop fetching a file, or giving one that you sent, for good", Action: asking(1, 1, p.changeFile(api.FileCancel))},
	}
	for _, v := range verbs {
		v.ArgsUsage, v.Description = "ID", fileIDHelp
	}
	return []*cli.Command{list, {Name: "file", Category: "Files", Usage: "accept, decline, pause, resume or cancel a file", Subcommands: verbs}}
}

const fileIDHelp = "ID is what `parley listen`, `parley files` and `parley send` say; its first 6 characters are enough.\nFiles are fetched and given by your node: that has to be up, this command need not run."

// files lists files.
func (p *program) files(c *cli.Context, client *api.Client) error {
	list, err := client.Files(c.Context, c.Args().First())
	if err != nil {
		return orRoom(c, client, err, c.Args().First())
	}
	return p.listFiles(c, list)
}

func (p *program) listFiles(c *cli.Context, list []api.Message) error {
	if c.Bool("json") {
		return p.json(listed("messages", list))
	}
	if len(list) == 0 {
		p.say("no files")
		return nil
	}
	var rows [][]string
	for _, m := range list {
		from := author(m, "me")
		if m.Room != "" {
			from = label(m.With) + " " + from
		}
		if m.Mine && m.Room == "" {
			from = "me to " + m.With
		}
		rows = append(rows, []string{m.ID[:min(len(m.ID), idShown)], from, m.File.Name, bytesText(m.File.Size), fileState(m)})
	}
	p.table(rows)
	return nil
}

func (p *program) acceptFile(c *cli.Context, client *api.Client) error {
	to := c.Path("to")
	if to != "" {
		var err error
		if to, err = filepath.Abs(to); err != nil {
			return err
		}
	}
	m, err := client.ChangeFile(c.Context, c.Args().First(), api.FileAccept, api.FileRequest{To: to})
	if err != nil {
		return err
	}
	if c.Bool("no-wait") {
		return p.sayFile(c, m)
	}
	ctx, cancel := within(c)
	defer cancel()
	last, err := p.watchFile(ctx, c, client, m, func(m api.Message) bool { return m.File.State != api.FileWanted })
	switch {
	case ctx.Err() != nil && c.Context.Err() == nil:
		return fail(exitQueued, "%s is not here yet", m.File.Name).hint("your node goes on with it; see how far it is: parley files")
	case err != nil:
		return err
	case last.File.State != api.FileDone:
		return fail(exitError, "%s: %s", m.File.Name, fileOutcome(last)).hint("to try again: parley file accept %s", c.Args().First())
	}
	if !c.Bool("json") {
		p.say("%s", last.File.Path)
	}
	return nil
}

func (p *program) changeFile(verb string) func(*cli.Context, *api.Client) error {
	return func(c *cli.Context, client *api.Client) error {
		m, err := client.ChangeFile(c.Context, c.Args().First(), verb, api.FileRequest{})
		if err != nil {
			return err
		}
		return p.sayFile(c, m)
	}
}

func (p *program) sayFile(c *cli.Context, m api.Message) error {
	if c.Bool("json") {
		return p.json(m)
	}
	p.say("%s: %s", m.File.Name, fileState(m))
	return nil
}

// within is the time that a command with --timeout may take; for ever without.
func within(c *cli.Context) (context.Context, context.CancelFunc) {
	if limit, ok := c.Generic("timeout").(*duration); ok && *limit > 0 {
		return context.WithTimeout(c.Context, time.Duration(*limit))
	}
	return context.WithCancel(c.Context)
}

// watchFile shows how far a file is until it is over, and returns what it is then. Who
// interrupts it leaves the file to the node.
func (p *program) watchFile(ctx context.Context, c *cli.Context, client *api.Client, m api.Message, over func(api.Message) bool) (api.Message, error) {
	bar := p.newBar(m.File.Name)
	defer bar.end()
	for m, err := range client.WatchFile(ctx, m.ID) {
		if err != nil {
			return m, fileGone(err)
		}
		if c.Bool("json") {
			if err := p.json(m); err != nil {
				return m, err
			}
		}
		if over(m) {
			return m, nil
		}
		bar.showFile(m)
	}
	return m, ctx.Err()
}

// fileGone explains why there is nothing to watch any more.
func fileGone(err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Code == api.ErrNotFound {
		return fail(exitNotFound, "the message with the file was deleted")
	}
	return err
}

// fileState says how far a file is: what is done with it right now, or else fileOutcome.
func fileState(m api.Message) string {
	if p := m.File.Progress; p != nil {
		return progressText(p, m.File.Size)
	}
	return fileOutcome(m)
}

// fileOutcome says what became of a file until now.
func fileOutcome(m api.Message) string {
	f := m.File
	switch {
	case m.Mine && f.Answer == api.FileTaken:
		return m.With + " has it"
	case m.Mine && f.Answer == api.FileRefused:
		return m.With + " does not want it"
	case f.State == api.FileFailed:
		return "failed: " + f.Problem
	case f.State == api.FileChanged:
		return "gone: " + f.Problem
	case m.Mine && f.State == api.FileDone && f.Stored:
		return "sent; the rendezvous has it for who is away"
	case m.Mine && f.State == api.FileDone && m.Room != "":
		return "sent; your node gives it to who wants it"
	case m.Mine && f.State == api.FileDone:
		return "sent; " + m.With + " has not fetched it"
	case f.State == api.FileDone:
		return "here: " + f.Path
	case f.State == api.FileOffered && f.Asks:
		return "parley file accept " + m.ID[:min(len(m.ID), idShown)]
	case f.State == api.FileWanted:
		return "waiting"
	}
	return f.State
}

// progressText says what is done with a file, how fast, and how long it may take.
func progressText(p *api.Progress, size int64) string {
	text := p.Doing
	if p.Doing == api.Waiting {
		return cmp.Or(p.Waits, "waiting")
	}
	if size > 0 && p.Doing != api.Giving { // to how many, and from where on, is not known
		text += fmt.Sprintf(" %d %%", p.Done*100/size)
	}
	if p.Rate > 0 {
		text += fmt.Sprintf("  %s/s", bytesText(p.Rate))
	}
	if p.Path != "" {
		text += "  " + p.Path
	}
	if left := size - p.Done; p.Rate > 0 && left > 0 && p.Doing != api.Giving {
		text += "  " + span(time.Duration(cmp.Or(left/p.Rate, 1))*time.Second) + " left"
	}
	return text
}

// bytesText writes a number of bytes as people read it.
func bytesText(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size := float64(n) / 1024
	for ; size >= 1023.95 && len(units) > 1; size /= 1024 {
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %s", size, units[0])
}

// filePart is what history and listen show of the file of a message.
func filePart(m api.Message) string {
	kind := "file"
	if m.File.Folder {
		kind = "folder"
	}
	return fmt.Sprintf("[%s] %s, %s: %s", kind, m.File.Name, bytesText(m.File.Size), fileState(m))
}
