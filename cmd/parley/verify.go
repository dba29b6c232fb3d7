package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) verifyCommand() *cli.Command {
	c := &cli.Command{
		Name: "verify", ArgsUsage: "NAME", Usage: "make sure that nobody is between you and a contact",
		Description: "Both of you do the same one of these. If what you see is the same, nobody is in between, not even\n" +
			"the rendezvous:\n\n" +
			"parley verify NAME               a number to read out over a phone, and a QR code of it\n" +
			"parley verify NAME --scan CODE   take the code from their screen instead\n" +
			"parley verify NAME --emoji       seven emoji to compare while you talk, for 10 minutes",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do not ask: the numbers are the same"},
			&cli.BoolFlag{Name: "no", Usage: "do not ask: the numbers differ"},
			&cli.BoolFlag{Name: "verbose", Usage: "name the contacts who were shown the same log of keys"},
			&cli.BoolFlag{Name: "qr", Usage: "print the QR code even if this is no terminal"},
			&cli.StringFlag{Name: "scan", Usage: "the `CODE` of their screen, parley://verify#...; - reads it from standard input"},
			&cli.BoolFlag{Name: "emoji", Usage: "begin to compare emoji, or answer them"},
			&cli.StringFlag{Name: "match", Usage: "`ANSWER` yes or no: did you both see the same emoji? For where --emoji cannot ask"},
			&cli.BoolFlag{Name: "accept", Usage: "write to them again after their account was recovered, without comparing"},
		},
		Action: asking(1, 1, p.verify),
	}
	c.BashComplete = p.complete(c, contactNames, nil)
	return c
}

func (p *program) verify(c *cli.Context, client *api.Client) error {
	ways := 0
	for _, flag := range []string{"yes", "no", "scan", "emoji", "match", "accept"} {
		if c.IsSet(flag) {
			ways++
		}
	}
	switch name := c.Args().First(); {
	case ways > 1:
		return usageError("only one of --yes, --no, --scan, --emoji, --match and --accept at a time")
	case c.IsSet("scan"):
		return p.verifyScan(c, client, name)
	case c.Bool("emoji"):
		return p.verifyEmoji(c, client, name)
	case c.IsSet("match"):
		return p.verifyMatch(c, client, name)
	case c.Bool("accept"):
		return p.acceptChange(c, client, name)
	default:
		return p.verifyNumber(c, client, name)
	}
}

func (p *program) verifyNumber(c *cli.Context, client *api.Client, name string) error {
	s, err := client.Safety(c.Context, name)
	if err != nil {
		return err
	}
	same, decided := c.Bool("yes"), c.Bool("yes") || c.Bool("no")
	if !c.Bool("json") {
		if err := p.showSafety(c, client, s); err != nil {
			return err
		}
		if !decided && p.interactive() {
			if same, decided, err = p.askSame(c.Context, "Does "+name+" see the same number?"); err != nil {
				return err
			}
		}
	}
	if decided {
		if err := client.SetVerified(c.Context, name, same); err != nil {
			return err
		}
		if s, err = client.Safety(c.Context, name); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		if err := p.json(s); err != nil {
			return err
		}
	}
	if decided && !same {
		return inBetween("the numbers differ: somebody may be in between", name)
	}
	if decided && !c.Bool("json") {
		p.say("%s is verified", name)
	}
	return nil
}

func inBetween(text, name string) error {
	return fail(exitUnverified, "%s", text).hint("write nothing secret to %s, and find out together what happened", name)
}

// askSame asks what the user sees. Not decided: neither yes nor no was typed.
func (p *program) askSame(ctx context.Context, question string) (same, decided bool, err error) {
	answer, err := p.ask(ctx, question+" [y/n] ")
	return isYes(answer), isYes(answer) || isNo(answer), err
}

func (p *program) showSafety(c *cli.Context, client *api.Client, s api.Safety) error {
	state := "not verified yet"
	switch {
	case s.Verified:
		state = "verified"
	case s.KeyChanged:
		state = "verified before their account was recovered"
	}
	p.say("Safety number with %s (%s):", s.With, state)
	p.say("")
	groups := strings.Fields(s.Number)
	for i := 0; i < len(groups); i += 4 {
		p.say("    %s", strings.Join(groups[i:min(i+4, len(groups))], "  "))
	}
	p.say("")
	p.say("%s", describeStanding(s))
	if c.Bool("verbose") && len(s.Confirmed) > 0 {
		p.say("Confirmed by %s.", strings.Join(s.Confirmed, ", "))
	}
	p.say("")
	if !p.onTerminal() && !c.Bool("qr") {
		return nil
	}
	if err := printQR(p.stdout, s.Code, p.onTerminal()); err != nil {
		return err
	}
	p.say("To scan it, %s types: parley verify %s --scan '%s'", s.With, p.ownName(c, client), s.Code)
	p.say("")
	return nil
}

// describeStanding says what speaks for a contact's key before anybody compares.
func describeStanding(s api.Safety) string {
	entry := "not read in the public log yet"
	if s.Entry != nil {
		entry = fmt.Sprintf("in the public log at entry %d", *s.Entry)
	}
	return fmt.Sprintf("Same key since %s, %s, log head confirmed by %d of your contacts.",
		s.Since.Local().Format(time.DateOnly), entry, len(s.Confirmed))
}

func (p *program) verifyScan(c *cli.Context, client *api.Client, name string) (err error) {
	code := c.String("scan")
	if code == "-" {
		if code, err = p.readLine(); err != nil {
			return err
		}
	}
	s, err := client.Scan(c.Context, name, code)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(s)
	}
	p.say("%s is verified", name)
	p.note("So that %s knows it too, they scan the code that you see with: parley verify %s", name, name)
	return nil
}

func (p *program) acceptChange(c *cli.Context, client *api.Client, name string) error {
	k, err := client.AcceptChange(c.Context, name)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(k)
	}
	p.say("messages to %s go out again; %s is not verified", k.Name, k.Name)
	return nil
}

func isYes(answer string) bool {
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}
func isNo(answer string) bool {
	return strings.EqualFold(answer, "n") || strings.EqualFold(answer, "no")
}
