package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The vault file has four lines of text:
//
//	parley vault 1
//	header, as JSON
//	base64 of the wrapped master key: nonce 24 ‖ ciphertext 32 ‖ tag 16
//	hexadecimal SHA-256 of the three lines above
//
// The first two lines are the additional data of the wrap. The sum covers
// nothing secret; it tells a damaged file from a wrong passphrase.
const (
	fileName    = "vault"
	fileHead    = "parley vault 1"
	fileLimit   = 8 << 10
	wrappedSize = nonceSize + keySize + tagSize
	saltSize    = 16
)

// Cost of a passphrase: Argon2id, RFC 9106 section 4, second choice.
const (
	argonMemoryKiB = 64 << 10
	argonTime      = 3
	argonThreads   = 1
)

// header says how the master key is wrapped.
type header struct {
	Kind      string `json:"kind"`
	Place     string `json:"place,omitempty"` // of the key file, or the keyring's entry
	Salt      []byte `json:"salt"`
	MemoryKiB uint32 `json:"memory_kib,omitempty"` // Argon2id; passphrases only, as the next two
	Time      uint32 `json:"time,omitempty"`
	Threads   uint8  `json:"threads,omitempty"`
}

func newHeader(s Secret) header {
	salt := newKey()
	h := header{Kind: s.kind, Place: s.place, Salt: salt[:saltSize]}
	if s.kind == Passphrase {
		h.MemoryKiB, h.Time, h.Threads = argonMemoryKiB, argonTime, argonThreads
	}
	return h
}

// check bounds what a header read from disk may make us do: no cheaper
// passphrase than we would write, and no absurd amount of work.
func (h header) check() error {
	if len(h.Salt) != saltSize {
		return fmt.Errorf("salt of %d bytes", len(h.Salt))
	}
	switch h.Kind {
	case KeyFile, Keyring:
		return nil
	case Passphrase:
		if h.MemoryKiB < argonMemoryKiB || h.MemoryKiB > 1<<20 ||
			h.Time < argonTime || h.Time > 16 || h.Threads < 1 || h.Threads > 8 {
			return fmt.Errorf("passphrase cost out of bounds: %d KiB, %d passes, %d threads", h.MemoryKiB, h.Time, h.Threads)
		}
		return nil
	}
	return fmt.Errorf("unknown kind %q", h.Kind)
}

// vaultFile is a vault file, parsed.
type vaultFile struct {
	header  header
	aad     []byte // its first two lines
	wrapped []byte
}

func (f vaultFile) encode() []byte {
	b := append(bytes.Clone(f.aad), base64.StdEncoding.EncodeToString(f.wrapped)...)
	b = append(b, '\n')
	sum := sha256.Sum256(b)
	b = append(b, hex.EncodeToString(sum[:])...)
	return append(b, '\n')
}

func parseFile(b []byte) (vaultFile, error) {
	lines := bytes.SplitAfter(b, []byte("\n"))
	if len(lines) != 5 || len(lines[4]) != 0 || string(lines[0]) != fileHead+"\n" {
		return vaultFile{}, fmt.Errorf("%w: not a vault of this version", ErrDamaged)
	}
	head := len(lines[0]) + len(lines[1])
	f := vaultFile{aad: bytes.Clone(b[:head])}
	sum := sha256.Sum256(b[:head+len(lines[2])])
	if string(lines[3]) != hex.EncodeToString(sum[:])+"\n" {
		return vaultFile{}, fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	if err := json.Unmarshal(lines[1], &f.header); err != nil {
		return vaultFile{}, fmt.Errorf("%w: header: %v", ErrDamaged, err)
	}
	if err := f.header.check(); err != nil {
		return vaultFile{}, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	var err error
	f.wrapped, err = base64.StdEncoding.Strict().DecodeString(string(bytes.TrimSuffix(lines[2], []byte("\n"))))
	if err != nil || len(f.wrapped) != wrappedSize {
		return vaultFile{}, fmt.Errorf("%w: wrapped key", ErrDamaged)
	}
	return f, nil
}

func readFile(dir string) (vaultFile, error) {
	if err := privateDir(dir); err != nil {
		return vaultFile{}, err
	}
	file, err := os.Open(filepath.Join(dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return vaultFile{}, fmt.Errorf("%w in %s", ErrNoVault, dir)
	}
	if err != nil {
		return vaultFile{}, fmt.Errorf("open vault: %w", err)
	}
	defer file.Close()
	if err := ownerOnly(file); err != nil {
		return vaultFile{}, fmt.Errorf("%w: %w", ErrExposed, err)
	}
	b, err := io.ReadAll(io.LimitReader(file, fileLimit+1))
	if err != nil {
		return vaultFile{}, fmt.Errorf("read vault: %w", err)
	}
	if len(b) > fileLimit {
		return vaultFile{}, fmt.Errorf("%w: longer than %d bytes", ErrDamaged, fileLimit)
	}
	return parseFile(b)
}

// writeFile puts a vault file in place: the whole of it or, after a crash,
// nothing. put is os.Link, which never replaces a vault, or os.Rename.
func writeFile(dir string, f vaultFile, put func(from, to string) error) error {
	temp, err := os.CreateTemp(dir, fileName+".new-") // mode 0600
	if err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	defer os.Remove(temp.Name()) // gone already after os.Rename
	_, err = temp.Write(f.encode())
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	if err := put(temp.Name(), filepath.Join(dir, fileName)); err != nil {
		return fmt.Errorf("put vault in place: %w", err)
	}
	return syncDir(dir)
}

// privateDir refuses a directory that others than its owner may look into.
func privateDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w in %s", ErrNoVault, dir)
	}
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%w: others may use %s (mode %04o): run chmod 700 on it", ErrExposed, dir, info.Mode().Perm())
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
