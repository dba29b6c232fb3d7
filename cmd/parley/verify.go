package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) verifyCommand() *cli.Command {
	c := &cli.Command{
		Name: "verify", ArgsUsage: "NAME", Usage: "compare safety numbers with a contact",
		Description: "Both of you run this. If the numbers are the same, read out over a phone or seen side by side,\nnobody is in between: not even the rendezvous.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do not ask: the numbers are the same"},
			&cli.BoolFlag{Name: "no", Usage: "do not ask: the numbers differ"},
			&cli.BoolFlag{Name: "qr", Usage: "print the QR code even if this is no terminal"},
		},
		Action: asking(1, 1, p.verify),
	}
	c.BashComplete = p.completeContacts(c)
	return c
}

func (p *program) verify(c *cli.Context, client *api.Client) error {
	name := c.Args().First()
	s, err := client.Safety(c.Context, name)
	if err != nil {
		return err
	}
	same, decided := c.Bool("yes"), c.Bool("yes") || c.Bool("no")
	if !c.Bool("json") {
		if err := p.showSafety(c, s); err != nil {
			return err
		}
		if !decided && p.interactive() {
			answer, err := p.ask(c.Context, "Does "+name+" see the same number? [y/n] ")
			if err != nil {
				return err
			}
			same, decided = isYes(answer), isYes(answer) || isNo(answer)
		}
	}
	if decided {
		if err := client.SetVerified(c.Context, name, same); err != nil {
			return err
		}
		s.Verified = same
	}
	if c.Bool("json") {
		if err := p.json(s); err != nil {
			return err
		}
	}
	if decided && !same {
		return fail(exitUnverified, "the numbers differ: somebody may be in between").
			hint("write nothing secret to %s, and find out together what happened", name)
	}
	if decided && !c.Bool("json") {
		p.say("%s is verified", name)
	}
	return nil
}

func (p *program) showSafety(c *cli.Context, s api.Safety) error {
	state := "not verified yet"
	if s.Verified {
		state = "verified"
	}
	p.say("Safety number with %s (%s):", s.With, state)
	p.say("")
	groups := strings.Fields(s.Number)
	for i := 0; i < len(groups); i += 4 {
		p.say("    %s", strings.Join(groups[i:min(i+4, len(groups))], "  "))
	}
	p.say("")
	if !p.onTerminal() && !c.Bool("qr") {
		return nil
	}
	return printQR(p.stdout, strings.Join(groups, ""), p.onTerminal())
}

func isYes(answer string) bool {
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}
func isNo(answer string) bool {
	return strings.EqualFold(answer, "n") || strings.EqualFold(answer, "no")
}
