package transfer_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/store/disk"
)

// smallDisk is a disk of 80 MiB, and others is what somebody puts there so that less is free
// than is to stay free.
func smallDisk(t *testing.T) (dir string, others func() (remove func())) {
	if os.Getuid() != 0 {
		t.Skip("mounts a small disk")
	}
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=80m"); err != nil {
		t.Skipf("no disk to be had: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	return dir, func() (remove func()) {
		free, total := disk.Space(dir)
		name := write(t, filepath.Join(dir, "other"), make([]byte, free-disk.Spare(total)))
		return func() {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A disk that is full, or gets full, is said to be, before there is no room for others;
// what is here goes on when there is room.
func TestDiskFull(t *testing.T) {
	dir, others := smallDisk(t)
	o := prepare(t, write(t, filepath.Join(t.TempDir(), "f"), noise(1, 10<<20)))
	remove := others()
	p, err := transfer.OpenPart(dir, "tag", o.d, o.list)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(t.Context(), nil); !errors.Is(err, transfer.ErrDiskFull) {
		t.Fatalf("begun on a full disk: %v", err)
	}
	p.Close()
	remove()

	p = receive(t, dir, o)
	var once sync.Once
	g := source(o)
	g.edit = func(k int, sealed []byte) []byte {
		if k > 3 {
			once.Do(func() { remove = others() })
		}
		return sealed
	}
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{g}, transfer.Options{}); !errors.Is(err, transfer.ErrDiskFull) {
		t.Fatalf("went on on a full disk: %v", err)
	}
	here := p.Done()
	g.asked = func(int, int) error {
		t.Error("asked for what has no place")
		return transfer.ErrGone
	}
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{g}, transfer.Options{}); !errors.Is(err, transfer.ErrDiskFull) {
		t.Errorf("tried again on a full disk: %v", err)
	}
	p.Close()
	if free, total := disk.Space(dir); free < disk.Spare(total)-2<<20 { // two may have looked at once
		t.Errorf("%d bytes are left", free)
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("on the disk: %q", got)
	}
	remove()

	p = receive(t, dir, o)
	if p.Done() < here || here == 0 {
		t.Errorf("%d bytes, there were %d", p.Done(), here)
	}
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	finish(t, p, o)
}

// Nor do other ways to write much fill the disk.
func TestDiskFullAtTheEnds(t *testing.T) {
	dir, others := smallDisk(t)
	o := prepare(t, sample(t))
	p := receive(t, dir, o)
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	remove := others()
	if _, err := p.Finish(t.Context()); !errors.Is(err, transfer.ErrDiskFull) {
		t.Errorf("unpacked on a full disk: %v", err)
	}
	if _, _, err := transfer.Spool(t.Context(), bytes.NewReader(noise(1, 100)), filepath.Join(dir, "spool"), "f"); !errors.Is(err, transfer.ErrDiskFull) {
		t.Errorf("read a pipe on a full disk: %v", err)
	}
	if got := names(t, dir); len(got) != 2 || !slices.Contains(got, "other") {
		t.Errorf("on the disk: %q", got)
	}
	remove()
	finish(t, p, o)
}
