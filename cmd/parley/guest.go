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
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/protocol/room/roomlink"
	"github.com/parley-chat/parley/store"
)

func (p *program) guestCommands() []*cli.Command {
	return []*cli.Command{{
		Name: "guest", Category: "Rooms", ArgsUsage: "LINK|-",
		Usage: "visit a room by its link and password, without an account",
		Description: "LINK is what `parley room guests` printed for a member of the room; - reads it from standard input.\n" +
			"Prints what is said in the room; each line you type is sent. Ctrl-D or Ctrl-C ends it.\n" +
			"The same LINK later brings you back as the same guest, without the password. What makes you that guest is\n" +
			"kept in a folder for this room, opened by a key file beside it, unless flags say otherwise.\n" + guestFilesHelp,
		Flags: append(append(secretFlags(),
			&cli.StringFlag{Name: "name", Usage: "what the others in the room call you"},
			&cli.PathFlag{Name: "password-file", Usage: "read the room's password from `FILE`, or standard input with -"},
			&cli.BoolFlag{Name: "stay", Usage: "stay when the input ends; else everything is sent, and then it ends"},
			&cli.Uint64Flag{Name: "after", Usage: "with --json: begin after the event with this `NUMBER`; 0 is all that is kept", DefaultText: "now"},
		), nodeFlags()...),
		Action: with(1, 1, p.guest),
	}}
}

// Why a stay in a room ends by itself, or a visit.
var (
	errOut     = errors.New("not in the room any more")
	errLeft    = errors.New("left the room")
	errAskAnew = errors.New("another password is needed, and the terminal is being read")
)

func (p *program) guest(c *cli.Context) error {
	link, err := p.readRoomLink(c.Args().First())
	if err != nil {
		return err
	}
	dir, err := guestDir(c, link)
	if err != nil {
		return err
	}
	for tries := 0; ; tries++ {
		err := p.sameGuest(c, dir)
		if errors.Is(err, api.ErrNotRunning) { // also one that has just ended: this one goes on
			err = p.onlyGuest(c, dir, link)
		}
		if !errors.Is(err, store.ErrLocked) || tries == lockTries { // else it is another window, coming in
			return err
		}
		select {
		case <-c.Context.Done():
			return c.Context.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// sameGuest talks by way of another window that has the guest in the room; without one it
// is api.ErrNotRunning.
func (p *program) sameGuest(c *cli.Context, dir string) error {
	client, err := api.Dial(dir)
	if err != nil {
		return err
	}
	defer client.Close()
	if err = p.converse(c, client); errors.Is(err, errOut) || errors.Is(err, errLeft) {
		return nil // the other window knows what to do
	}
	return err
}

// onlyGuest comes in, and stays until the conversation ends. Who is out meanwhile comes
// in again, if nothing speaks against it.
func (p *program) onlyGuest(c *cli.Context, dir string, link roomlink.Link) error {
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
		switch err = p.stay(c, dir, u.secret); {
		case errors.Is(err, errLeft):
			return nil
		case !errors.Is(err, errOut):
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
	params := node.VisitParams{Dir: dir, Secret: secret, Link: link, Log: p.logger(c)}
	params.Name = func(ctx context.Context) (string, error) { return p.guestName(ctx, c) }
	asked := false
	params.Password = func(ctx context.Context, why error) (string, error) {
		if asked && (c.IsSet("password-file") || !p.interactive()) { // it would be the same
			return "", why
		}
		asked = true
		return p.roomPassword(ctx, c, why, again)
	}
	params.Waits = func(why string, wait time.Duration) {
		p.note("%s; trying again in %s", why, span(max(wait, time.Second)))
	}
	_, err := node.Visit(c.Context, params)
	return err
}

// guestName is what a new guest is called: as the flag says, or as one answers.
func (p *program) guestName(ctx context.Context, c *cli.Context) (name string, err error) {
	if name = strings.TrimSpace(c.String("name")); name == "" && !p.interactive() {
		return "", usageError("no name given, and nobody to ask for it").hint("--name NAME")
	}
	for name == "" {
		if name, err = p.ask(ctx, "Your name in the room: "); err != nil {
			return "", err
		}
	}
	if len(name) > guest.MaxName || !account.ValidDeviceName(name) {
		return "", usageError("a name has at most %d bytes, without control characters", guest.MaxName)
	}
	p.note("making your keys ...")
	return name, nil
}

// roomPassword reads the room's password from where the flags say, or asks for it.
func (p *program) roomPassword(ctx context.Context, c *cli.Context, why error, again bool) (string, error) {
	if c.IsSet("password-file") {
		text, err := p.secretText(c, "password-file")
		p.note("knocking at the room ...")
		return string(text), err
	}
	if !p.interactive() {
		return "", noPassword()
	}
	if again { // a line of the conversation is being read
		return "", errAskAnew
	}
	if why != nil {
		p.note("%s.", explain(why).text)
	}
	text, err := p.readHidden(ctx, "The room's password: ")
	p.note("knocking at the room ...")
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
	cfg, err := nodeConfig(c, dir, secret, slog.New(slog.NewTextHandler(file, nil)))
	if err != nil {
		return err
	}
	n, err := node.New(c.Context, cfg)
	if err != nil {
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
	if errors.Is(err, api.ErrNotRunning) { // it was told to stop, or says why itself
		err = nil
	}
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
