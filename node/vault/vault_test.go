package vault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"github.com/parley-chat/parley/store/memory"
)

var passphrase = FromPassphrase([]byte("correct horse battery"))

// newDir returns a private directory with a vault that keyFile opens.
func newDir(t *testing.T) (dir string, s Secret) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	s, err := CreateKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Create(dir, s); err != nil {
		t.Fatal(err)
	}
	return dir, s
}

func mustOpen(t *testing.T, dir string, s Secret) *Vault {
	t.Helper()
	v, err := Open(dir, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPassphrase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := Create(dir, passphrase); err != nil {
		t.Fatal(err)
	}
	before := readAll(t, dir)
	first := mustOpen(t, dir, passphrase)
	if again := mustOpen(t, dir, FromPassphrase([]byte("correct horse battery"))); again.master != first.master {
		t.Error("the same passphrase gave another master key")
	}
	if _, err := Open(dir, FromPassphrase([]byte("correct horse"))); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, err := Open(dir, FromPassphrase(nil)); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty passphrase: %v", err)
	}
	if err := Create(dir, passphrase); !errors.Is(err, ErrExists) {
		t.Errorf("second Create: %v", err)
	}
	if after := readAll(t, dir); !bytes.Equal(before, after) {
		t.Error("something changed in the directory")
	}
}

func TestIM02_KeyFileMode(t *testing.T) {
	dir, s := newDir(t)
	for _, path := range []string{s.place, filepath.Join(dir, fileName)} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v, %v", info.Mode(), err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o610, 0o644} {
		if err := os.Chmod(s.place, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := FromKeyFile(s.place); !errors.Is(err, ErrKeyFile) {
			t.Errorf("key file of mode %04o: %v", mode, err)
		}
	}
}

func TestIM02_ExposedDirectoryAndVaultAreRefused(t *testing.T) {
	dir, s := newDir(t)
	os.Chmod(dir, 0o750)
	if _, err := Open(dir, s); !errors.Is(err, ErrExposed) {
		t.Errorf("directory of mode 0750: %v", err)
	}
	os.Chmod(dir, 0o700)
	os.Chmod(filepath.Join(dir, fileName), 0o644)
	if _, err := Open(dir, s); !errors.Is(err, ErrExposed) {
		t.Errorf("vault of mode 0644: %v", err)
	}
	os.Chmod(filepath.Join(dir, fileName), 0o600)
	mustOpen(t, dir, s)
}

func TestKeyFileOfSomethingElse(t *testing.T) {
	dir := t.TempDir()
	good := keyFileHead + strings.Repeat("ab", keySize) + "\n"
	for name, text := range map[string]string{
		"empty": "", "no head": strings.Repeat("ab", keySize), "short": good[:len(good)-3],
		"long": good + "ab\n", "not hex": strings.Replace(good, "ab", "xy", 1), "ssh key": "-----BEGIN OPENSSH PRIVATE KEY-----\n",
	} {
		path := filepath.Join(dir, name)
		os.WriteFile(path, []byte(text), 0o600)
		if _, err := FromKeyFile(path); !errors.Is(err, ErrKeyFile) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := CreateKeyFile(path); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: created over it: %v", name, err)
		}
	}
	if _, err := FromKeyFile(dir); err == nil {
		t.Error("a directory served as key file")
	}
	os.WriteFile(filepath.Join(dir, "good"), []byte(good), 0o600)
	if _, err := FromKeyFile(filepath.Join(dir, "good")); err != nil {
		t.Errorf("good key file: %v", err)
	}
}

func TestKeyring(t *testing.T) {
	keyring.MockInit()
	if _, err := FromKeyring("parley", "alice"); err == nil {
		t.Error("found an entry in an empty keyring")
	}
	s, err := CreateKeyring("parley", "alice")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := Create(dir, s); err != nil {
		t.Fatal(err)
	}
	again, err := CreateKeyring("parley", "alice") // keeps what is there
	if err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir, again)
	if kind, place, err := Kind(dir); kind != Keyring || place != "parley/alice" || err != nil {
		t.Errorf("kind %q, place %q, %v", kind, place, err)
	}
}

