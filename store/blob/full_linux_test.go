package blob

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/parley-chat/parley/store"
)

// TestDiskFull: a disk that is full all the same says so, and what was there stays.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	b := open(t, filepath.Join(dir, "blobs"))
	grow(t, b, 0, "hello")
	g, err := b.Grow(name, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	n, err := g.Write(make([]byte, 8<<20))
	if !errors.Is(err, store.ErrFull) || g.Len() != 5+int64(n) {
		t.Fatalf("%d of 8 MiB, %v, %d bytes", n, err, g.Len())
	}
	grow(t, b, 5, " world")
	expect(t, b, "hello world")
}
