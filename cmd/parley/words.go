package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/backup"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/words"
)

func (p *program) backupWords(c *cli.Context, client *api.Client) error {
	if c.IsSet("words-file") {
		text, err := p.secretText(c, "words-file")
		if err != nil {
			return err
		}
		if err := client.ConfirmRecovery(c.Context, api.ConfirmRequest{Words: string(text)}); err != nil {
			return err
		}
		return p.wordsConfirmed(c)
	}
	if p.interactive() {
		if _, err := p.teachWords(c.Context, client); err != nil {
			return err
		}
		return p.wordsConfirmed(c)
	}
	w, err := client.RecoveryWords(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(w)
	}
	p.say("%s", strings.Join(w.Words, " "))
	return nil
}

func (p *program) wordsConfirmed(c *cli.Context) error {
	if c.Bool("json") {
		return p.json(api.Recovery{Confirmed: true})
	}
	p.say("Confirmed. Only you have the recovery words now: this computer has forgotten them.")
	return nil
}

// teachWords shows the recovery words, has three of them typed again, and lets
// the node forget them. It returns them all.
func (p *program) teachWords(ctx context.Context, client *api.Client) (string, error) {
	w, err := client.RecoveryWords(ctx)
	if err != nil {
		return "", err
	}
	p.note("These are your recovery words. Write them on paper, in this order. They are shown\nonly this once, and whoever has them is you:\n")
	p.note("%s", block{"", wordGrid(w.Words)})
	p.note("")
	three := rand.Perm(len(w.Words))[:3]
	slices.Sort(three)
	for _, i := range three {
		if err := p.askWord(ctx, i+1, w.Words[i]); err != nil {
			return "", err
		}
	}
	text := strings.Join(w.Words, " ")
	return text, client.ConfirmRecovery(ctx, api.ConfirmRequest{Words: text})
}

// wordGrid writes words in four columns, numbered downwards.
func wordGrid(list []string) string {
	var out strings.Builder
	rows := (len(list) + 3) / 4
	for row := range rows {
		line := ""
		for i := row; i < len(list); i += rows {
			line += fmt.Sprintf("%2d %-10s", i+1, list[i])
		}
		out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return out.String()
}

func (p *program) askWord(ctx context.Context, number int, word string) error {
	for range 3 {
		typed, err := p.ask(ctx, fmt.Sprintf("To make sure, word %d: ", number))
		if err != nil {
			return err
		}
		if got, ok := words.Complete(typed); ok && got == word {
			return nil
		}
		p.note("That is not word %d. Look again.", number)
	}
	return usageError("the words were not confirmed; nothing was changed").hint("run the command again: it shows the same words")
}

// newBackupSecret finds what a new backup is to open with: what the flags say,
// the recovery words that are shown now, or what is typed.
func (p *program) newBackupSecret(c *cli.Context, client *api.Client) (r api.BackupRequest, err error) {
	var text []byte
	switch {
	case c.IsSet("words-file"):
		text, err = p.secretText(c, "words-file")
		return api.BackupRequest{Words: string(text)}, err
	case c.IsSet("backup-passphrase-file"):
		text, err = p.secretText(c, "backup-passphrase-file")
		return api.BackupRequest{Passphrase: string(text)}, orShort(text, err)
	case !p.interactive():
		return r, nobodyToAsk()
	case c.Bool("passphrase"):
		text, err = p.askNewPassphrase(c.Context)
		return api.BackupRequest{Passphrase: string(text)}, orShort(text, err)
	}
	state, err := client.Recovery(c.Context)
	if err != nil {
		return r, err
	}
	if !state.Confirmed {
		r.Words, err = p.teachWords(c.Context, client)
		return r, err
	}
	p.note("Type your recovery words to encrypt the backup with them, or leave it empty to choose a passphrase.")
	if text, err = p.readHidden(c.Context, "Recovery words: "); err != nil {
		return r, err
	}
	if len(text) > 0 {
		return api.BackupRequest{Words: string(text)}, nil
	}
	text, err = p.askNewPassphrase(c.Context)
	return api.BackupRequest{Passphrase: string(text)}, orShort(text, err)
}

func (p *program) askNewPassphrase(ctx context.Context) ([]byte, error) {
	first, err := p.readHidden(ctx, "Passphrase of the backup: ")
	if err != nil {
		return nil, err
	}
	again, err := p.readHidden(ctx, "Once more: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, again) {
		return nil, usageError("the two are not the same").hint("run the command again")
	}
	return first, nil
}

func orShort(passphrase []byte, err error) error {
	if err == nil && len(passphrase) < minPassphrase {
		return usageError("a passphrase has at least %d characters", minPassphrase).hint("four random words are good")
	}
	return err
}

// backupSecret finds what opens a backup that is there.
func (p *program) backupSecret(c *cli.Context) (s backup.Secret, err error) {
	var text []byte
	switch {
	case c.IsSet("backup-passphrase-file"): // words may be there too, to recover with
		text, err = p.secretText(c, "backup-passphrase-file")
	case c.IsSet("words-file"):
		rk, err := p.recoveryWords(c)
		return backup.FromWords(rk), err
	case !p.interactive():
		return s, nobodyToAsk()
	default:
		text, err = p.readHidden(c.Context, "Recovery words, or the backup's passphrase: ")
	}
	if err != nil {
		return s, err
	}
	if s, err = backup.FromTyped(text); err != nil {
		return s, usageError("%v", err)
	}
	return s, nil
}

// recoveryWords reads the recovery words from where the flags say, or asks.
func (p *program) recoveryWords(c *cli.Context) (rk key.RecoveryPrivate, err error) {
	var text []byte
	switch {
	case c.IsSet("words-file"):
		text, err = p.secretText(c, "words-file")
	case !p.interactive():
		return rk, fail(exitLocked, "no recovery words given, and nobody to ask for them").hint("--words-file FILE reads them from a file, or from standard input with -")
	default:
		text, err = p.readHidden(c.Context, "Recovery words: ")
	}
	if err != nil {
		return rk, err
	}
	if rk, err = backup.ParseWords(string(text)); err != nil {
		return rk, usageError("%v", err).hint("all 24, in their order; four letters of each are enough")
	}
	return rk, nil
}

func nobodyToAsk() error {
	return fail(exitLocked, "neither recovery words nor a passphrase given, and nobody to ask for them").
		hint("--words-file FILE or --backup-passphrase-file FILE, or - for standard input")
}

// secretText reads a secret from the file a flag names, or a line of standard
// input for -.
func (p *program) secretText(c *cli.Context, flag string) ([]byte, error) {
	if path := c.Path(flag); path != "-" {
		return readPassphraseFile(path)
	}
	line, err := p.readLine()
	return []byte(line), err
}
