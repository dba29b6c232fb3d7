package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDamagedFile(t *testing.T) {
	dir, s := newDir(t)
	path := filepath.Join(dir, fileName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x20
		os.WriteFile(path, bad, 0o600)
		if _, err := Open(dir, s); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for _, bad := range [][]byte{nil, good[:len(good)-1], append(bytes.Clone(good), '\n'), bytes.Repeat([]byte("x"), 1<<20)} {
		os.WriteFile(path, bad, 0o600)
		if _, err := Open(dir, s); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d bytes: %v", len(bad), err)
		}
	}
	os.WriteFile(path, good, 0o600)
	mustOpen(t, dir, s)
}

// reseal makes a vault file with another header and a right checksum, as an
// attacker could.
func reseal(header string) []byte {
	b := []byte(fileHead + "\n" + header + "\n" + strings.Repeat("A", 96) + "\n")
	sum := sha256.Sum256(b)
	return append(b, hex.EncodeToString(sum[:])+"\n"...)
}

func TestPassphraseCostIsBounded(t *testing.T) {
	const salt = `"salt":"AAAAAAAAAAAAAAAAAAAAAA=="`
	for header, ok := range map[string]bool{
		`{"kind":"passphrase",` + salt + `,"memory_kib":65536,"time":3,"threads":1}`:      true,
		`{"kind":"passphrase",` + salt + `,"memory_kib":1048576,"time":16,"threads":8}`:   true,
		`{"kind":"passphrase",` + salt + `,"memory_kib":8,"time":3,"threads":1}`:          false,
		`{"kind":"passphrase",` + salt + `,"memory_kib":65536,"time":1,"threads":1}`:      false,
		`{"kind":"passphrase",` + salt + `,"memory_kib":65536,"time":3,"threads":0}`:      false,
		`{"kind":"passphrase",` + salt + `,"memory_kib":4294967295,"time":3,"threads":1}`: false,
		`{"kind":"passphrase",` + salt + `,"memory_kib":65536,"time":99999,"threads":1}`:  false,
		`{"kind":"passphrase",` + salt + `,"memory_kib":65536,"time":3,"threads":255}`:    false,
		`{"kind":"passphrase","memory_kib":65536,"time":3,"threads":1}`:                   false,
		`{"kind":"keyfile",` + salt + `}`:                                                 true,
		`{"kind":"none",` + salt + `}`:                                                    false,
		`{}`:                                                                              false,
		`[]`:                                                                              false,
	} {
		_, err := parseFile(reseal(header))
		if ok && err != nil || !ok && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", header, err)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add(reseal(`{"kind":"keyfile","salt":"AAAAAAAAAAAAAAAAAAAAAA=="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := parseFile(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if !bytes.Equal(file.encode(), b) {
			t.Fatalf("%q is encoded as %q", b, file.encode())
		}
	})
}