func TestKLC11_ChangeSecretRewritesOnlyTheWrap(t *testing.T) {
	dir, old := newDir(t)
	raw := memory.New()
	v := mustOpen(t, dir, old)
	kv := mustSeal(t, v, raw)
	set(t, kv, "Session", "state")
	set(t, kv, "text", "hello")
	before, _, err := rows(t, raw)
	if err != nil {
		t.Fatal(err)
	}
	wrapBefore, err := os.ReadFile(v.path(wrapName))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.ChangeSecret(passphrase); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, old); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("the old key file: %v", err)
	}
	got, _, err := rows(t, mustSeal(t, mustOpen(t, dir, passphrase), raw))
	if err != nil || fmt.Sprint(got) != "[Session=state text=hello]" {
		t.Errorf("sealed before the change: %q, %v", got, err)
	}
	if after, _, err := rows(t, raw); err != nil || !slices.Equal(after, before) {
		t.Errorf("the store has changed, %v", err)
	}
	if after, err := os.ReadFile(v.path(wrapName)); err != nil || !bytes.Equal(after, wrapBefore) {
		t.Errorf("the wrap file has changed, %v", err)
	}
	if kind, place, err := Kind(dir); kind != Passphrase || place != "" || err != nil {
		t.Errorf("kind %q, place %q, %v", kind, place, err)
	}
	if names := list(t, dir); fmt.Sprint(names) != "[vault wrap]" {
		t.Errorf("files %v", names)
	}
}

// The old wrap is overwritten where it stands, not only unlinked: another name
// of the same file shows zeros.
func TestKLC11_TheOldWrapIsOverwritten(t *testing.T) {
	dir, old := newDir(t)
	v := mustOpen(t, dir, old)
	spy := filepath.Join(t.TempDir(), "spy")
	if err := os.Link(v.path(fileName), spy); err != nil {
		t.Fatal(err)
	}
	if err := v.ChangeSecret(passphrase); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(spy); err != nil || len(b) == 0 || len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("the old vault file holds %q, %v", b, err)
	}
}

func TestWrongKeyFile(t *testing.T) {
	dir, _ := newDir(t)
	_, other := newDir(t)
	if _, err := Open(dir, other); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("other key file: %v", err)
	}
	if _, err := Open(dir, Secret{}); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("no secret: %v", err)
	}
	if err := Create(filepath.Join(t.TempDir(), "new"), Secret{}); err == nil {
		t.Error("created a vault without a secret")
	}
}

func TestNoVault(t *testing.T) {
	for _, dir := range []string{private(t), filepath.Join(t.TempDir(), "missing")} {
		if _, err := Open(dir, passphrase); !errors.Is(err, ErrNoVault) {
			t.Errorf("open %s: %v", dir, err)
		}
		if _, _, err := Kind(dir); !errors.Is(err, ErrNoVault) {
			t.Errorf("kind of %s: %v", dir, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	dir, s := newDir(t)
	v := mustOpen(t, dir, s)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("opened", "secret", passphrase, "vault", v)
	text, err := json.Marshal([]any{passphrase, v})
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(text) + passphrase.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		all += fmt.Sprintf(verb+verb, passphrase, v)
	}
	for _, leak := range []string{"horse", fmt.Sprintf("%x", "horse"), fmt.Sprint([]byte("horse"))[1:10], fmt.Sprintf("%x", v.master[:4])} {
		if strings.Contains(all, leak) {
			t.Errorf("%q shows in %s", leak, all)
		}
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// private returns an empty directory of mode 0700.
func private(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// readAll returns all files of dir, names and contents.
func readAll(t *testing.T, dir string) (all []byte) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, f.Name()...), b...)
	}
	return all
}
