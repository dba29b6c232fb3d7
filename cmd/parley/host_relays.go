package main

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
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
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	admin := rendezvous.NewAdmin(dir)
	relays, err := admin.Relays(c.Context)
	if err != nil {
		return hostNotRunning(err)
	}
	s, err := admin.Status(c.Context)
	if err != nil {
		return hostNotRunning(err)
	}
	follow := []string{}
	for _, addr := range s.Addrs {
		follow = append(follow, addr+"/p2p/"+s.Peer)
	}
	if c.Bool("json") {
		return p.json(struct {
			Relays []rendezvous.RelayInfo `json:"relays"`
			Follow []string               `json:"follow"` // what parley relay --follow takes
		}{relays, follow})
	}
	p.showRelays(relays)
	if len(follow) > 0 {
		p.say("A relay on another machine: parley relay --follow %s", follow[0])
	}
	return nil
}

func (p *program) hostRelaysAdd(c *cli.Context) error {
	return p.changeHostRelays(c, (*rendezvous.Admin).AddRelay)
}

func (p *program) hostRelaysRemove(c *cli.Context) error {
	return p.changeHostRelays(c, (*rendezvous.Admin).RemoveRelay)
}

// changeHostRelays has the rendezvous that runs here add or remove a relay, and
// shows which there are then.
func (p *program) changeHostRelays(c *cli.Context, change func(*rendezvous.Admin, context.Context, peer.ID) ([]rendezvous.RelayInfo, error)) error {
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	id, err := peer.Decode(c.Args().First())
	if err != nil {
		return usageError("%q is no peer id of a relay", c.Args().First()).hint("parley host relays list")
	}
	relays, err := change(rendezvous.NewAdmin(dir), c.Context, id)
	if err != nil {
		return hostNotRunning(notFound(err, "parley host relays list"))
	}
	if c.Bool("json") {
		return p.json(listed("relays", relays))
	}
	p.showRelays(relays)
	return nil
}

func (p *program) showRelays(relays []rendezvous.RelayInfo) {
	for _, r := range relays {
		p.say("%s  %s", r.Peer, describeRelay(r))
		for _, addr := range r.Addrs {
			p.say("  %s", addr)
		}
	}
}

// describeRelay says whether members may use a relay, and how much it gives.
func describeRelay(r rendezvous.RelayInfo) string {
	gives := fmt.Sprintf("%s; %d MiB and %s for each circuit", count(r.Reservations, "reservation", "reservations"), r.Bytes>>20, span(time.Duration(r.DurationS)*time.Second))
	switch {
	case !r.Approved:
		return "asks to be added: parley host relays add " + r.Peer
	case !r.Follows:
		return "added " + clock(r.Since) + ", not connected: start it there, or: parley host relays remove " + r.Peer
	}
	return "in use; " + gives
}
