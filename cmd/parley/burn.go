package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
)

func (p *program) burnCommand() *cli.Command {
	return &cli.Command{
		Name: "burn", Usage: "destroy all keys of this device, now",
		Description: "For an emergency. Messages and keys here become unreadable for everybody, also for you, and your contacts are\ntold not to write to this device, if your node is running. The account lives on with your other devices. If this\nis the only one, it comes back with a backup or your recovery words, and is lost without.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "yes", Usage: "do not ask"}},
		Action:      with(0, 0, p.burn),
	}
}

// burn needs no running node, and no passphrase.
func (p *program) burn(c *cli.Context) error {
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	client, err := api.Dial(dir)
	if err != nil && !errors.Is(err, api.ErrNotRunning) {
		return err
	}
	if client != nil {
		defer client.Close()
	}
	sure, err := p.sureToBurn(c, client)
	if err != nil {
		return err
	}
	if !sure {
		return fail(exitError, "nothing was changed")
	}
	burned := api.Burned{Destroyed: true, Problem: "your node is not running"}
	if client != nil {
		burned, err = client.Burn(c.Context)
	} else {
		err = node.BurnFolder(dir)
	}
	if err != nil {
		return err
	}
	return p.showBurned(c, burned)
}

func (p *program) sureToBurn(c *cli.Context, client *api.Client) (bool, error) {
	if c.Bool("yes") {
		return true, nil
	}
	if !p.interactive() {
		return false, usageError("burned keys do not come back, and nobody is here to ask").hint("--yes does it without asking")
	}
	if client != nil {
		p.warnOfLoss(c, client)
	}
	return p.confirm(c, "Destroy all keys and messages on this device? Type yes: ")
}

func (p *program) showBurned(c *cli.Context, burned api.Burned) error {
	if c.Bool("json") {
		if err := p.json(burned); err != nil {
			return err
		}
	} else {
		p.say("The keys of this device are destroyed.")
	}
	if !burned.Published {
		return fail(exitTimeout, "your contacts could not be told: %s", burned.Problem).
			hint("tell them from another of your devices: parley device revoke DEVICE").
			hint("if you have none: parley recover INVITE NAME, with your recovery words")
	}
	if !c.Bool("json") {
		p.say("It is revoked: nobody writes to it any more.")
	}
	return nil
}

// warnOfLoss says so if nothing brings the account back.
func (p *program) warnOfLoss(c *cli.Context, client *api.Client) {
	ctx, cancel := context.WithTimeout(c.Context, time.Second) // it asks the rendezvous too
	defer cancel()
	devices, err := client.Devices(ctx)
	if err != nil || len(devices) > 1 {
		return
	}
	recovery, err := client.Recovery(c.Context)
	switch {
	case err != nil:
	case recovery.Confirmed:
		p.note("This is your only device. Only your recovery words or a backup bring the account back.")
	case recovery.LastBackup != nil:
		p.note("This is your only device. Your backup of %s brings the account back.", clock(*recovery.LastBackup))
	default:
		p.note("This is your only device, and there is neither a backup nor have you written down the recovery words:\nYOUR ACCOUNT WILL BE LOST. They are shown by: parley backup words")
	}
}
