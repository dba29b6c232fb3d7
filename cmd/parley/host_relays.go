package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/rendezvous"
)

func (p *program) hostRelaysCommand() *cli.Command {
	return &cli.Command{
		Name: "relays", Usage: "further relays for the members of the rendezvous that runs here",
		Description: "A relay runs on another machine: parley relay. Members use it once it is added here.",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "which relays there are, and which ask to be added", Action: with(0, 0, p.hostRelaysList)},
			{
				Name: "add", ArgsUsage: "ID", Usage: "let members use this relay, from now on",
				Action: with(1, 1, p.hostRelaysAdd),
			},
			{
				Name: "remove", ArgsUsage: "ID", Usage: "let nobody use this relay any more",
				Action: with(1, 1, p.hostRelaysRemove),
			},
		},
	}
}

func (p *program) hostRelaysList(c *cli.Context) error {
	return p.askHostRelays(c, func(a *rendezvous.Admin) ([]rendezvous.RelayInfo, error) { return a.Relays(c.Context) })
}

func (p *program) hostRelaysAdd(c *cli.Context) error {
	return p.askHostRelays(c, func(a *rendezvous.Admin) ([]rendezvous.RelayInfo, error) {
		return a.AddRelay(c.Context, c.Args().First())
	})
}

func (p *program) hostRelaysRemove(c *cli.Context) error {
	return p.askHostRelays(c, func(a *rendezvous.Admin) ([]rendezvous.RelayInfo, error) {
		return a.RemoveRelay(c.Context, c.Args().First())
	})
}

// askHostRelays asks the rendezvous that runs here, and shows what it answers.
func (p *program) askHostRelays(c *cli.Context, ask func(*rendezvous.Admin) ([]rendezvous.RelayInfo, error)) error {
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	admin := rendezvous.NewAdmin(dir)
	relays, err := ask(admin)
	if err != nil {
		return hostNotRunning(err)
	}
	if c.Bool("json") {
		return p.json(struct {
			Relays []rendezvous.RelayInfo `json:"relays"`
		}{relays})
	}
	for _, r := range relays {
		p.say("%s  %s", r.Peer, describeRelay(r))
		for _, addr := range r.Addrs {
			p.say("  %s", addr)
		}
	}
	s, err := admin.Status(c.Context)
	if err != nil || len(s.Addrs) == 0 {
		return hostNotRunning(err)
	}
	p.say("A relay on another machine: parley relay --follow %s/p2p/%s", s.Addrs[0], s.Peer)
	return nil
}

// describeRelay says whether members may use a relay, and how much it gives.
func describeRelay(r rendezvous.RelayInfo) string {
	gives := fmt.Sprintf("%s; %d MiB and %s for each circuit", count(r.Reservations, "reservation", "reservations"), r.Bytes>>20, span(time.Duration(r.DurationS)*time.Second))
	switch {
	case !r.Approved:
		return "asks to be added: parley host relays add " + r.Peer
	case !r.Follows:
		return "added " + clock(r.Since) + ", not connected"
	}
	return "in use; " + gives
}
