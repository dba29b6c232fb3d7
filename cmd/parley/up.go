package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/node/web"
	"github.com/parley-chat/parley/store"
)

func (p *program) nodeCommands() []*cli.Command {
	return []*cli.Command{
		p.joinCommand(),
		{
			Name: "up", Category: "Node", Usage: "start your node",
			Flags: append(append(secretFlags(),
				&cli.BoolFlag{Name: "foreground", Usage: "stay here instead of going to the background"},
			), nodeFlags()...),
			Action: with(0, 0, p.up),
		},
		{Name: "down", Category: "Node", Usage: "stop your node", Action: asking(0, 0, p.down)},
		{Name: "status", Category: "Node", Usage: "how you are connected, and what needs attention", Action: asking(0, 0, p.status)},
		{Name: "whoami", Category: "Node", Usage: "your name and ids", Action: asking(0, 0, p.whoami)},
		p.inviteCommand(),
		p.passphraseCommand(),
	}
}

// nodeFlags are what a node may be told when it starts.
func nodeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "lan", Usage: "find contacts in the local network, and show yourself there", EnvVars: []string{"PARLEY_LAN"}},
		&cli.StringSliceFlag{Name: "listen", Usage: "listen at this `MULTIADDR`", DefaultText: "all addresses, a port chosen once", EnvVars: []string{"PARLEY_LISTEN"}},
		&cli.PathFlag{Name: "download-dir", Usage: "put files that you accept into the folder `DIR`", DefaultText: "~/Downloads", EnvVars: []string{"PARLEY_DOWNLOAD_DIR"}},
		&cli.GenericFlag{Name: "auto-accept-bytes", Usage: "fetch files of verified contacts that have at most `SIZE`, such as 10M, unasked", Value: new(size), DefaultText: "none"},
		&cli.GenericFlag{Name: "file-rate", Usage: "receive, and give, at most `SIZE` of files a second, such as 2M", Value: new(size), DefaultText: "no limit"},
		&cli.BoolFlag{Name: "verbose", Usage: "log more"},
	}
}

// passedOn are the nodeFlags as they are given to a background process.
func passedOn(c *cli.Context) (flags []string) {
	for _, name := range []string{"lan", "verbose"} {
		if c.Bool(name) {
			flags = append(flags, "--"+name)
		}
	}
	for _, addr := range given(c, "listen") {
		flags = append(flags, "--listen="+addr)
	}
	if dir, err := downloadDir(c); err == nil && dir != "" {
		flags = append(flags, "--download-dir="+dir)
	}
	for _, name := range []string{"auto-accept-bytes", "file-rate"} {
		if n := sizeOf(c, name); n > 0 {
			flags = append(flags, fmt.Sprintf("--%s=%d", name, n))
		}
	}
	return flags
}

// nodeConfig is what the flags say of a node.
func nodeConfig(c *cli.Context, dir string, secret vault.Secret, log *slog.Logger) (node.Config, error) {
	downloads, err := downloadDir(c)
	return node.Config{
		Dir: dir, Secret: secret, Version: version, Log: log, LAN: c.Bool("lan"), Listen: given(c, "listen"),
		Downloads: downloads, AutoAccept: sizeOf(c, "auto-accept-bytes"), FileRate: sizeOf(c, "file-rate"),
	}, err
}

// downloadDir is the folder for files that others sent.
func downloadDir(c *cli.Context) (string, error) {
	if dir := c.Path("download-dir"); dir != "" {
		return expandHome(dir)
	}
	home, err := os.UserHomeDir()
	if err != nil { // then they go into the data directory
		return "", nil
	}
	return filepath.Join(home, "Downloads"), nil
}

func sizeOf(c *cli.Context, name string) int64 { return int64(*c.Generic(name).(*size)) }

// given is what a flag lists, or nil if it was not given.
func given(c *cli.Context, name string) []string {
	if !c.IsSet(name) {
		return nil
	}
	return c.StringSlice(name)
}

func (p *program) up(c *cli.Context) error {
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	if err := p.alreadyUp(c, dir); !errors.Is(err, api.ErrNotRunning) {
		return err
	}
	u, err := p.openSecret(c, dir)
	if err != nil {
		return err
	}
	if c.Bool("foreground") {
		return p.foreground(c, dir, u.secret)
	}
	client, err := p.startNode(c.Context, dir, u, passedOn(c)...)
	if err != nil {
		return err
	}
	defer client.Close()
	return p.isUp(c, client, "is up")
}

