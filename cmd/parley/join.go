package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/invite"
)

func (p *program) joinCommand() *cli.Command {
	return &cli.Command{
		Name: "join", Category: "Node", ArgsUsage: "INVITE|-",
		Usage:       "take a name at a rendezvous and start your node",
		Description: "INVITE is the link that `parley host` or `parley invite` printed; - reads it from standard input.\nYour keys are made on this computer and never leave it.",
		Flags: append(append(secretFlags(),
			&cli.BoolFlag{Name: "keyring", Usage: "keep the key that opens your keys in the system's keyring"},
			&cli.StringFlag{Name: "name", Usage: "the `NAME` others find you by: 3 to 32 of a-z, 0-9 and _"},
			&cli.StringFlag{Name: "display", Usage: "how you are called, in any script; shown beside your name"},
			&cli.StringFlag{Name: "device", Usage: "what this computer is called", DefaultText: "its host name"},
		), nodeFlags()...),
		Action: with(1, 1, p.join),
	}
}

func (p *program) join(c *cli.Context) error {
	dir, err := freeDir(c)
	if err != nil {
		return err
	}
	in, err := p.readInvite(c.Args().First())
	if err != nil {
		return err
	}
	name, err := p.name(c.Context, c.String("name"))
	if err != nil {
		return err
	}
	u, err := p.openSecret(c, dir) // of an attempt that was cut off
	if errors.Is(err, vault.ErrNoVault) {
		u, err = p.newSecret(c, dir, "")
	}
	if err != nil {
		return err
	}
	me, err := p.register(c, name, node.JoinParams{
		Dir: dir, Secret: u.secret, Invite: in,
		Display: c.String("display"), DeviceName: deviceName(c),
	})
	if err != nil {
		return err
	}
	client, err := p.startNode(c.Context, dir, u, passedOn(c)...)
	if err != nil {
		return explain(err).hint("you have joined as %s; start the node with: parley up", me.Name)
	}
	defer client.Close()
	waitReachable(c.Context, client)
	if c.Bool("json") {
		return p.json(me)
	}
	p.welcome(me, dir)
	return nil
}

// waitReachable waits, but not for long, until others can write to a new node:
// until its prekeys are at the rendezvous.
func waitReachable(ctx context.Context, client *api.Client) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if s, err := client.Status(ctx); err != nil || s.Prekeys.Published > 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freeDir is the data directory, of which no node runs.
func freeDir(c *cli.Context) (string, error) {
	dir, err := dataDir(c)
	if err != nil {
		return "", err
	}
	return dir, checkFree(c.Context, dir)
}

// checkFree refuses a directory whose node runs: it has joined.
func checkFree(ctx context.Context, dir string) error {
	client, err := api.Dial(dir)
	if errors.Is(err, api.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer client.Close()
	me, err := client.Whoami(ctx)
	if errors.Is(err, api.ErrNotRunning) {
		return nil // it was just ending
	}
	if err != nil {
		return err
	}
	return fail(exitConflict, "you are %s here already, and your node runs", me.Name).
		hint("to be somebody else as well, choose another directory: --dir")
}

func (p *program) readInvite(text string) (in invite.Invite, err error) {
	if text == "-" {
		if text, err = p.readLine(); err != nil {
			return in, err
		}
	}
	return invite.Parse(text)
}

// name checks the name given, or asks for one until it will do.
func (p *program) name(ctx context.Context, given string) (string, error) {
	for {
		name := given
		if name == "" {
			if !p.interactive() {
				return "", usageError("no name given, and nobody to ask for it").hint("--name NAME")
			}
			var err error
			if name, err = p.ask(ctx, "Your name, by which others find you (a-z, 0-9, _): "); err != nil {
				return "", err
			}
		}
		err := engine.ValidName(name)
		if err == nil {
			return name, nil
		}
		if given != "" {
			return "", usageError("%q cannot be a name", name).hint("3 to 32 of a-z, 0-9 and _")
		}
		p.note("That cannot be a name: 3 to 32 of a-z, 0-9 and _, please.")
	}
}

// register joins. A person whose name is taken is asked for another.
func (p *program) register(c *cli.Context, name string, params node.JoinParams) (me api.Whoami, err error) {
	params.Log = p.logger(c)
	for {
		params.Name = name
		err = p.working("making your keys, and registering at the rendezvous", func() error {
			me, err = node.Join(c.Context, params)
			return err
		})
		code := protocol.CodeOf(err)
		again := code == protocol.NameTaken || code == protocol.NameInvalid
		if !again || c.IsSet("name") || !p.interactive() {
			return me, err
		}
		p.note("%s.", explain(err).text)
		if name, err = p.name(c.Context, ""); err != nil {
			return me, err
		}
	}
}

func (p *program) welcome(me api.Whoami, dir string) {
	p.say("You are %s. Your node runs in the background; your keys are sealed in %s", me.Name, dir)
	p.say("")
	p.say("next: parley add NAME      ask somebody to be your contact")
	p.say("      parley listen        see messages as they come")
	p.say("      parley status        see how you are connected")
}

// working runs fn, and says what is going on once that takes over a second.
func (p *program) working(what string, fn func() error) error {
	start := time.Now()
	timer := time.AfterFunc(time.Second, func() { p.note("%s ...", what) })
	err := fn()
	if !timer.Stop() && err == nil {
		p.note("done in %s", span(time.Since(start)))
	}
	return err
}

// ask asks a question at the terminal.
func (p *program) ask(ctx context.Context, question string) (string, error) {
	p.stderr.WriteString(question)
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // ends with the program if nobody answers
		text, err := p.readLine()
		answers <- answer{strings.TrimSpace(text), err}
	}()
	select {
	case a := <-answers:
		return a.text, a.err
	case <-ctx.Done():
		p.stderr.WriteString("\n")
		return "", ctx.Err()
	}
}

func deviceName(c *cli.Context) string {
	if name := c.String("device"); name != "" {
		return name
	}
	host, err := os.Hostname()
	if err != nil {
		return "computer"
	}
	return host
}
