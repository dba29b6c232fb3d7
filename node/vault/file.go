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
