package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/room/roomlink"
)

func (p *program) guestCommands() []*cli.Command {
	return []*cli.Command{{
		Name: "guest", Category: "Rooms", ArgsUsage: "LINK|-",
		Usage: "visit a room by its link and password, without an account",
		Description: "LINK is what `parley room guests` printed for a member of the room; - reads it from standard input.\n" +
			"Prints what is said in the room; each line you type is sent. Ctrl-D or Ctrl-C ends it.\n" +
			"The same LINK later brings you back as the same guest, without the password. What makes you that guest is\n" +
			"kept in a folder for this room, opened by a key file beside it, unless flags say otherwise.",
		Flags: append(append(secretFlags(),
			&cli.StringFlag{Name: "name", Usage: "what the others in the room call you"},
			&cli.PathFlag{Name: "password-file", Usage: "read the room's password from `FILE`, or standard input with -"},
			&cli.BoolFlag{Name: "stay", Usage: "stay when the input ends; else everything is sent, and then it ends"},
			&cli.Uint64Flag{Name: "after", Usage: "with --json: begin after the event with this `NUMBER`; 0 is all that is kept", DefaultText: "now"},
		), nodeFlags()...),
		Action: with(1, 1, p.guest),
	}}
}

// errLeft ends a stay in a room by itself: the guest is not in any more.
var errLeft = errors.New("not in the room any more")

// errAskAnew ends a visit that needs another password while the terminal is being read.
var errAskAnew = errors.New("another password is needed")

func (p *program) guest(c *cli.Context) error {
	link, err := p.readRoomLink(c.Args().First())
	if err != nil {
		return err
	}
	dir, err := guestDir(c, link)
	if err != nil {
		return err
	}
	client, err := api.Dial(dir)
	if err == nil { // another window of the same guest
		defer client.Close()
		return p.converse(c, client)
	}
	if !errors.Is(err, api.ErrNotRunning) {
		return err
	}
	u, err := p.guestSecret(c, dir)
	if err != nil {
		return err
	}
	for again := false; ; again = true {
		err := p.visit(c, dir, u.secret, link, again)
		if errors.Is(err, errAskAnew) {
			return p.startAnew()
		}
		if err != nil {
			return err
		}
		if err = p.stay(c, dir, u.secret); !errors.Is(err, errLeft) {
			return err
		}
	}
}

func (p *program) readRoomLink(text string) (l roomlink.Link, err error) {
	if text == "-" {
		if text, err = p.readLine(); err != nil {
			return l, err
		}
	}
	return roomlink.Parse(text)
}

// guestDir is where the guest of a room is kept: a folder of its own for each room.
func guestDir(c *cli.Context, link roomlink.Link) (string, error) {
	dir, err := dataDir(c)
	if err != nil || c.String("dir") != "" {
		return dir, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for the rooms you visit: %w", err)
	}
	return filepath.Join(dir, hex.EncodeToString(link.Room[:8])), nil
}

// guestSecret is what opens the guest's keys. A guest comes back without being asked, so
// it is a file unless flags say otherwise.
func (p *program) guestSecret(c *cli.Context, dir string) (unlock, error) {
	u, err := p.openSecret(c, dir)
	if !errors.Is(err, vault.ErrNoVault) {
		return u, err
	}
	if c.IsSet("key-file") || c.IsSet("passphrase-file") {
		return p.newSecret(c, dir, "")
	}
	return keyFile(dir+".key", true)
}

// visit comes into the room, and says how it goes.
func (p *program) visit(c *cli.Context, dir string, secret vault.Secret, link roomlink.Link, again bool) error {
	name, err := p.guestName(c, dir)
	if err != nil {
		return err
	}
	params := node.VisitParams{Dir: dir, Secret: secret, Link: link, Name: name, Log: p.logger(c)}
	params.Password = func(ctx context.Context, why error) (string, error) { return p.roomPassword(ctx, c, why, again) }
	params.Waits = func(why string, wait time.Duration) {
		p.note("%s; trying again in %s", why, span(max(wait, time.Second)))
	}
	return p.working("making your keys, and knocking at the room", func() error {
		_, err := node.Visit(c.Context, params)
		return err
	})
}

// guestName checks the name of a new guest, or asks for one.
func (p *program) guestName(c *cli.Context, dir string) (string, error) {
	name := strings.TrimSpace(c.String("name"))
	if _, err := os.Stat(filepath.Join(dir, "store")); err == nil || name != "" {
		return name, nil
	}
	if !p.interactive() {
		return "", usageError("no name given, and nobody to ask for it").hint("--name NAME")
	}
	for name == "" {
		var err error
		if name, err = p.ask(c.Context, "Your name in the room: "); err != nil {
			return "", err
		}
	}
	return name, nil
}

// roomPassword reads the room's password from where the flags say, or asks for it.
func (p *program) roomPassword(ctx context.Context, c *cli.Context, why error, again bool) (string, error) {
	if c.IsSet("password-file") {
		if why != nil && !again {
			return "", why
		}
		text, err := p.secretText(c, "password-file")
		return string(text), err
	}
	if !p.interactive() {
		if why != nil {
			return "", why
		}
		return "", fail(exitLocked, "no password given, and nobody to ask for it").
			hint("--password-file FILE reads it from a file, or from standard input with -")
	}
	if again { // a line of the conversation is being read
		return "", errAskAnew
	}
	if why != nil {
		p.note("%s.", explain(why).text)
	}
	text, err := p.readHidden(ctx, "The room's password: ")
	return string(text), err
}

// startAnew begins the program again: what reads lines of the conversation from the
// terminal cannot be called back, and must not get the password.
func (p *program) startAnew() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return fmt.Errorf("start anew: %w", syscall.Exec(self, os.Args, os.Environ()))
}

// stay runs the guest's node, and the conversation on it, until one of them ends.
func (p *program) stay(c *cli.Context, dir string, secret vault.Secret) error {
	file, err := openLog(filepath.Join(dir, logName))
	if err != nil {
		return err
	}
	defer file.Close()
	n, err := p.openNode(c, dir, secret, slog.New(slog.NewTextHandler(file, nil)))
	if err != nil || n == nil {
		return err
	}
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop()
		ended <- serveNode(ctx, n, dir)
	}()
	err = p.converseWith(ctx, c, dir)
	stop()
	return errors.Join(err, <-ended)
}

// converseWith waits until the node answers, and talks.
func (p *program) converseWith(ctx context.Context, c *cli.Context, dir string) error {
	for ctx.Err() == nil {
		client, err := api.Dial(dir)
		if err == nil {
			defer client.Close()
			return p.converse(c, client)
		}
		if !errors.Is(err, api.ErrNotRunning) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
