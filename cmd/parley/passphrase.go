package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/vault"
)

func (p *program) passphraseCommand() *cli.Command {
	return &cli.Command{
		Name: "passphrase", Category: "Node",
		Usage:       "change what opens your keys: a passphrase, a key file or the system's keyring",
		Description: "Your node has to be down. Asks for what opens your keys now and for a new passphrase, unless flags give them.\nKeys and messages stay as they are. A copy of the data directory made before still opens with the old passphrase.",
		Flags: append(secretFlags(),
			&cli.PathFlag{Name: "new-key-file", Usage: "from now on a `FILE` opens your keys; made if it is not there yet"},
			&cli.PathFlag{Name: "new-passphrase-file", Usage: "read the new passphrase from `FILE`, or standard input with -"},
			&cli.BoolFlag{Name: "new-keyring", Usage: "from now on keep the key that opens your keys in the system's keyring"},
		),
		Action: with(0, 0, p.changeSecret),
	}
}

func (p *program) changeSecret(c *cli.Context) error {
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	client, err := api.Dial(dir)
	if err == nil {
		client.Close()
		return fail(exitConflict, "your node is running").hint("stop it first: parley down")
	}
	if !errors.Is(err, api.ErrNotRunning) {
		return err
	}
	from, err := p.openSecret(c, dir)
	if err != nil {
		return err
	}
	if _, err := vault.Open(dir, from.secret); err != nil { // before anybody thinks of a new one
		return err
	}
	to, err := p.newSecret(c, dir, "new-")
	if err != nil {
		return err
	}
	if err := node.ChangeSecret(dir, from.secret, to.secret, p.logger(c)); err != nil {
		return err
	}
	kind, _, err := vault.Kind(dir)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(struct {
			OpensWith string `json:"opens_with"`
		}{kind})
	}
	p.say("from now on your keys open with a %s", kind)
	return nil
}
