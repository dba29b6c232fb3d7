package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
	"github.com/parley-chat/parley/store/memory"
)

// recorder keeps every row that was ever written to a store: more than any
// file of the store can still hold.
type recorder struct {
	store.KV
	written []store.Pair
}

func (r *recorder) Update(ctx context.Context, fn func(store.Tx) error) error {
	return r.KV.Update(ctx, func(tx store.Tx) error { return fn(recorderTx{tx, r}) })
}

type recorderTx struct {
	store.Tx
	recorder *recorder
}

func (t recorderTx) Set(key, value []byte) error {
	t.recorder.written = append(t.recorder.written, store.Pair{Key: bytes.Clone(key), Value: bytes.Clone(value)})
	return t.Tx.Set(key, value)
}

// opens tells whether somebody with the secret and the whole data directory
// reads a sealed value.
func opens(t *testing.T, dir string, secret Secret, p store.Pair) bool {
	t.Helper()
	v := mustOpen(t, dir, secret)
	r, err := v.readRing()
	if err != nil {
		t.Fatal(err)
	}
	value, err := sealedTx{store: &Store{vault: v}, ring: r}.open(p.Key, p.Value)
	if err != nil && !errors.Is(err, store.ErrDamaged) {
		t.Fatal(err)
	}
	if err == nil && !bytes.HasPrefix(value, []byte("PLANTED")) {
		t.Fatalf("opened to %q", value)
	}
	return err == nil
}

// lastWritten tells whether a recorded row is the newest of its key.
func (r *recorder) lastWritten(i int) bool {
	return !slices.ContainsFunc(r.written[i+1:], func(p store.Pair) bool { return bytes.Equal(p.Key, r.written[i].Key) })
}

