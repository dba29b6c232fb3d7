package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
	"github.com/parley-chat/parley/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m, openSealed, churning, rotating) }

// openSealed opens a data directory with its vault, key file and store, or
// makes one.
func openSealed(dir string) (store.KV, error) {
	data, key := filepath.Join(dir, "data"), filepath.Join(dir, "key")
	secret, err := FromKeyFile(key)
	if errors.Is(err, fs.ErrNotExist) {
		if secret, err = CreateKeyFile(key); err == nil {
			err = Create(data, secret)
		}
	}
	if err != nil {
		return nil, err
	}
	v, err := Open(data, secret)
	if err != nil {
		return nil, err
	}
	db, err := badger.Open(badger.Options{Dir: filepath.Join(data, "store"), Ballast: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return v.Seal(db, ephemeral)
}

// churning writes and rotates side by side until it is killed.
var churning = storetest.Crash{
	Name: "churning",
	Work: func(kv store.KV, ack func(string, ...any)) error {
		go func() {
			for {
				if _, err := kv.(*Store).Rotate(context.Background()); err != nil {
					panic(err)
				}
			}
		}()
		start, err := count(kv)
		for n := start; err == nil; n++ {
			key := fmt.Sprintf("S%06d", n)
			err = kv.Update(context.Background(), func(tx store.Tx) error { return tx.Set([]byte(key), []byte("state of "+key)) })
			ack("%s", key)
		}
		return err
	},
	Check: checkStates,
}

func count(kv store.KV) (n int, err error) {
	err = kv.View(context.Background(), func(tx store.Tx) error {
		for _, err := range tx.Scan([]byte("S"), []byte("T")) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// checkStates wants every acknowledged row, and a rotation that works and
// leaves nothing behind.
func checkStates(kv store.KV, acks []string) error {
	for range 2 {
		err := kv.View(context.Background(), func(tx store.Tx) error {
			for _, key := range acks {
				if value, err := tx.Get([]byte(key)); err != nil || string(value) != "state of "+key {
					return fmt.Errorf("row %s is %q: %w", key, value, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := kv.(*Store).Rotate(context.Background()); err != nil {
			return err
		}
	}
	if left, err := filepath.Glob(kv.(*Store).vault.path("*.*")); err != nil || len(left) > 0 {
		return fmt.Errorf("left behind: %v, %w", left, err)
	}
	return nil
}

// TestKillDuringRotation: SIGKILL at random moments.
func TestKillDuringRotation(t *testing.T) { churning.Run(t, openSealed, 6) }

// rotating rotates once, in one thread.
var rotating = storetest.Crash{
	Name: "rotating",
	Work: func(kv store.KV, ack func(string, ...any)) error {
		runtime.LockOSThread()
		if _, err := kv.(*Store).Rotate(context.Background()); err != nil {
			return err
		}
		ack("rotated")
		return errors.New("that is all")
	},
}

// TestKillAtEachStepOfRotation: SIGKILL before each system call on the wrap
// file and its directory.
func TestKillAtEachStepOfRotation(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	if testing.Short() {
		t.Skip("starts many processes")
	}
	dir := t.TempDir()
	kv, err := openSealed(dir)
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for i := range batchRows + 1 {
		states = append(states, fmt.Sprintf("S%06d", i))
	}
	err = kv.Update(t.Context(), func(tx store.Tx) error {
		for _, key := range states {
			if err := tx.Set([]byte(key), []byte("state of "+key)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, kv.Close()); err != nil {
		t.Fatal(err)
	}
	kills := 0
	for _, call := range []string{"openat", "write", "fsync", "linkat", "renameat,renameat2", "pwrite64", "unlinkat"} {
		for n := 1; killAt(t, dir, call, n); n++ {
			kills++
			kv, err := openSealed(dir)
			if err != nil {
				t.Fatalf("%s %d: %v", call, n, err)
			}
			if err := errors.Join(checkStates(kv, states), kv.Close()); err != nil {
				t.Fatalf("%s %d: %v", call, n, err)
			}
		}
	}
	if kills < 20 { // a rotation writes two files
		t.Errorf("only %d kills", kills)
	}
}

// killAt runs a child that rotates and is killed before the nth call of a kind.
// It returns false if there were not so many.
func killAt(t *testing.T, dir, call string, n int) bool {
	t.Helper()
	data := filepath.Join(dir, "data")
	wrap := filepath.Join(data, wrapName)
	cmd := rotating.Command(dir, "strace", "-f", "-qq", "-o", filepath.Join(t.TempDir(), "trace"),
		"-P", data, "-P", wrap, "-P", wrap+newSuffix, "-P", wrap+oldSuffix,
		"-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	said, err := cmd.Output()
	if err == nil || strings.Contains(stderr.String(), "panic:") {
		t.Fatalf("%s %d: the child says %q", call, n, stderr.String())
	}
	return string(said) != "rotated\n"
}
