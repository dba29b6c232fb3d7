package main

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/cmd/parley/display"
	"github.com/parley-chat/parley/node/api"
)

func (p *program) deviceCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "device", Category: "Devices", Usage: "your other computers: add one, rename one, end one",
			Subcommands: []*cli.Command{
				{
					Name: "add", Usage: "add another computer to your account",
					Description: "Shows a code. Type it on the new computer: parley link CODE. Then say yes here, if both show the same words.",
					Flags: []cli.Flag{
						&cli.BoolFlag{Name: "yes", Usage: "do not ask: add whoever enters the code first"},
						&cli.BoolFlag{Name: "no-history", Usage: "give no past messages, even if the new device asks for them"},
						&cli.BoolFlag{Name: "no-qr", Usage: "print no QR code"},
					},
					Action: asking(0, 0, p.addDevice),
				},
				{Name: "list", Usage: "your devices", Action: asking(0, 0, p.devices)},
				{
					Name: "rename", ArgsUsage: "DEVICE NAME", Usage: "call a device something else",
					Description: "DEVICE is its name, or its id or the beginning of it.",
					Action:      asking(2, 2, p.renameDevice),
				},
				{
					Name: "revoke", ArgsUsage: "DEVICE", Usage: "end a device for good: lost, stolen or no longer used",
					Description: "The device can read nothing that is written from now on, here and with your contacts, and cannot come back.\nDEVICE is its name, or its id or the beginning of it.",
					Flags: []cli.Flag{
						&cli.StringFlag{Name: "reason", Usage: "`WHY`: retired, lost or compromised", Value: "lost"},
						&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
					},
					Action: asking(1, 1, p.revokeDevice),
				},
			},
		},
		p.linkCommand(),
	}
}

func (p *program) addDevice(c *cli.Context, client *api.Client) error {
	if !c.Bool("yes") && !p.interactive() {
		return usageError("somebody must say yes to the new device, and nobody is here to ask").hint("--yes adds whoever enters the code first")
	}
	for step, err := range client.AddDevice(c.Context) {
		if err != nil {
			return err
		}
		switch step.Stage {
		case api.AddCode:
			err = p.showCode(c, step)
		case api.AddAsked:
			err = p.answerDevice(c, client, step)
		case api.AddDone:
			return p.showDevice(c, *step.Device, "has been added")
		}
		if err != nil {
			return err
		}
	}
	if err := c.Context.Err(); err != nil {
		return err
	}
	return fail(exitLocked, "no device was added, and the code is used up").hint("for another code: parley device add")
}

func (p *program) showCode(c *cli.Context, step api.AddStep) error {
	if c.Bool("json") {
		return p.json(step)
	}
	if !c.Bool("no-qr") && p.onTerminal() {
		if err := printQR(p.stdout, step.Link, true); err != nil {
			return err
		}
	}
	p.say("On the new computer, type one of these:")
	p.say("")
	p.say("   parley link '%s'", step.Link)
	p.say("   parley link %s --home INVITE      with any invite of your group", step.Code)
	p.say("")
	if step.Expires != nil {
		p.note("waiting for it, for %s ...", span(time.Until(*step.Expires).Round(time.Second)))
	}
	return nil
}

func (p *program) answerDevice(c *cli.Context, client *api.Client, step api.AddStep) error {
	answer := api.AddAnswer{ID: step.ID, Accept: true, History: !c.Bool("no-history")}
	if c.Bool("json") {
		if err := p.json(step); err != nil {
			return err
		}
	}
	if !c.Bool("yes") {
		p.note("A device that calls itself %q wants to be added%s.", step.Name, map[bool]string{true: ", with your past messages"}[step.History])
		p.note("It must show these words:")
		p.note("")
		p.note("   %s", step.Words)
		p.note("")
		yes, err := p.confirm(c, "Does it, and is it yours? Type yes to add it: ")
		if err != nil {
			return err
		}
		answer.Accept = yes
	}
	return client.AnswerDevice(c.Context, answer)
}

// confirm asks for a whole yes: what follows cannot be taken back.
func (p *program) confirm(c *cli.Context, question string) (bool, error) {
	text, err := p.ask(c.Context, question)
	return strings.EqualFold(text, "yes"), err
}

func (p *program) devices(c *cli.Context, client *api.Client) error {
	all, err := client.Devices(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(listed("devices", all))
	}
	rows := [][]string{}
	for _, d := range all {
		state := "unknown"
		switch {
		case d.This:
			state = "this one"
		case d.Online != nil && *d.Online:
			state = "online"
		case d.Online != nil:
			state = "offline"
		}
		rows = append(rows, []string{d.Name, state, "added " + clock(d.Created), d.ID[:8]})
	}
	p.table(rows)
	return nil
}

func (p *program) renameDevice(c *cli.Context, client *api.Client) error {
	d, err := client.RenameDevice(c.Context, c.Args().Get(0), c.Args().Get(1))
	if err != nil {
		return err
	}
	return p.showDevice(c, d, "is its name now")
}

func (p *program) revokeDevice(c *cli.Context, client *api.Client) error {
	device := c.Args().First()
	if !c.Bool("yes") {
		if !p.interactive() {
			return usageError("a device that is revoked cannot come back, and nobody is here to ask").hint("--yes does it without asking")
		}
		yes, err := p.confirm(c, "Revoke "+display.Clean(device)+" for good? Type yes: ")
		if err != nil {
			return err
		}
		if !yes {
			return fail(exitError, "nothing was changed")
		}
	}
	d, err := client.RevokeDevice(c.Context, device, c.String("reason"))
	if err != nil {
		return err
	}
	return p.showDevice(c, d, "is revoked")
}

func (p *program) showDevice(c *cli.Context, d api.Device, what string) error {
	if c.Bool("json") {
		return p.json(d)
	}
	p.say("%s %s (%s)", d.Name, what, d.ID[:8])
	return nil
}