// After the rotation the old states of private keys and sessions, deleted or
// replaced, open with nothing that is left: although every one of them was
// recorded, and the thief has the disk and the secret.
func TestKLC04_DestroyedKeysOpenWithNothingThatIsLeft(t *testing.T) {
	dir, secret := newDir(t)
	spy := &recorder{KV: mustBadger(t, dir)}
	v := mustOpen(t, dir, secret)
	kv := mustSeal(t, v, spy)
	const replaced, deleted, kept, text = "PLANTED-session-state-replaced", "PLANTED-prekey-deleted", "PLANTED-session-state-in-force", "PLANTED-text-of-a-message"
	for i := range 20 {
		set(t, kv, fmt.Sprintf("S%d", i), replaced)
		set(t, kv, fmt.Sprintf("m%d", i), deleted)
		set(t, kv, fmt.Sprintf("h%d", i), text)
	}
	for i := range spy.written {
		if !opens(t, dir, secret, spy.written[i]) {
			t.Fatal("a row does not open before the rotation, so that it proves nothing after")
		}
	}
	wrapKeys := [][]byte{bytes.Clone(kv.ring.Load().current.key[:])}
	for i := range 20 {
		set(t, kv, fmt.Sprintf("S%d", i), kept)
		err := kv.Update(t.Context(), func(tx store.Tx) error {
			return errors.Join(tx.Delete(fmt.Appendf(nil, "m%d", i)), tx.Delete(fmt.Appendf(nil, "h%d", i)))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	mustRotate(t, kv)
	wrapKeys = append(wrapKeys, kv.ring.Load().current.key[:])

	shredded := 0
	for i, p := range spy.written {
		want := !ephemeral(p.Key) || p.Key[0] == 'S' && spy.lastWritten(i)
		if got := opens(t, dir, secret, p); got != want {
			t.Errorf("write %d, row %s: opens %v, want %v", i, p.Key, got, want)
		}
		if !want {
			shredded++
		}
	}
	if shredded != 60 { // 20 prekeys, 20 old states, 20 states under the old key
		t.Errorf("%d rows are shredded", shredded)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	needles := [][]byte{[]byte(replaced), []byte(deleted), []byte(kept), []byte(text), v.master[:], wrapKeys[0], wrapKeys[1]}
	searchDisk(t, dir, needles)
}

// searchDisk looks for secrets in every file below dir.
func searchDisk(t *testing.T, dir string, secrets [][]byte) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, secret := range secrets {
			for _, form := range encodings(secret) {
				if bytes.Contains(b, form) {
					t.Errorf("%s holds %q", path, form)
				}
			}
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("searched %d files, %v", files, err)
	}
}

// Who copies the whole disk, with the secret, gets the session states of that
// moment and none from before the last rotation.
func TestKLC06_CopyOfTheDiskHoldsNoEarlierState(t *testing.T) {
	dir, secret := newDir(t)
	spy := &recorder{KV: mustBadger(t, dir)}
	kv := mustSeal(t, mustOpen(t, dir, secret), spy)
	for day := range 3 {
		for step := range 5 {
			set(t, kv, "S", fmt.Sprintf("PLANTED state %d of day %d", step, day))
		}
		mustRotate(t, kv)
		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		os.Chmod(copied, 0o700)
		for _, name := range []string{fileName, wrapName} {
			os.Chmod(filepath.Join(copied, name), 0o600)
		}
		for i, p := range spy.written {
			if got, want := opens(t, copied, secret, p), i == len(spy.written)-1; got != want {
				t.Errorf("day %d, state %d: opens %v, want %v", day, i, got, want)
			}
		}
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
}

// The old wrap file is overwritten where it stands.
func TestKLC04_TheOldWrapFileIsOverwritten(t *testing.T) {
	dir, secret := newDir(t)
	v := mustOpen(t, dir, secret)
	kv := mustSeal(t, v, memory.New())
	spy := filepath.Join(t.TempDir(), "spy")
	if err := os.Link(v.path(wrapName), spy); err != nil {
		t.Fatal(err)
	}
	if err := kv.begin(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(spy); err != nil || len(b) == 0 || len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("the old wrap file holds %q, %v", b, err)
	}
}

// After Burn nobody opens the store, whatever its size: neither with the secret
// nor from a copy of the store's directory.
func TestKLC13_BurnedIsUnreadable(t *testing.T) {
	dir, secret := newDir(t)
	kv := mustSeal(t, mustOpen(t, dir, secret), &recorder{KV: mustBadger(t, dir)})
	set(t, kv, "S", "PLANTED state")
	set(t, kv, "h", "PLANTED text")
	written := kv.kv.(*recorder).written
	for _, p := range written {
		if !opens(t, dir, secret, p) {
			t.Fatal("does not open before")
		}
	}
	v := kv.vault
	if err := os.WriteFile(v.path(wrapName+oldSuffix), []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	spies := map[string]string{}
	for _, name := range []string{fileName, wrapName, wrapName + oldSuffix} {
		spies[name] = filepath.Join(t.TempDir(), "spy")
		if err := os.Link(v.path(name), spies[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := Burn(dir); err != nil {
		t.Fatal(err)
	}
	if names := list(t, dir); fmt.Sprint(names) != "[store]" {
		t.Errorf("left: %v", names)
	}
	for name, spy := range spies {
		if b, err := os.ReadFile(spy); err != nil || len(b) == 0 || len(bytes.Trim(b, "\x00")) > 0 {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
	if _, err := Open(dir, secret); !errors.Is(err, ErrNoVault) {
		t.Errorf("open: %v", err)
	}
	if _, err := os.Stat(secret.place); err != nil {
		t.Errorf("the key file, which others may share: %v", err)
	}
	if err := Create(dir, secret); err != nil { // a new vault with the same secret is no way in
		t.Fatal(err)
	}
	for _, p := range written {
		if opens(t, dir, secret, p) {
			t.Errorf("row %s opens", p.Key)
		}
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBurnNothing(t *testing.T) {
	dir := private(t)
	other := filepath.Join(dir, "vaulted")
	os.WriteFile(other, []byte("not ours"), 0o600)
	if err := Burn(dir); !errors.Is(err, ErrNoVault) {
		t.Errorf("a directory without a vault: %v", err)
	}
	if b, err := os.ReadFile(other); err != nil || string(b) != "not ours" {
		t.Errorf("burned something else: %q, %v", b, err)
	}
	if err := Burn(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func mustBadger(t *testing.T, dir string) store.KV {
	t.Helper()
	db, err := badger.Open(badger.Options{Dir: filepath.Join(dir, "store"), Ballast: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return db
}
