package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) pingCommand() *cli.Command {
	c := &cli.Command{
		Name: "ping", ArgsUsage: "NAME", Usage: "see how you reach a contact, until the way is direct",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "count", Aliases: []string{"c"}, Usage: "stop after `N` answers or failures, and not before"},
		},
		Action: asking(1, 1, p.ping),
	}
	c.BashComplete = p.complete(c, contactNames, nil)
	return c
}

// ping exits with 0 if anything came back.
func (p *program) ping(c *cli.Context, client *api.Client) error {
	name, limit := c.Args().First(), c.Int("count")
	if limit < 0 {
		return usageError("--count is at least 1")
	}
	answered, tried := false, 0
	for pong, err := range client.Ping(c.Context, name) {
		if c.Context.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		if err := p.showPong(c, name, pong); err != nil {
			return err
		}
		tried++
		answered = answered || pong.Problem == ""
		direct := pong.Path == api.Direct || pong.Path == api.HolePunched
		if tried == limit || limit == 0 && direct && pong.Problem == "" {
			break
		}
	}
	if !answered {
		return fail(exitTimeout, "%s has not answered", name)
	}
	return nil
}

func (p *program) showPong(c *cli.Context, name string, pong api.Pong) error {
	switch {
	case c.Bool("json"):
		return p.json(pong)
	case pong.Problem != "":
		problem, _, _ := strings.Cut(pong.Problem, "\n") // then come all addresses
		p.say("%s: %s", name, problem)
	case pong.Addr != "":
		p.say("%s answers in %.1f ms, %s (%s)", name, pong.RTTms, pong.Path, pong.Addr)
	default:
		p.say("%s answers in %.1f ms, %s", name, pong.RTTms, pong.Path)
	}
	return nil
}
