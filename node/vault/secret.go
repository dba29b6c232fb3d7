package vault

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/zalando/go-keyring"
	"golang.org/x/crypto/argon2"

	"github.com/parley-chat/parley/store/disk"
)

// The kinds of secret that open a vault.
const (
	Passphrase = "passphrase"
	KeyFile    = "keyfile"
	Keyring    = "keyring"
)

var (
	ErrEmpty   = errors.New("empty passphrase")
	ErrKeyFile = errors.New("not a usable key file")
)

// Secret is what opens a vault. It never prints what it holds. Several vaults
// may share one.
type Secret struct {
	kind  string
	place string // key file: absolute path; keyring: "service/user"; not secret
	bytes []byte
}

// FromPassphrase makes a secret of what a person types. It keeps a copy. An
// empty one opens and makes no vault: ErrEmpty.
func FromPassphrase(passphrase []byte) Secret {
	return Secret{kind: Passphrase, bytes: bytes.Clone(passphrase)}
}

// keyFileHead begins a key file; 64 hexadecimal digits and a newline follow.
const keyFileHead = "parley key file 1\n"

// FromKeyFile reads a key file that CreateKeyFile made. It refuses a file that
// is not a regular one or that others than its owner may read.
func FromKeyFile(path string) (Secret, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Secret{}, fmt.Errorf("find key file: %w", err)
	}
	file, err := os.Open(path)
	if err != nil {
		return Secret{}, fmt.Errorf("open key file: %w", err)
	}
	defer file.Close()
	if err := ownerOnly(file); err != nil {
		return Secret{}, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	text, err := io.ReadAll(io.LimitReader(file, 1024))
	if err != nil {
		return Secret{}, fmt.Errorf("read key file: %w", err)
	}
	digits, ok := strings.CutPrefix(string(text), keyFileHead)
	key, err := hex.DecodeString(strings.TrimSuffix(digits, "\n"))
	if !ok || err != nil || len(key) != keySize {
		return Secret{}, fmt.Errorf("%w: %s does not hold a key", ErrKeyFile, path)
	}
	return Secret{kind: KeyFile, place: path, bytes: key}, nil
}

// CreateKeyFile writes a new random key to path, mode 0600, and fails if
// anything is there already.
func CreateKeyFile(path string) (Secret, error) {
	key := newKey()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Secret{}, fmt.Errorf("create key file: %w", err)
	}
	_, err = file.WriteString(keyFileHead + hex.EncodeToString(key[:]) + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return Secret{}, fmt.Errorf("write key file: %w", err)
	}
	if err := disk.SyncDir(filepath.Dir(path)); err != nil {
		return Secret{}, err
	}
	return FromKeyFile(path)
}

// FromKeyring fetches a secret that CreateKeyring stored in the operating
// system's keyring. It may make the system ask its user.
func FromKeyring(service, user string) (Secret, error) {
	text, err := keyring.Get(service, user)
	if err != nil {
		return Secret{}, fmt.Errorf("read the system's keyring: %w", err)
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != keySize {
		return Secret{}, fmt.Errorf("the keyring's entry %s/%s does not hold a key", service, user)
	}
	return Secret{kind: Keyring, place: service + "/" + user, bytes: key}, nil
}

// CreateKeyring stores a new random key in the operating system's keyring. An
// entry that is there already is kept and used.
func CreateKeyring(service, user string) (Secret, error) {
	_, err := keyring.Get(service, user)
	if errors.Is(err, keyring.ErrNotFound) {
		key := newKey()
		err = keyring.Set(service, user, hex.EncodeToString(key[:]))
	}
	if err != nil {
		return Secret{}, fmt.Errorf("write the system's keyring: %w", err)
	}
	return FromKeyring(service, user)
}

// masterWrap derives the key that wraps the master key.
func (s Secret) masterWrap(h header) (*xaes, error) {
	var key []byte
	switch s.kind {
	case Passphrase:
		if len(s.bytes) == 0 {
			return nil, ErrEmpty
		}
		key = argon2.IDKey(s.bytes, h.Salt, h.Time, h.MemoryKiB, h.Threads, keySize)
	case KeyFile, Keyring:
		var err error
		key, err = hkdf.Key(sha256.New, s.bytes, h.Salt, "parley/1 vault wrap key", keySize)
		if err != nil {
			return nil, fmt.Errorf("derive wrap key: %w", err)
		}
	default:
		return nil, errors.New("no secret given for the vault")
	}
	defer clear(key)
	return newXAES((*[keySize]byte)(key))
}

func newKey() (key [keySize]byte) {
	rand.Read(key[:])
	return key
}

// ownerOnly refuses a file that is not a regular one, or that its group or
// others have any right to.
func ownerOnly(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "use", Path: file.Name(), Err: errors.New("not a regular file")}
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("others may use %s (mode %04o): run chmod 600 on it", file.Name(), info.Mode().Perm())
	}
	return nil
}

// String and its relatives hide the secret from every way of printing.
func (s Secret) String() string               { return "redacted" }
func (s Secret) GoString() string             { return "vault.Secret{redacted}" }
func (s Secret) Format(f fmt.State, _ rune)   { io.WriteString(f, "redacted") }
func (s Secret) LogValue() slog.Value         { return slog.StringValue("redacted") }
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }
