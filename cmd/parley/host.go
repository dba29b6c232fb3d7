package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/rendezvous"
	"github.com/parley-chat/parley/store"
)

// invitedName is a file in the data directory of a rendezvous that has printed
// its first invite.
const invitedName = "invited"

func (p *program) hostCommands() []*cli.Command {
	return []*cli.Command{{
		Name: "host", Category: "Rendezvous",
		Usage:       "be the rendezvous of a group: names, keys, a mailbox for those who are away",
		Description: "Runs until Ctrl-C. It sees who writes to whom and when, but can neither read nor forge what.\nThe computers of the group must be able to reach it: from the internet, open port 4001 for TCP and UDP\nand name it with --announce.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "listen", Usage: "listen at this `MULTIADDR`", DefaultText: "port 4001, TCP and UDP, all addresses", EnvVars: []string{"PARLEY_HOST_LISTEN"}},
			&cli.StringSliceFlag{Name: "announce", Usage: "an address to put into invites: `HOST:PORT` or a multiaddr", EnvVars: []string{"PARLEY_HOST_ANNOUNCE"}},
			&cli.StringFlag{Name: "http", Usage: "serve the directory log, and the keys that access tokens are signed with, over HTTP at this `ADDR`, such as :8080", DefaultText: "not at all", EnvVars: []string{"PARLEY_HOST_HTTP"}},
			&cli.BoolFlag{Name: "open", Usage: "let in everybody, without an invite", EnvVars: []string{"PARLEY_HOST_OPEN"}},
			&cli.GenericFlag{Name: "file-bytes", Value: new(size), Usage: "store sealed files of at most `SIZE`, such as 100M, for who is away", DefaultText: "66 MiB, for a file of 64 MiB", EnvVars: []string{"PARLEY_HOST_FILE_BYTES"}},
			&cli.GenericFlag{Name: "file-quota", Value: new(size), Usage: "store at most `SIZE` of files of one account; 0 for no files", DefaultText: "256 MiB", EnvVars: []string{"PARLEY_HOST_FILE_QUOTA"}},
			&cli.GenericFlag{Name: "file-time", Value: new(duration), Usage: "delete a stored file after `TIME`", DefaultText: "14d", EnvVars: []string{"PARLEY_HOST_FILE_TIME"}},
			&cli.BoolFlag{Name: "qr", Usage: "print the invite's QR code even if this is no terminal"},
			&cli.BoolFlag{Name: "verbose", Usage: "log more"},
		},
		Action: with(0, 0, p.host),
		Subcommands: []*cli.Command{
			{
				Name: "invite", Usage: "print a new invite of the rendezvous that runs here",
				Flags:  inviteFlags("20"),
				Action: with(0, 0, p.hostInvite),
			},
			{Name: "status", Usage: "how the rendezvous that runs here is doing", Action: with(0, 0, p.hostStatus)},
			p.hostKeysCommand(),
			p.hostAuditCommand(),
			p.hostRelaysCommand(),
		},
	}}
}

func (p *program) host(c *cli.Context) error {
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	if err := checkDir(dir, aRendezvous); err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(dir, invitedName))
	first := errors.Is(err, fs.ErrNotExist)

	server, err := rendezvous.New(c.Context, rendezvous.Config{
		Dir: dir, Listen: given(c, "listen"), Announce: given(c, "announce"),
		Open: c.Bool("open"), HTTP: c.String("http"), Log: p.logger(c),
		Limits: rendezvous.Limits{
			BlobBytes: int(sizeOf(c, "file-bytes")), BlobQuota: fileQuota(c),
			BlobTTL: time.Duration(*c.Generic("file-time").(*duration)),
		},
	})
	if errors.Is(err, store.ErrLocked) {
		return fail(exitConflict, "a rendezvous runs in %s already", dir).hint("see it with: parley host status")
	}
	if err != nil {
		return err
	}
	if err := p.announceHost(c, server, dir, first); err != nil {
		return errors.Join(err, server.Close())
	}
	if err := os.WriteFile(filepath.Join(dir, invitedName), nil, 0o600); err != nil {
		return errors.Join(fmt.Errorf("note that there is an invite: %w", err), server.Close())
	}
	return server.Run(c.Context)
}

// fileQuota is how many bytes of files an account may store; 0 if no flag says.
func fileQuota(c *cli.Context) int {
	if quota := int(sizeOf(c, "file-quota")); quota > 0 || !c.IsSet("file-quota") {
		return quota
	}
	return 1 // which is none: a sealed file has more
}

