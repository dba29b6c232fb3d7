package badger

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/disk"
)

// TestRealDiskFull fills a real, small file system, which kills bare Badger.
func TestRealDiskFull(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 1 GiB of memory")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1g"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	take(t, filepath.Join(dir, "taken"), 560<<20)
	o := Options{Dir: filepath.Join(dir, "store"), Log: slog.New(slog.DiscardHandler)}
	db, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	acked := 0
	for {
		err := db.Update(t.Context(), func(tx store.Tx) error {
			return tx.Set(fmt.Appendf(nil, "%06d", acked), bytes.Repeat([]byte{byte(acked)}, 100<<10))
		})
		if errors.Is(err, store.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		acked++
	}
	if acked < 300 {
		t.Fatalf("full after %d of 100 KiB", acked)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	// Somebody else takes the rest; the ballast makes room to open.
	other := filepath.Join(dir, "other")
	free, _ := disk.Space(dir)
	take(t, other, free)
	db, err = Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	wantRows(t, db, acked)
	if err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Set([]byte("x"), nil) }); !errors.Is(err, store.ErrFull) {
		t.Errorf("write on a full disk: %v", err)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete([]byte("000000")) })
	if err != nil {
		t.Errorf("delete after there is space: %v", err)
	}
}

// A file system that cannot hold space is given something to hold.
func TestBallastIsWritten(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	const size = 4 << 20
	path := filepath.Join(dir, ballastName)
	if err := makeFile(path, size); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != size || info.Sys().(*syscall.Stat_t).Blocks*512 < size {
		t.Errorf("%+v, %v", info, err)
	}
}

func take(t *testing.T, path string, size int64) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := syscall.Fallocate(int(file.Fd()), 0, 0, size); err != nil {
		t.Fatal(err)
	}
}

func wantRows(t *testing.T, db *DB, want int) {
	t.Helper()
	n := 0
	err := db.View(t.Context(), func(tx store.Tx) error {
		for pair, err := range tx.Scan(nil, nil) {
			if err != nil {
				return err
			}
			if len(pair.Value) != 100<<10 || pair.Value[0] != byte(n) {
				return fmt.Errorf("row %s has another value", pair.Key)
			}
			n++
		}
		return nil
	})
	if err != nil || n != want {
		t.Fatalf("%d rows, %v, want %d", n, err, want)
	}
}