// alreadyUp says so if a node answers in dir; else it is api.ErrNotRunning. A
// node that is just ending may accept a connection and answer nothing.
func (p *program) alreadyUp(c *cli.Context, dir string) error {
	client, err := api.Dial(dir)
	if err != nil {
		return err
	}
	defer client.Close()
	return p.isUp(c, client, "is running already")
}

func (p *program) isUp(c *cli.Context, client *api.Client, how string) error {
	s, err := client.Status(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(s)
	}
	p.say("%s %s (process %d)", s.Name, how, s.PID)
	return nil
}

// foreground runs the node until it is told to stop. Where another process has
// the store, this one becomes a face of it, or takes over when that one ends.
func (p *program) foreground(c *cli.Context, dir string, secret vault.Secret) error {
	log := p.logger(c)
	for {
		n, err := p.openNode(c, dir, secret, log)
		if err != nil || n == nil {
			return err
		}
		log.Info("up", "name", n.Whoami().Name, "device", n.Whoami().Device, "dir", dir)
		if err = serveNode(c.Context, n, dir); !errors.Is(err, node.ErrReborn) {
			return err
		}
	}
}

// openNode opens the node. It returns none if another process has the store
// and answers, which it then has said.
func (p *program) openNode(c *cli.Context, dir string, secret vault.Secret, log *slog.Logger) (*node.Node, error) {
	cfg, err := nodeConfig(c, dir, secret, log)
	if err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		n, err := node.New(c.Context, cfg)
		if !errors.Is(err, store.ErrLocked) {
			return n, err
		}
		if up := p.alreadyUp(c, dir); !errors.Is(up, api.ErrNotRunning) {
			return nil, up
		}
		if tries == lockTries {
			return nil, err
		}
		select {
		case <-c.Context.Done():
			return nil, c.Context.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// lockTries is how often a store that is held by a process that does not answer
// is tried again, ten times a second: it is starting, or ending.
const lockTries = 100

// serveNode runs the node and its local API. The API ends first, so that its
// socket is gone before the store is free for another process.
func serveNode(ctx context.Context, n *node.Node, dir string) error {
	asked, stop := context.WithCancel(ctx)
	defer stop()
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var both errgroup.Group
	both.Go(func() error {
		defer stop()
		if err := n.Run(running); err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("run the node: %w", err)
		}
		return nil
	})
	both.Go(func() error {
		defer end()
		return web.Serve(asked, n, dir, stop)
	})
	return both.Wait()
}

func (p *program) logger(c *cli.Context) *slog.Logger {
	level := slog.LevelInfo
	if !c.Bool("foreground") && serverOf(c) == "" {
		level = slog.LevelWarn
	}
	if c.Bool("verbose") {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: level}))
}

// downTime is how long a node may take to stop.
const downTime = 30 * time.Second

func (p *program) down(c *cli.Context, client *api.Client) error {
	s, err := client.Status(c.Context)
	if err != nil {
		return err
	}
	if err := client.Down(c.Context); err != nil && !errors.Is(err, api.ErrNotRunning) {
		return err
	}
	deadline := time.Now().Add(downTime)
	for alive(s.PID) {
		if time.Now().After(deadline) {
			return fail(exitTimeout, "process %d has not stopped within %v", s.PID, downTime)
		}
		select {
		case <-c.Context.Done():
			return c.Context.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	if c.Bool("json") {
		return p.json(struct {
			Name string `json:"name"`
		}{s.Name})
	}
	p.say("%s is down", s.Name)
	return nil
}

// notRunning says what to do when no node answers in dir.
func notRunning(dir string, err error) error {
	if !errors.Is(err, api.ErrNotRunning) {
		return err
	}
	f := fail(exitNotRunning, "your node is not running")
	if _, _, err := vault.Kind(dir); errors.Is(err, vault.ErrNoVault) {
		return f.hint("join somewhere first: parley join INVITE").hint("or say where your data is: --dir")
	}
	return f.hint("start it: parley up")
}