// announceHost prints where the rendezvous is and, the first time, an invite.
func (p *program) announceHost(c *cli.Context, server *rendezvous.Server, dir string, first bool) error {
	if c.Bool("json") {
		return p.hostJSON(c.Context, server, dir, first)
	}
	p.say("rendezvous  %s", server.PeerID().String())
	p.say("data        %s", dir)
	for _, addr := range server.Addrs() {
		p.say("listening   %s", addr)
	}
	p.say("")
	if !first {
		p.say("For an invite, type in another terminal: %s", inviteHint(c, dir))
		return nil
	}
	link, expires, err := server.NewInvite(c.Context, 0, 0)
	if err != nil {
		return err
	}
	if err := p.showInvite(c, link, rendezvous.InviteUses, expires); err != nil {
		return err
	}
	p.say("")
	p.say("For another invite, type in another terminal: %s", inviteHint(c, dir))
	return nil
}

// inviteHint is the command that makes another invite.
func inviteHint(c *cli.Context, dir string) string {
	if c.IsSet("dir") {
		return fmt.Sprintf("parley host invite --dir '%s'", dir)
	}
	return "parley host invite"
}

func (p *program) hostJSON(ctx context.Context, server *rendezvous.Server, dir string, first bool) error {
	status, err := server.Status(ctx)
	if err != nil {
		return err
	}
	out := struct {
		rendezvous.Status
		Dir    string `json:"dir"`
		Invite string `json:"invite,omitempty"`
	}{Status: status, Dir: dir}
	if first {
		if out.Invite, _, err = server.NewInvite(ctx, 0, 0); err != nil {
			return err
		}
	}
	return p.json(out)
}

func (p *program) hostInvite(c *cli.Context) error {
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	uses := c.Int("uses")
	link, expires, err := rendezvous.NewAdmin(dir).NewInvite(c.Context, uses, ttl(c))
	if err != nil {
		return hostNotRunning(err)
	}
	if uses == 0 {
		uses = rendezvous.InviteUses
	}
	return p.printInvite(c, link, uses, expires)
}

func (p *program) hostStatus(c *cli.Context) error {
	dir, err := dataDir(c)
	if err != nil {
		return err
	}
	s, err := rendezvous.NewAdmin(dir).Status(c.Context)
	if err != nil {
		return hostNotRunning(err)
	}
	if c.Bool("json") {
		return p.json(s)
	}
	p.say("rendezvous  %s", s.Peer)
	p.say("up          %s", span(time.Duration(s.UptimeS)*time.Second))
	p.say("online      %s, %s", count(s.Online, "device", "devices"), count(s.Connections, "connection", "connections"))
	p.say("relay       %s, %s", count(s.Reservations, "reservation", "reservations"), count(s.Circuits, "circuit", "circuits"))
	switch asking := count(s.Asking, "asks", "ask") + " to be added: parley host relays list"; {
	case s.Asking > 0:
		p.say("relays      %d in use, %s", s.Relays, asking)
	case s.Relays > 0:
		p.say("relays      %d in use", s.Relays)
	}
	p.say("joining     %s", map[bool]string{true: "open to everybody", false: "by invite"}[s.Open])
	p.say("accounts    %d", s.Accounts)
	p.say("audit       %s, %d bytes", count(int(s.Audit.N), "entry", "entries"), s.Audit.Bytes)
	p.say("mail        %s, %d bytes", count(s.Mail, "envelope waits", "envelopes wait"), s.MailBytes)
	p.say("files       %s, %d bytes", count(s.Blobs, "waits", "wait"), s.BlobBytes)
	for _, addr := range s.Addrs {
		p.say("listening   %s", addr)
	}
	if s.HTTP != "" {
		p.say("http        %s", s.HTTP)
	}
	if s.KeyAlarm != "" {
		p.say("! %s", s.KeyAlarm)
		p.say("  see: parley host keys status")
	}
	return nil
}

func isHostDown(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// notFound adds to an error, if it is that something is not known here, the
// command that shows what is.
func notFound(err error, list string) error {
	if errors.Is(err, rendezvous.ErrNotFound) {
		return explain(err).hint("%s", list)
	}
	return err
}

// hostNotRunning tells a rendezvous that is not there from other errors.
func hostNotRunning(err error) error {
	if isHostDown(err) {
		return fail(exitNotRunning, "no rendezvous runs here").hint("start one: parley host").hint("or say where its data is: --dir")
	}
	return err
}
