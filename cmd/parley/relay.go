package main

import (
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/rendezvous/relay"
	"github.com/parley-chat/parley/store/dirlock"
)

const maxReservations = 1_000_000

func (p *program) relayCommands() []*cli.Command {
	return []*cli.Command{{
		Name: "relay", Category: "Rendezvous",
		Usage: "be another relay of a group, besides its rendezvous",
		Description: "Runs until Ctrl-C. It passes sealed bytes between members whom the rendezvous gave a token, and keeps\n" +
			"nothing but its own name. The operator of the rendezvous has to approve it: parley host relays add.\n" +
			"The computers of the group must be able to reach it: from the internet, open port 4001 for TCP and UDP\n" +
			"and name it with --announce.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "follow", Usage: "the rendezvous, as `MULTIADDR`/p2p/ID; again for another address of it", EnvVars: []string{"PARLEY_RELAY_FOLLOW"}},
			&cli.StringSliceFlag{Name: "listen", Usage: "listen at this `MULTIADDR`", DefaultText: "port 4001, TCP and UDP, all addresses", EnvVars: []string{"PARLEY_RELAY_LISTEN"}},
			&cli.StringSliceFlag{Name: "announce", Usage: "an address to tell members: `HOST:PORT` or a multiaddr", EnvVars: []string{"PARLEY_RELAY_ANNOUNCE"}},
			&cli.IntFlag{Name: "reservations", Usage: "serve at most `N` devices", DefaultText: "4096"},
			&cli.Int64Flag{Name: "circuit-bytes", Usage: "carry at most `N` bytes in each direction of a circuit", DefaultText: "256 MiB"},
			&cli.GenericFlag{Name: "circuit-time", Value: new(duration), Usage: "end a circuit after `TIME`", DefaultText: "12h"},
			&cli.BoolFlag{Name: "verbose", Usage: "log more"},
		},
		Action: with(0, 0, p.relay),
	}}
}

func (p *program) relay(c *cli.Context) error {
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	if err := checkDir(dir, aRelay); err != nil {
		return err
	}
	follow, err := followed(c.StringSlice("follow"))
	if err != nil {
		return err
	}
	if n := c.Int("reservations"); n < 0 || n > maxReservations || c.Int64("circuit-bytes") < 0 {
		return usageError("a relay has at most %d reservations, and no limit is negative", maxReservations)
	}
	server, err := relay.NewServer(c.Context, relay.ServerConfig{
		Dir: dir, Follow: follow, Listen: given(c, "listen"), Announce: given(c, "announce"), Log: p.logger(c),
		Limits: relay.Limits{
			Reservations: c.Int("reservations"), Bytes: c.Int64("circuit-bytes"), Duration: time.Duration(*c.Generic("circuit-time").(*duration)),
		},
	})
	if errors.Is(err, dirlock.ErrHeld) {
		return fail(exitConflict, "a relay runs in %s already", dir).hint("for another relay, choose another directory: --dir")
	}
	if err != nil {
		return err
	}
	if err := p.announceRelay(c, server, follow.ID, dir); err != nil {
		return errors.Join(err, server.Close())
	}
	return server.Run(c.Context)
}

// followed reads the addresses of one rendezvous.
func followed(texts []string) (peer.AddrInfo, error) {
	var addrs []ma.Multiaddr
	for _, text := range texts {
		m, err := ma.NewMultiaddr(text)
		if err != nil {
			return peer.AddrInfo{}, notToFollow("%q is no multiaddr", text)
		}
		addrs = append(addrs, m)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil || len(infos) != 1 || len(infos[0].Addrs) == 0 {
		return peer.AddrInfo{}, notToFollow("--follow needs the address and the id of one rendezvous")
	}
	return infos[0], nil
}

func notToFollow(format string, args ...any) error {
	return usageError(format, args...).hint("it looks like /dns/chat.example.org/tcp/4001/p2p/12D3KooW...").hint("the rendezvous prints it: parley host relays list")
}

// announceRelay prints where the relay is and what has to happen.
func (p *program) announceRelay(c *cli.Context, server *relay.Server, home peer.ID, dir string) error {
	if c.Bool("json") {
		out := struct {
			Peer       string   `json:"peer"`
			Rendezvous string   `json:"rendezvous"`
			Addrs      []string `json:"addrs"`
			Dir        string   `json:"dir"`
		}{Peer: server.PeerID().String(), Rendezvous: home.String(), Dir: dir}
		for _, a := range server.Addrs() {
			out.Addrs = append(out.Addrs, a.String())
		}
		return p.json(out)
	}
	p.say("relay       %s", server.PeerID().String())
	p.say("rendezvous  %s", home.String())
	p.say("data        %s", dir)
	for _, addr := range server.Addrs() {
		p.say("listening   %s", addr)
	}
	p.say("")
	p.say("Unless it was done before, the operator of the rendezvous types: parley host relays add %s", server.PeerID().String())
	return nil
}
