package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func fileFlags() []cli.Flag {
	return []cli.Flag{
		&cli.GenericFlag{Name: "file", Usage: "send the file or folder at `PATH`, and the text with it; may be given several times", Value: new(paths)},
		&cli.BoolFlag{Name: "text", Usage: "what follows is text, whatever it looks like"},
		&cli.StringFlag{Name: "name", Usage: "what a file is called for others; with -, send standard input as a file of this `NAME`"},
		&cli.BoolFlag{Name: "no-wait", Usage: "do not wait until a file has arrived"},
	}
}

// paths is the value of a flag that may be given several times.
type paths []string

func (p *paths) Set(path string) error {
	*p = append(*p, path)
	return nil
}

func (p *paths) String() string {
	if p == nil {
		return ""
	}
	return strings.Join(*p, " ")
}

// looksLikePath tells which arguments of send are paths and no text, where a person types
// them. Those of a script may be anybody's words, and would choose a file to be sent.
func looksLikePath(arg string) bool {
	for _, start := range []string{"./", "../", "/", "~/"} {
		if strings.HasPrefix(arg, start) {
			return true
		}
	}
	return arg == "." || arg == ".."
}

// sending makes an action of a function that sends what follows the recipient: that is at
// least one argument, unless a flag names a file.
func sending(fn func(*cli.Context, *api.Client) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		min := 2
		if c.IsSet("file") {
			min = 1
		}
		return asking(min, -1, fn)(c)
	}
}

// draft is what send is to send.
type draft struct {
	text  string
	files []string // absolute
	pipe  bool     // standard input is a file
}

// readDraft sorts out what follows the recipient.
func (p *program) readDraft(c *cli.Context) (d draft, err error) {
	args, given, guessed := c.Args().Tail(), *c.Generic("file").(*paths), false
	switch {
	case c.IsSet("name") && len(args) == 1 && args[0] == "-" && len(given) == 0:
		return draft{pipe: true}, nil
	case !c.Bool("text") && len(given) == 0 && len(args) > 0 && looksLikePath(args[0]) && p.atTerminal():
		given, guessed = args, true
	default:
		d.text = strings.Join(args, " ")
	}
	for _, path := range given {
		full, err := findFile(path)
		if f, ok := errors.AsType[*failure](err); ok && guessed {
			return d, f.hint("if that is text: parley send NAME --text %s", shellWord(path))
		}
		if err != nil {
			return d, err
		}
		d.files = append(d.files, full)
	}
	if c.IsSet("name") && len(d.files) != 1 {
		return d, usageError("--name is for one file, or for what is read from standard input: parley send NAME - --name FILE")
	}
	return d, nil
}

// noteFile tells who sent the name of a file as text how to send the file.
func (p *program) noteFile(c *cli.Context) {
	args := c.Args().Slice()
	if len(args) != 2 || c.Bool("text") || c.Bool("json") {
		return
	}
	if _, err := os.Stat(args[1]); err == nil {
		p.note("that went as text; to send the file: %s %s --file %s", c.Command.HelpName, shellWord(args[0]), shellWord(args[1]))
	}
}

// findFile returns the absolute path of what is to be sent.
func findFile(path string) (string, error) {
	full, err := expandHome(path)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(full); errors.Is(err, fs.ErrNotExist) {
		return "", fail(exitNotFound, "there is no file %q", path)
	} else if err != nil {
		return "", usageError("%v", err)
	}
	return full, nil
}

// expandHome makes a path absolute; ~/ is the home directory, also where no shell said so.
func expandHome(path string) (string, error) {
	rest, home := strings.CutPrefix(path, "~/")
	if !home {
		return filepath.Abs(path)
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return "", usageError("cannot tell where your files are: %v", err)
	}
	return filepath.Join(dir, rest), nil
}

// sendFiles sends a message with each of the files, the text with the first, and waits
// until they have arrived.
func (p *program) sendFiles(c *cli.Context, client *api.Client, to string, d draft) error {
	var sent []api.Message
	for i, path := range d.files {
		r := api.SendFileRequest{To: to, Path: path, Name: c.String("name")}
		if i == 0 {
			r.ID, r.Text = c.String("id"), d.text
		}
		m, err := p.sendFile(c, client, r)
		if err != nil {
			return orRoom(c, client, err, to)
		}
		if err := p.saySent(c, m); err != nil {
			return err
		}
		sent = append(sent, m)
	}
	return p.awaitFiles(c, client, sent)
}

// sendFile reads a file and sends a message with it.
func (p *program) sendFile(c *cli.Context, client *api.Client, r api.SendFileRequest) (api.Message, error) {
	bar := p.newBar(filepath.Base(r.Path))
	defer bar.end()
	for s, err := range client.SendFile(c.Context, r) {
		if err != nil {
			return api.Message{}, err
		}
		if s.Message == nil {
			bar.show(api.Progress{Doing: "reading", Done: s.Done}, s.Size)
			continue
		}
		bar.end()
		for _, line := range s.Skipped {
			p.note("not sent: %s", line)
		}
		return *s.Message, nil
	}
	return api.Message{}, fmt.Errorf("send %s: the node said nothing", r.Path)
}

func (p *program) sendPipe(c *cli.Context, client *api.Client, to string) error {
	r := api.SendFileRequest{ID: c.String("id"), To: to, Name: c.String("name")}
	m, err := client.SendPipe(c.Context, r, p.stdin)
	if err != nil {
		return orRoom(c, client, err, to)
	}
	if err := p.saySent(c, m); err != nil {
		return err
	}
	return p.awaitFiles(c, client, []api.Message{m})
}

func (p *program) saySent(c *cli.Context, m api.Message) error {
	if c.Bool("json") {
		return p.json(m)
	}
	p.say("%s, %s  id %s", m.File.Name, bytesText(m.File.Size), m.ID)
	return nil
}

// awaitFiles waits until sent files have arrived, unless it is not to wait.
func (p *program) awaitFiles(c *cli.Context, client *api.Client, sent []api.Message) error {
	if c.Bool("no-wait") {
		return nil
	}
	ctx, cancel := within(c)
	defer cancel()
	for _, m := range sent {
		last, err := p.watchFile(ctx, c, client, m, fileArrived)
		switch {
		case ctx.Err() != nil && c.Context.Err() == nil:
			return fail(exitQueued, "%s does not have %s yet", m.With, m.File.Name).
				hint("it goes on its way by itself; see how far it is: parley files")
		case err != nil:
			return err
		case last.File.Answer == api.FileRefused:
			return fail(exitLocked, "%s does not want %s", m.With, m.File.Name)
		case last.File.State == api.FileChanged || last.File.State == api.FileCancelled:
			return fail(exitError, "%s is not given to others any more: %s", m.File.Name, fileOutcome(last))
		}
		if !c.Bool("json") {
			p.say("%s: %s", m.File.Name, fileOutcome(last))
		}
	}
	return nil
}

// fileArrived tells that nobody has to wait for a sent file any more.
func fileArrived(m api.Message) bool {
	f := m.File
	return f.Answer != "" || f.Stored || m.Room != "" && arrived(m) || f.State == api.FileChanged || f.State == api.FileCancelled
}
