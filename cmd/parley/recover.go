package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
)

// enterFlags are those of a command that makes this computer a device of an
// account that exists, in a new directory.
func enterFlags() []cli.Flag {
	return append(append(secretFlags(),
		&cli.BoolFlag{Name: "keyring", Usage: "keep the key that opens your keys in the system's keyring"},
		&cli.StringFlag{Name: "device", Usage: "what this computer is called", DefaultText: "its host name"},
	), nodeFlags()...)
}

func (p *program) restoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", ArgsUsage: "FILE", Usage: "make this computer a new device of your account, from a backup",
		Description: "Into a new data directory: --dir. If it is interrupted, type the same command again.",
		Flags: append(append(backupSecretFlags(),
			&cli.BoolFlag{Name: "recover", Usage: "with the recovery words, end all other devices of the account"},
		), enterFlags()...),
		Action: with(1, 1, p.restore),
	}
}

func (p *program) recoverCommand() *cli.Command {
	return &cli.Command{
		Name: "recover", Category: "Backup", ArgsUsage: "INVITE NAME", Usage: "take your account back with the recovery words, when every device is lost",
		Description: "INVITE is any invite link of your group: it says where the rendezvous is. All devices the account had are\nended, and your contacts are told. With a backup, your contacts come back too: parley backup restore FILE --recover",
		Flags:       append([]cli.Flag{wordsFlag()}, enterFlags()...),
		Action:      with(2, 2, p.recoverAccount),
	}
}

func (p *program) restore(c *cli.Context) error {
	dir, err := freeDir(c)
	if err != nil {
		return err
	}
	secret, err := p.backupSecret(c)
	if err != nil {
		return err
	}
	b, file, err := p.openBackup(c.Args().First(), secret)
	if err != nil {
		return err
	}
	defer file.Close()
	params := node.EnterParams{Dir: dir, Backup: b}
	if c.Bool("recover") {
		rk, err := p.recoveryWords(c)
		if err != nil {
			return err
		}
		params.Words = &rk
	}
	return p.enter(c, params)
}

func (p *program) recoverAccount(c *cli.Context) error {
	dir, err := freeDir(c)
	if err != nil {
		return err
	}
	in, err := p.readInvite(c.Args().First())
	if err != nil {
		return err
	}
	name := c.Args().Get(1)
	if err := engine.ValidName(name); err != nil {
		return usageError("%q cannot be a name", name).hint("the name you had there")
	}
	rk, err := p.recoveryWords(c)
	if err != nil {
		return err
	}
	return p.enter(c, node.EnterParams{Dir: dir, Words: &rk, Home: engine.Home{Peer: in.Peer, Addrs: in.Addrs}, Name: name})
}

// enter makes this computer a device, and starts its node.
func (p *program) enter(c *cli.Context, params node.EnterParams) error {
	u, err := p.openSecret(c, params.Dir) // of an attempt that was cut off
	if errors.Is(err, vault.ErrNoVault) {
		u, err = p.newSecret(c, params.Dir, "")
	}
	if err != nil {
		return err
	}
	params.Secret, params.DeviceName, params.Log = u.secret, deviceName(c), p.logger(c)
	me, err := p.enterOrRecover(c, params)
	if err != nil {
		return err
	}
	client, err := p.startNode(c.Context, params.Dir, u, passedOn(c)...)
	if err != nil {
		return explain(err).hint("you are %s here; start the node with: parley up", me.Name)
	}
	defer client.Close()
	waitReachable(c.Context, client)
	if c.Bool("json") {
		return p.json(me)
	}
	p.say("You are %s, on a new device. Your node runs in the background; its keys are sealed in %s", me.Name, params.Dir)
	if params.Words != nil {
		p.say("All other devices of your account are ended, and your contacts are told.")
		p.say("Your recovery words have served, and open nothing from now on. Write down the new ones: parley backup words")
	}
	if params.Backup == nil {
		p.say("Ask your contacts again: parley add NAME")
	}
	return nil
}

// enterOrRecover offers the recovery words when the key of a backup is not in
// force any more.
func (p *program) enterOrRecover(c *cli.Context, params node.EnterParams) (me api.Whoami, err error) {
	try := func() error {
		return p.working("making the keys of this device, and asking the rendezvous", func() error {
			me, err = node.Enter(c.Context, params)
			return err
		})
	}
	err = try()
	if errors.Is(err, node.ErrKeyReplaced) && params.Words != nil {
		return me, fail(exitLocked, "these are not the recovery words of that account, or the rendezvous does not know it").hint("nothing was changed; try again")
	}
	if !errors.Is(err, node.ErrKeyReplaced) || !p.interactive() {
		return me, err
	}
	p.note("The account key in this backup was replaced since, or the rendezvous does not know the account.\nA device you still have can let this one in. Or your recovery words can: then all other devices are ended.")
	answer, err := p.ask(c.Context, "Use the recovery words? Type yes: ")
	if err != nil {
		return me, err
	}
	if answer != "yes" {
		return me, fail(exitLocked, "nothing was changed").hint("link this computer from a device you still have")
	}
	rk, err := p.recoveryWords(c)
	if err != nil {
		return me, err
	}
	params.Words = &rk
	return me, try()
}
