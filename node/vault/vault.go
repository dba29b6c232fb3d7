// Package vault keeps a node's keys and messages sealed at rest. A random
// master key, wrapped under a passphrase, a key file or the system's keyring,
// seals every value of the node's store with XAES-256-GCM.
//
// A store that deletes a row keeps its old bytes for an unknown time. So rows
// whose old states must not come back (private keys, session states) are sealed
// under a wrap key instead, which lives in a small file and is replaced often:
// what was deleted before is unreadable after, also for whoever has the secret
// (Store.Rotate). Burn destroys all keys at once.
//
// The keys of the store stay in clear: whoever writes rows keeps names and
// text out of them. The vault protects a copied disk, not a running process,
// and it does not hide how many rows there are or how long.
package vault

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

var (
	ErrWrongSecret = errors.New("wrong passphrase or key")
	ErrNoVault     = errors.New("there are no keys")
	ErrExists      = errors.New("keys are here already")
	ErrDamaged     = errors.New("the file that holds the keys, vault, is damaged")
	ErrExposed     = errors.New("not private")
)

// Vault is an open vault. It never prints what it holds.
type Vault struct {
	dir    string
	master [keySize]byte
	values *xaes // seals lasting rows
	wraps  *xaes // seals the wrap file
}

// Create makes a vault in dir, which is created with mode 0700 if need be.
// It returns ErrExists, and changes nothing, where there is a vault already.
func Create(dir string, s Secret) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create data directory: %w", err)
	}
	if err := privateDir(dir); err != nil {
		return err
	}
	v := &Vault{dir: dir, master: newKey()}
	err := v.write(s, create)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, dir)
	}
	return err
}

// Open opens the vault in dir. It returns ErrNoVault, ErrWrongSecret,
// ErrDamaged, or ErrExposed if others than its owner may read it; in each case
// nothing has changed. A passphrase costs 64 MiB and some 0.2 s.
func Open(dir string, s Secret) (*Vault, error) {
	f, err := readFile(dir)
	if err != nil {
		return nil, err
	}
	if s.kind != f.header.Kind {
		return nil, fmt.Errorf("%w: this vault opens with a %s", ErrWrongSecret, f.header.Kind)
	}
	wrap, err := s.masterWrap(f.header)
	if err != nil {
		return nil, err
	}
	master, err := wrap.open(f.wrapped, f.aad)
	if err != nil {
		return nil, ErrWrongSecret
	}
	defer clear(master)
	v := &Vault{dir: dir, master: [keySize]byte(master)}
	if v.values, err = v.derive("parley/1 vault values"); err != nil {
		return nil, err
	}
	if v.wraps, err = v.derive("parley/1 vault wrap file"); err != nil {
		return nil, err
	}
	return v, nil
}

// Kind tells what the vault in dir opens with: Passphrase, KeyFile or Keyring.
// The place is the path of the key file, or the keyring's "service/user".
func Kind(dir string) (kind, place string, err error) {
	f, err := readFile(dir)
	return f.header.Kind, f.header.Place, err
}

// ChangeSecret makes s the one secret that opens the vault. Only the wrap is
// written anew, in one step, and the old one is overwritten. The caller holds
// the store, so that no other process changes the secret too.
func (v *Vault) ChangeSecret(s Secret) error { return v.write(s, replace) }

func (v *Vault) write(s Secret, put func(path string, b []byte) error) error {
	h := newHeader(s)
	wrap, err := s.masterWrap(h)
	if err != nil {
		return err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode vault header: %w", err)
	}
	f := vaultFile{header: h, aad: bytes.Join([][]byte{[]byte(fileHead), text, nil}, []byte("\n"))}
	if f.wrapped, err = wrap.seal(nil, v.master[:], f.aad); err != nil {
		return fmt.Errorf("wrap master key: %w", err)
	}
	if err := put(v.path(fileName), f.encode()); err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	return nil
}

// Burn destroys the keys of the vault in dir: everything that was sealed with
// them is unreadable at once and for ever, also in copies of the store, and for
// whoever has the secret. Only a copy of the vault file itself still opens. It
// takes no secret and leaves key files and the system's keyring alone: other
// vaults may share them. A node that runs in dir goes on with what it has in
// memory: stop it. ErrNoVault where there is nothing to burn; for how sure it
// is, see shred.
func Burn(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("burn %s: %w", dir, err)
	}
	burned := false
	var errs []error
	for _, e := range entries { // the vault file comes first
		if holdsKeys(e.Name()) {
			burned = true
			errs = append(errs, shred(filepath.Join(dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("burn %s: %w", dir, err)
	}
	if !burned {
		return fmt.Errorf("%w in %s", ErrNoVault, dir)
	}
	return nil
}

// holdsKeys knows the files of a vault by name, also what a crash left.
func holdsKeys(name string) bool {
	for _, file := range []string{fileName, wrapName} {
		if name == file || strings.HasPrefix(name, file+newSuffix) || name == file+oldSuffix {
			return true
		}
	}
	return false
}

func (v *Vault) path(name string) string { return filepath.Join(v.dir, name) }

func (v *Vault) derive(purpose string) (*xaes, error) {
	key, err := hkdf.Key(sha256.New, v.master[:], nil, purpose, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	defer clear(key)
	return newXAES((*[keySize]byte)(key))
}

// String and its relatives hide the keys from every way of printing.
func (v *Vault) String() string               { return "redacted" }
func (v *Vault) GoString() string             { return "vault.Vault{redacted}" }
func (v *Vault) Format(f fmt.State, _ rune)   { io.WriteString(f, "redacted") }
func (v *Vault) LogValue() slog.Value         { return slog.StringValue("redacted") }
func (v *Vault) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }
