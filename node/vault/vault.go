// Package vault keeps a node's keys and messages sealed at rest. A random
// master key, wrapped under a passphrase, a key file or the system's keyring,
// seals every value of the node's store with XAES-256-GCM.
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
)

var (
	ErrWrongSecret = errors.New("wrong passphrase or key")
	ErrNoVault     = errors.New("no vault")
	ErrExists      = errors.New("a vault is here already")
	ErrDamaged     = errors.New("the vault file is damaged")
	ErrExposed     = errors.New("not private")
)

// Vault is an open vault. It never prints what it holds.
type Vault struct {
	dir    string
	master [keySize]byte
	values *xaes // seals what a store holds
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
	err := v.write(s, os.Link)
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
	wrap, err := s.wrapKey(f.header)
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
	return v, nil
}

// Kind tells what the vault in dir opens with: Passphrase, KeyFile or Keyring.
// The place is the path of the key file, or the keyring's "service/user".
func Kind(dir string) (kind, place string, err error) {
	f, err := readFile(dir)
	return f.header.Kind, f.header.Place, err
}

// ChangeSecret makes s the one secret that opens the vault. Only the wrap is
// written anew, in one step.
func (v *Vault) ChangeSecret(s Secret) error { return v.write(s, os.Rename) }

func (v *Vault) write(s Secret, put func(from, to string) error) error {
	h := newHeader(s)
	wrap, err := s.wrapKey(h)
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
	return writeFile(v.dir, f, put)
}

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
