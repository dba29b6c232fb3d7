package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/invite"
)

func (p *program) linkCommand() *cli.Command {
	return &cli.Command{
		Name: "link", Category: "Devices", ArgsUsage: "[CODE|LINK|-]",
		Usage:       "make this computer another device of your account",
		Description: "CODE or LINK is what `parley device add` shows on a computer where your account is already.\nWithout it you are asked, so that other users of this computer do not see it; - reads it from\nstandard input. A short CODE needs --home.\nContacts come along; past messages too, with --history.",
		Flags: append(append(secretFlags(),
			&cli.BoolFlag{Name: "keyring", Usage: "keep the key that opens your keys in the system's keyring"},
			&cli.StringFlag{Name: "home", Usage: "any `INVITE` of your group, to find its rendezvous; it is not used up"},
			&cli.StringFlag{Name: "device", Usage: "what this computer is called", DefaultText: "its host name"},
			&cli.BoolFlag{Name: "history", Usage: "ask for your past messages"},
		), nodeFlags()...),
		Action: with(0, 1, p.link),
	}
}

func (p *program) link(c *cli.Context) error {
	dir, err := freeDir(c)
	if err != nil {
		return err
	}
	code, err := p.linkCode(c)
	if err != nil {
		return err
	}
	params := node.LinkParams{Dir: dir, Code: code, DeviceName: deviceName(c), History: c.Bool("history"), Log: p.logger(c)}
	if text := c.String("home"); text != "" {
		if params.Home, err = invite.Parse(text); err != nil {
			return err
		}
	}
	u, err := p.openSecret(c, dir) // of an attempt that was cut off
	if errors.Is(err, vault.ErrNoVault) {
		u, err = p.newSecret(c, dir, "")
	}
	if err != nil {
		return err
	}
	params.Secret = u.secret
	params.Compare = func(words string) {
		p.note("Say yes on the other device if it shows the same words:")
		p.note("")
		p.note("   %s", words)
		p.note("")
	}
	me, err := p.linkNow(c, params)
	if err != nil {
		return err
	}
	client, err := p.startNode(c.Context, dir, u, passedOn(c)...)
	if err != nil {
		return explain(err).hint("this device is linked to %s; start the node with: parley up", me.Name)
	}
	defer client.Close()
	waitReachable(c.Context, client)
	if c.Bool("json") {
		return p.json(me)
	}
	p.welcome(me, dir)
	return nil
}

func (p *program) linkCode(c *cli.Context) (string, error) {
	switch code := c.Args().First(); {
	case code == "-":
		return p.readLine()
	case code != "":
		return code, nil
	case !p.interactive():
		return "", usageError("no code given, and nobody to ask for it").hint("parley link - reads it from standard input")
	}
	return p.ask(c.Context, "What `parley device add` shows on the other computer: ")
}

func (p *program) linkNow(c *cli.Context, params node.LinkParams) (me api.Whoami, err error) {
	err = p.working("making this device's keys, and meeting the other one", func() error {
		me, err = node.Link(c.Context, params)
		return err
	})
	return me, err
}
