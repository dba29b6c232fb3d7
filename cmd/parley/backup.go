package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/backup"
)

func (p *program) backupCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "backup", Category: "Backup", Usage: "for the day this computer is lost",
			Subcommands: []*cli.Command{
				{
					Name: "create", ArgsUsage: "FILE", Usage: "write your account, contacts and, if you like, messages to an encrypted file",
					Description: "The file opens with your recovery words, or with a passphrase of its own. It is an age file.",
					Flags: append(backupSecretFlags(),
						&cli.BoolFlag{Name: "history", Usage: "put all conversations into it"},
						&cli.BoolFlag{Name: "passphrase", Usage: "encrypt it with a passphrase instead of the recovery words"},
						&cli.BoolFlag{Name: "force", Usage: "replace the file if it is there"},
					),
					Action: asking(1, 1, p.backupCreate),
				},
				{
					Name: "verify", ArgsUsage: "FILE", Usage: "restore a backup for a trial, send nothing, and say what is in it",
					Flags: backupSecretFlags(), Action: with(1, 1, p.backupVerify),
				},
				p.restoreCommand(),
				{
					Name: "words", Usage: "show your recovery words, once, and let you confirm that you wrote them down",
					Description: "Without a terminal it prints them; --words-file then confirms them.",
					Flags:       []cli.Flag{wordsFlag()}, Action: asking(0, 0, p.backupWords),
				},
			},
		},
		p.recoverCommand(),
	}
}

// backupSecretFlags say what opens a backup.
func backupSecretFlags() []cli.Flag {
	return []cli.Flag{
		wordsFlag(),
		&cli.PathFlag{Name: "backup-passphrase-file", Usage: "read the backup's passphrase from `FILE`, or standard input with -"},
	}
}

func wordsFlag() cli.Flag {
	return &cli.PathFlag{Name: "words-file", Usage: "read the recovery words from `FILE`, or standard input with -"}
}

func (p *program) backupCreate(c *cli.Context, client *api.Client) error {
	path := c.Args().First()
	if _, err := os.Lstat(path); err == nil && !c.Bool("force") {
		return fileExists(path)
	}
	request, err := p.newBackupSecret(c, client)
	if err != nil {
		return err
	}
	request.History = c.Bool("history")
	err = p.working("writing the backup", func() error {
		return writeNew(path, c.Bool("force"), func(w io.Writer) error { return client.Backup(c.Context, request, w) })
	})
	if err != nil {
		return err
	}
	secret, err := backup.FromTyped([]byte(request.Words + request.Passphrase))
	if err != nil {
		return err
	}
	b, file, err := p.openBackup(path, secret)
	if err != nil {
		return explain(err).hint("the file is there, but do not rely on it")
	}
	defer file.Close()
	if c.Bool("json") {
		return p.json(backupMade{path, b.Member.Name, b.Created, len(b.Member.Contacts), b.Conversations, b.Messages})
	}
	p.say("%s holds %s: %s, %s", path, b.Member.Name, count(len(b.Member.Contacts), "contact", "contacts"), count(b.Messages, "message", "messages"))
	p.say("It was read back and is whole. Keep it away from this computer; it opens with your %s.",
		map[bool]string{true: "recovery words", false: "passphrase"}[request.Words != ""])
	return nil
}

type backupMade struct {
	File          string    `json:"file"`
	Name          string    `json:"name"`
	Created       time.Time `json:"created"`
	Contacts      int       `json:"contacts"`
	Conversations int       `json:"conversations"`
	Messages      int       `json:"messages"`
}

func (p *program) backupVerify(c *cli.Context) error {
	secret, err := p.backupSecret(c)
	if err != nil {
		return err
	}
	b, file, err := p.openBackup(c.Args().First(), secret)
	if err != nil {
		return err
	}
	defer file.Close()
	var r api.BackupReport
	err = p.working("restoring for a trial", func() error {
		r, err = node.VerifyBackup(c.Context, b, p.logger(c))
		return err
	})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(r)
	}
	p.say("A whole backup of %s, made %s ago (%s).", r.Name, age(r.Created), clock(r.Created))
	p.say("%-14s %s", "account", r.Account)
	p.say("%-14s %d", "devices", len(r.Devices))
	p.say("%-14s %d, %d verified", "contacts", r.Contacts, r.Verified)
	p.say("%-14s %d in %s", "messages", r.Messages, count(r.Conversations, "conversation", "conversations"))
	return nil
}

// openBackup opens a backup. The file must stay open while it is used.
func (p *program) openBackup(path string, secret backup.Secret) (b *backup.Backup, file *os.File, err error) {
	file, err = os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fail(exitNotFound, "there is no file %s", path)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil {
		err = p.working("opening the backup", func() error {
			b, err = backup.Open(file, info.Size(), secret)
			return err
		})
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return b, file, nil
}
