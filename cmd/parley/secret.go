package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/parley-chat/parley/node/vault"
)

// minPassphrase is the shortest passphrase that we take for a new vault, in bytes.
const minPassphrase = 8

// keyringService names our entries in the system's keyring.
const keyringService = "parley"

// unlock is what opens a vault, and how a background process gets it: a
// passphrase through a pipe, anything else by the same flags.
type unlock struct {
	secret     vault.Secret
	passphrase []byte // nil for other kinds
	flags      []string
}

func secretFlags() []cli.Flag {
	return []cli.Flag{
		&cli.PathFlag{Name: "key-file", Usage: "a `FILE` opens your keys instead of a passphrase; made if it is not there yet", EnvVars: []string{"PARLEY_KEY_FILE"}},
		&cli.PathFlag{Name: "passphrase-file", Usage: "read the passphrase from `FILE`, or standard input with -", EnvVars: []string{"PARLEY_PASSPHRASE_FILE"}},
	}
}

// newSecret makes the secret for a new vault, as the flags say whose names
// begin with prefix.
func (p *program) newSecret(c *cli.Context, dir, prefix string) (unlock, error) {
	switch path := c.Path(prefix + "key-file"); {
	case c.Bool(prefix + "keyring"):
		s, err := vault.CreateKeyring(keyringService, dir)
		if err != nil {
			return unlock{}, fail(exitError, "%v", err).hint("leave out --%skeyring to use a passphrase", prefix)
		}
		return unlock{secret: s}, nil
	case path != "":
		return keyFile(path, true)
	}
	passphrase, err := p.passphrase(c, prefix, true)
	return unlock{secret: vault.FromPassphrase(passphrase), passphrase: passphrase}, err
}

// openSecret gets the secret of the vault in dir, asking for it if need be.
func (p *program) openSecret(c *cli.Context, dir string) (unlock, error) {
	kind, place, err := vault.Kind(dir)
	if err != nil {
		return unlock{}, err
	}
	if err := fitsVault(c, kind); err != nil {
		return unlock{}, err
	}
	switch kind {
	case vault.Keyring:
		service, user, _ := strings.Cut(place, "/")
		s, err := vault.FromKeyring(service, user)
		if err != nil {
			return unlock{}, fail(exitLocked, "%v", err)
		}
		return unlock{secret: s}, nil
	case vault.KeyFile:
		if path := c.Path("key-file"); path != "" {
			place = path
		}
		return keyFile(place, false)
	}
	passphrase, err := p.passphrase(c, "", false)
	return unlock{secret: vault.FromPassphrase(passphrase), passphrase: passphrase}, err
}

// fitsVault refuses flags that ask for another kind of secret than opens the vault.
func fitsVault(c *cli.Context, kind string) error {
	for _, f := range []struct{ flag, kind string }{
		{"key-file", vault.KeyFile}, {"passphrase-file", vault.Passphrase}, {"keyring", vault.Keyring},
	} {
		if c.IsSet(f.flag) && f.kind != kind {
			return usageError("--%s does not fit: the keys here open with a %s", f.flag, kind)
		}
	}
	return nil
}

func keyFile(path string, create bool) (unlock, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return unlock{}, err
	}
	s, err := vault.FromKeyFile(path)
	if create && errors.Is(err, fs.ErrNotExist) {
		s, err = vault.CreateKeyFile(path)
	}
	if err != nil {
		return unlock{}, fail(exitLocked, "%v", err).hint("without this file your keys cannot be opened")
	}
	return unlock{secret: s, flags: []string{"--key-file=" + path}}, nil
}

// passphrase reads a passphrase from where the flags say, or asks for it: twice
// for a new one.
func (p *program) passphrase(c *cli.Context, prefix string, isNew bool) (passphrase []byte, err error) {
	switch path := c.Path(prefix + "passphrase-file"); {
	case path == "-":
		var line string
		line, err = p.readLine()
		passphrase = []byte(line)
	case path != "":
		passphrase, err = readPassphraseFile(path)
	case !p.interactive():
		return nil, fail(exitLocked, "no passphrase given, and nobody to ask for it").
			hint("--%spassphrase-file FILE reads it from a file, or from standard input with -", prefix).
			hint("--%skey-file FILE uses a key file instead", prefix)
	default:
		passphrase, err = p.askPassphrase(c.Context, isNew)
	}
	if err != nil {
		return nil, err
	}
	if isNew && len(passphrase) < minPassphrase {
		return nil, usageError("a passphrase has at least %d characters", minPassphrase).hint("four random words are good")
	}
	return passphrase, nil
}

func (p *program) askPassphrase(ctx context.Context, isNew bool) ([]byte, error) {
	if !isNew {
		return p.readHidden(ctx, "Passphrase: ")
	}
	p.note("Your keys and messages are sealed on this computer with a passphrase.\nThere is no way to get it back if you forget it.")
	return p.askTwice(ctx, "New passphrase: ")
}

// askTwice asks for a new secret until it was typed twice alike.
func (p *program) askTwice(ctx context.Context, question string) ([]byte, error) {
	for range 3 {
		first, err := p.readHidden(ctx, question)
		if err != nil {
			return nil, err
		}
		again, err := p.readHidden(ctx, "Once more: ")
		if err != nil {
			return nil, err
		}
		if bytes.Equal(first, again) {
			return first, nil
		}
		p.note("These two are not the same.")
	}
	return nil, usageError("the two are not the same").hint("run the command again")
}

// readHidden asks a question whose answer is not shown. An interrupt gives the
// terminal its echo back before the program ends; the reader ends with it.
func (p *program) readHidden(ctx context.Context, question string) ([]byte, error) {
	fd := int(os.Stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("ask: %w", err)
	}
	io.WriteString(p.stderr, question)
	type answer struct {
		text []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(fd)
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		io.WriteString(p.stderr, "\n")
		return a.text, a.err
	case <-ctx.Done():
		io.WriteString(p.stderr, "\n")
		return nil, errors.Join(context.Cause(ctx), term.Restore(fd, before))
	}
}

// readPassphraseFile reads a file of one line. A regular file must be private;
// a pipe, as in /dev/fd/3, always is.
func readPassphraseFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fail(exitLocked, "read %s: %v", path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, fail(exitLocked, "others may read %s, and it holds a secret", path).hint("chmod 600 %s", path)
	}
	text, err := io.ReadAll(io.LimitReader(file, 4096))
	if err != nil {
		return nil, fail(exitLocked, "read the passphrase: %v", err)
	}
	return bytes.TrimRight(text, "\r\n"), nil
}
