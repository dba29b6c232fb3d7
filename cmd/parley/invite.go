package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func inviteFlags(uses string) []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "uses", Usage: "how many people may use it", DefaultText: uses},
		&cli.GenericFlag{Name: "ttl", Usage: "how long it is good for, such as 24h or 7d", Value: new(duration), DefaultText: "7d"},
		&cli.BoolFlag{Name: "qr", Usage: "print its QR code even if this is no terminal"},
	}
}

func ttl(c *cli.Context) time.Duration { return time.Duration(*c.Generic("ttl").(*duration)) }

func (p *program) inviteCommand() *cli.Command {
	return &cli.Command{
		Name: "invite", Category: "Node", Usage: "invite somebody to your rendezvous",
		Flags:  inviteFlags("1"),
		Action: asking(0, 0, p.invite),
	}
}

func (p *program) invite(c *cli.Context, client *api.Client) error {
	i, err := client.Invite(c.Context, api.InviteRequest{Uses: c.Int("uses"), TTLs: int64(ttl(c) / time.Second)})
	if err != nil {
		return err
	}
	return p.printInvite(c, i.Link, i.Uses, i.Expires)
}

func (p *program) printInvite(c *cli.Context, link string, uses int, expires time.Time) error {
	if c.Bool("json") {
		return p.json(api.Invite{Link: link, Uses: uses, Expires: expires})
	}
	if !p.onTerminal() && !c.Bool("qr") {
		p.say("%s", link) // alone, for scripts
		return nil
	}
	return p.showInvite(c, link, uses, expires)
}

// showInvite prints an invite for people: link, QR code, and what to do with it.
func (p *program) showInvite(c *cli.Context, link string, uses int, expires time.Time) error {
	p.say("An invite for %s, good until %s. Who has it can join:", count(uses, "person", "people"), minute(expires))
	p.say("")
	p.say("  parley join '%s'", link)
	if !p.onTerminal() && !c.Bool("qr") {
		return nil
	}
	p.say("")
	return printQR(p.stdout, link, p.onTerminal())
}
