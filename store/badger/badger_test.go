package badger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
	"github.com/parley-chat/parley/store/storetest"
)

func open(dir string) (store.KV, error) {
	return badger.Open(badger.Options{Dir: dir, Ballast: -1, Log: slog.New(slog.DiscardHandler)})
}

func mustOpen(t testing.TB, dir string) store.KV {
	t.Helper()
	kv, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	return kv
}

func TestMain(m *testing.M) { storetest.Main(m, open, storetest.Pairs, failing, inspect) }

func TestKV(t *testing.T) {
	t.Parallel()
	storetest.RunKV(t, func(t *testing.T) store.KV { return mustOpen(t, t.TempDir()) })
}

// TestKill: what was acknowledged survives kill -9, and updates are atomic.
func TestKill(t *testing.T) { storetest.Pairs.Run(t, open, 15) }

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	value := bytes.Repeat([]byte("v"), 300<<10)
	for round := range 5 { // 18 MiB in all, more than a memtable
		kv := mustOpen(t, dir)
		for i := range 12 {
			err := kv.Update(t.Context(), func(tx store.Tx) error {
				return errors.Join(tx.Set(store.Key('r', uint64(round), uint64(i)), value), tx.Set(store.Key('d', uint64(i)), nil))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		err := kv.Update(t.Context(), func(tx store.Tx) error {
			n := 0
			for pair, err := range tx.Scan(store.Key('r'), store.PrefixEnd(store.Key('r'))) {
				if err != nil {
					return err
				}
				if !bytes.Equal(pair.Value, value) {
					t.Errorf("row %x has another value", pair.Key)
				}
				n++
			}
			if n != 12*(round+1) {
				t.Errorf("%d rows in round %d", n, round)
			}
			return tx.Delete(store.Key('d', uint64(round)))
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := kv.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOTK12_OneProcessHoldsTheStore, here as two openings.
func TestOTK12_OneProcessHoldsTheStore(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	first := mustOpen(t, dir)
	for _, path := range []string{dir, link} {
		_, err := open(path)
		if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			t.Errorf("second opening of %s: %v, want ErrLocked and the process", path, err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, link)
}

// TestFilesArePrivate whatever the umask is.
func TestFilesArePrivate(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "store")
	check := func(when string) {
		t.Helper()
		err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %s has mode %v", when, path, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	kv, err := badger.Open(badger.Options{Dir: dir, Ballast: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	check("open")
	if err := kv.Update(t.Context(), func(tx store.Tx) error { return tx.Set([]byte("a"), nil) }); err != nil {
		t.Fatal(err)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed")
}

// failing works until the disk refuses to sync.
var failing = storetest.Crash{
	Name: "failing",
	Work: func(kv store.KV, ack func(string, ...any)) error {
		ctx := context.Background()
		for n := range 3000 {
			id := fmt.Sprintf("%d-%d", os.Getpid(), n)
			write := func(tx store.Tx) error {
				return errors.Join(tx.Set([]byte("a"+id), []byte(id)), tx.Set([]byte("b"+id), []byte(id)))
			}
			err := kv.Update(ctx, write)
			if err == nil {
				ack("%s", id)
				continue
			}
			again := err
			for i := 0; i < 200 && errors.Is(again, store.ErrFailed); i++ {
				again = kv.Update(ctx, write)
			}
			read := kv.View(ctx, func(tx store.Tx) error { _, err := tx.Get([]byte("nothing")); return err })
			return fmt.Errorf("failed %v, stays so %v, still reads %v", errors.Is(err, store.ErrFailed),
				errors.Is(again, store.ErrFailed), errors.Is(read, store.ErrNotFound))
		}
		return errors.New("no sync ever failed")
	},
	Check: storetest.Pairs.Check,
}

func straced(t *testing.T, c storetest.Crash, dir string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	return c.Command(dir, append([]string{"strace", "-f", "-qq", "-o", filepath.Join(t.TempDir(), "trace")}, args...)...)
}

// TestSyncFails: an update whose sync failed is not acknowledged, and nothing
// is written after it, although the disk works again.
func TestSyncFails(t *testing.T) {
	for _, position := range []int{4, 9, 30} { // of each thread's syncs; Badger ignores errors of some
		dir := t.TempDir()
		cmd := straced(t, failing, dir, "-e", "trace=msync", "-e", fmt.Sprintf("inject=msync:error=EIO:when=%d..%d", position, position+50))
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err == nil {
			t.Fatal("the child ended well")
		}
		if want := "failed true, stays so true, still reads true"; !strings.Contains(stderr.String(), want) {
			t.Fatalf("position %d: the child says %q, want %q", position, stderr.String(), want)
		}
		if err := failing.Check(mustOpen(t, dir), strings.Fields(stdout.String())); err != nil {
			t.Errorf("position %d: %v", position, err)
		}
	}
}

// TestEachCommitIsSynced counts syncs from outside: one writer, so each
// acknowledgement needs one of its own.
func TestEachCommitIsSynced(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "calls")
	cmd := straced(t, failing, t.TempDir(), "-o", trace, "-e", "trace=msync", "-e", "inject=msync:error=EIO:when=100+")
	acks, err := cmd.Output()
	if err == nil {
		t.Fatal("the child ended well")
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	synced, acked := bytes.Count(calls, []byte("msync(")), bytes.Count(acks, []byte("\n"))
	if acked < 10 || synced < acked {
		t.Errorf("%d syncs for %d acknowledgements", synced, acked)
	}
}

// inspect opens a store that may be damaged and tells what is in it. In a
// child, because Badger may panic in a goroutine of its own.
var inspect = storetest.Crash{
	Name: "inspect",
	Work: func(kv store.KV, ack func(string, ...any)) error {
		rows := 0
		err := kv.View(context.Background(), func(tx store.Tx) error {
			for pair, err := range tx.Scan(nil, nil) {
				if err != nil {
					return err
				}
				if !bytes.HasPrefix(pair.Value, pair.Key) {
					return fmt.Errorf("row %s has another value", pair.Key)
				}
				rows++
			}
			return nil
		})
		ack("%d rows, %v", rows, err)
		return err
	},
}

// TestDamage breaks every kind of file in every way. The store may refuse to
// open or to read, but never returns another value and never lacks a row in
// silence.
func TestDamage(t *testing.T) {
	t.Parallel()
	good := t.TempDir()
	const rows = 3000
	fill(t, good, 0, rows/2)    // in a table after this
	fill(t, good, rows/2, rows) // and this in another
	unflushed := killed(t, good)
	for _, file := range []struct {
		from, pattern string
		want          int
	}{
		{good, "*.sst", rows}, {good, "MANIFEST", rows}, {good, "commits", rows}, {unflushed, "*.mem", rows + 200},
	} {
		for how, damage := range map[string]func(path string, used int) error{
			"flip": flip, "truncate": truncate, "zero": zeroPage, "remove": func(path string, _ int) error { return os.Remove(path) },
		} {
			outcomes := map[string]int{}
			for range 2 {
				outcomes[damageOnce(t, file.from, file.pattern, file.want, damage)]++
			}
			t.Logf("%s %s: %v", how, file.pattern, outcomes)
		}
	}
}

func flip(path string, used int) error {
	return overwrite(path, rand.IntN(used), func(b []byte) { b[0] ^= 1 << rand.IntN(8) })
}

func zeroPage(path string, used int) error {
	return overwrite(path, rand.IntN(used)&^4095, func(b []byte) { clear(b[:min(4096, len(b))]) })
}

func truncate(path string, used int) error { return os.Truncate(path, int64(rand.IntN(used))) }

func overwrite(path string, at int, change func([]byte)) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	change(data[at:])
	return os.WriteFile(path, data, 0o600)
}

func fill(t *testing.T, dir string, from, to int) {
	t.Helper()
	kv := mustOpen(t, dir)
	for n := from; n < to; n += 100 {
		err := kv.Update(t.Context(), func(tx store.Tx) error {
			for i := n; i < n+100; i++ {
				key := fmt.Appendf(nil, "row %06d", i)
				if err := tx.Set(key, append(key, bytes.Repeat([]byte{byte(i)}, 500)...)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
}

// killed returns a copy of the store with 200 more rows in the log of a
// process that did not close it.
func killed(t *testing.T, good string) string {
	t.Helper()
	dir, cut := t.TempDir(), t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
		t.Fatal(err)
	}
	kv := mustOpen(t, dir)
	for i := range 200 {
		err := kv.Update(t.Context(), func(tx store.Tx) error {
			key := fmt.Appendf(nil, "extra %06d", i)
			return tx.Set(key, append(key, make([]byte, 500)...))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(cut, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return cut
}

func damageOnce(t *testing.T, from, pattern string, want int, damage func(path string, used int) error) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no file %s: %v", pattern, err)
	}
	name := files[rand.IntN(len(files))]
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(data, "\x00")) // logs are longer than what is in them
	if err := damage(name, used); err != nil {
		t.Fatal(err)
	}
	cmd := inspect.Command(dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, _ := cmd.Output() // it always ends with an error
	switch {
	case strings.Contains(stderr.String(), store.ErrDamaged.Error()):
		return "refused"
	case string(stdout) == fmt.Sprintf("%d rows, <nil>\n", want):
		return "harmless"
	case strings.Contains(stderr.String(), "panic:"):
		return "died"
	}
	t.Errorf("%s of %d bytes: the child says %q and %q", filepath.Base(name), used, stdout, stderr.String())
	return "silent"
}
