package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/rendezvous"
)

func (p *program) hostKeysCommand() *cli.Command {
	return &cli.Command{
		Name: "keys", Usage: "the keys that the rendezvous which runs here signs access tokens with",
		Description: "They rotate by themselves every 30 days. This is for the day when one may be in wrong hands.",
		Subcommands: []*cli.Command{
			{Name: "status", Usage: "which keys there are, and what becomes of them when", Action: with(0, 0, p.hostKeysStatus)},
			{
				Name: "rotate", Usage: "bring in a new key: it signs as soon as everybody who checks tokens knows it",
				Action: with(0, 0, p.hostKeysRotate),
			},
			{
				Name: "revoke", ArgsUsage: "KEY", Usage: "take a key away at once: no token by it is good any more",
				Description: "Devices get new tokens by themselves.",
				Action:      with(1, 1, p.hostKeysRevoke),
			},
		},
	}
}

func (p *program) hostKeysStatus(c *cli.Context) error {
	return p.askHostKeys(c, func(a *rendezvous.Admin) (rendezvous.KeysStatus, error) { return a.KeysStatus(c.Context) })
}

func (p *program) hostKeysRotate(c *cli.Context) error {
	return p.askHostKeys(c, func(a *rendezvous.Admin) (rendezvous.KeysStatus, error) { return a.RotateKeys(c.Context) })
}

func (p *program) hostKeysRevoke(c *cli.Context) error {
	return p.askHostKeys(c, func(a *rendezvous.Admin) (rendezvous.KeysStatus, error) {
		st, err := a.RevokeKey(c.Context, c.Args().First())
		return st, notFound(err, "parley host keys status")
	})
}

// askHostKeys asks the rendezvous that runs here, and shows what it answers.
func (p *program) askHostKeys(c *cli.Context, ask func(*rendezvous.Admin) (rendezvous.KeysStatus, error)) error {
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	st, err := ask(rendezvous.NewAdmin(dir))
	if err != nil {
		return hostNotRunning(err)
	}
	if c.Bool("json") {
		return p.json(st)
	}
	for _, k := range st.Keys {
		p.say("%s  %s", k.ID, describeSigningKey(k))
	}
	if st.Alarm != "" {
		p.say("! %s", st.Alarm)
		p.say("  fix: parley host keys rotate")
	}
	return nil
}

// describeSigningKey says where in its life a key is.
func describeSigningKey(k rendezvous.SigningKeyInfo) string {
	switch k.State {
	case "published":
		return "published, signs from " + k.Until.Local().Format(time.TimeOnly)
	case "signing":
		return "signing since " + minute(k.Since) + ", until " + minute(k.Until)
	case "retiring":
		return "retiring, gone at " + k.Until.Local().Format(time.TimeOnly)
	}
	return k.State
}
