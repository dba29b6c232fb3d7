package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/parley-chat/parley/node/api"
)

// program is one run of the command line.
type program struct {
	stdin          *bufio.Reader
	stdout, stderr *os.File
	typed          chan string // lines of stdin, once a conversation reads them
}

// run runs one command line and returns the exit code. The first interrupt ends
// what the program does; the second ends the program.
func run(args []string) int {
	p := &program{stdin: bufio.NewReader(os.Stdin), stdout: os.Stdout, stderr: os.Stderr}
	app := p.app()
	asJSON := wantsJSON(args)
	args, err := arrange(app, args)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		err = app.RunContext(ctx, args)
		stop()
	}
	if err == nil {
		return exitOK
	}
	f := explain(err)
	p.complain(f, asJSON)
	return f.code
}

// wantsJSON reads the flag where it stands: an error may come before it is parsed.
func wantsJSON(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.Contains(args, "--json")
}

func (p *program) app() *cli.App {
	app := &cli.App{
		Name:                 "parley",
		Usage:                "private messages between people's own computers, encrypted end to end",
		Version:              version,
		UsageText:            "parley host                    be the rendezvous of a group; prints an invite\nparley join INVITE             become somebody there\nparley add NAME                ask for a contact\nparley send NAME TEXT          send a message\nparley listen                  see messages as they come\nparley room create NAME        make a room for several",
		Description:          exitHelp,
		Writer:               p.stdout,
		ErrWriter:            p.stderr,
		EnableBashCompletion: true,
		ExitErrHandler:       func(*cli.Context, error) {}, // run does it
		OnUsageError:         onUsageError,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "data `DIRECTORY`", EnvVars: []string{"PARLEY_DIR"}, DefaultText: "~/.local/share/parley, or parley-host for host, parley-relay for relay; for guest one for each room"},
			&cli.BoolFlag{Name: "json", DisableDefaultText: true, Usage: "print answers as JSON; fields are only ever added"},
		},
		Commands: p.commands(),
	}
	for _, c := range app.Commands {
		prepare(c)
	}
	return app
}

func (p *program) commands() (all []*cli.Command) {
	for _, group := range [][]*cli.Command{
		p.hostCommands(), p.relayCommands(), p.nodeCommands(), p.contactCommands(), p.deviceCommands(), p.messageCommands(),
		p.actionCommands(), p.fileCommands(), p.roomCommands(), p.guestCommands(),
		p.evidenceCommands(), p.keysCommands(), p.backupCommands(), p.otherCommands(),
	} {
		all = append(all, group...)
	}
	return all
}

// prepare sets what no command may forget: errors of usage are ours to explain,
// and no contact called "help" is mistaken for a command.
func prepare(c *cli.Command) {
	c.OnUsageError = onUsageError
	c.HideHelpCommand = true
	for _, f := range c.Flags {
		if alone, ok := f.(*cli.BoolFlag); ok {
			alone.DisableDefaultText = true
		}
	}
	for _, sub := range c.Subcommands {
		prepare(sub)
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	return usageError("%v", err).hint("parley %s --help", strings.TrimPrefix(c.Command.FullName(), "parley"))
}

// with makes an action of a function that takes between min and max arguments
// (max < 0: any number), and reads the configuration before it.
func with(min, max int, fn cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if n := c.NArg(); n < min || max >= 0 && n > max {
			return usageError("usage: %s %s", c.Command.HelpName, c.Command.ArgsUsage).hint("%s --help", c.Command.HelpName)
		}
		dir, err := dataDir(c)
		if err != nil {
			return err
		}
		if err := configure(c, dir); err != nil {
			return err
		}
		return fn(c)
	}
}

// dataDir finds the absolute path of the data directory.
func dataDir(c *cli.Context) (string, error) {
	if dir := c.String("dir"); dir != "" {
		return filepath.Abs(dir)
	}
	base := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", usageError("cannot tell where your data is: %v", err).hint("say it with --dir")
		}
		base = filepath.Join(home, ".local", "share")
	}
	if server := serverOf(c); server != "" {
		return filepath.Join(base, "parley-"+server), nil
	}
	if c.Command.Name == "guest" { // holds a folder for each room
		return filepath.Join(base, "parley-guests"), nil
	}
	return filepath.Join(base, "parley"), nil
}

// serverOf tells which server the command or its parent is about, host or relay;
// empty: none.
func serverOf(c *cli.Context) string {
	for _, at := range c.Lineage() {
		if at.Command != nil && (at.Command.Name == "host" || at.Command.Name == "relay") {
			return at.Command.Name
		}
	}
	return ""
}

// dial reaches the node that runs in the data directory.
func dial(c *cli.Context) (*api.Client, error) {
	dir, err := dataDir(c)
	if err != nil {
		return nil, err
	}
	client, err := api.Dial(dir)
	if err != nil {
		return nil, notRunning(dir, err)
	}
	return client, nil
}

// asking makes an action of a function that needs the running node.
func asking(min, max int, fn func(*cli.Context, *api.Client) error) cli.ActionFunc {
	return with(min, max, func(c *cli.Context) error {
		client, err := dial(c)
		if err != nil {
			return err
		}
		defer client.Close()
		return fn(c, client)
	})
}

// interactive tells whether there is a person to ask.
func (p *program) interactive() bool { return term.IsTerminal(int(os.Stdin.Fd())) }

// atTerminal tells whether the arguments are those of a person, who sees what is said.
func (p *program) atTerminal() bool {
	return p.interactive() && term.IsTerminal(int(p.stderr.Fd()))
}

func (p *program) onTerminal() bool { return term.IsTerminal(int(p.stdout.Fd())) }

// readLine reads a line from standard input, without its end.
func (p *program) readLine() (string, error) {
	line, err := p.stdin.ReadString('\n')
	if err != nil && line == "" {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
