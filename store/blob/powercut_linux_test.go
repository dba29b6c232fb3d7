package blob

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/parley-chat/parley/store"
)

const writerDir = "BLOBTEST_DIR" // set: this process writes bodies there until it is killed

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		fmt.Fprintln(os.Stderr, writeBodies(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// content is what a body holds: nothing else in the test looks like it.
func content(n uint16) []byte {
	b := make([]byte, 100_000)
	rand.NewChaCha8(nameOf(n)).Read(b)
	return b
}

func nameOf(n uint16) store.BlobName { return store.BlobName{byte(n), byte(n >> 8)} }

// writeBodies lets bodies grow in steps, and prints how far each is once that is durable.
func writeBodies(dir string) error {
	b, err := Open(dir)
	if err != nil {
		return err
	}
	for n := uint16(1); ; n++ {
		want := content(n)
		for have := int64(0); have < int64(len(want)); {
			g, err := b.Grow(nameOf(n), have)
			if err != nil {
				return err
			}
			if _, err := g.Write(want[have:min(have+30_000, int64(len(want)))]); err != nil {
				return err
			}
			if err := g.Sync(); err != nil {
				return err
			}
			have = g.Len()
			g.Close()
			fmt.Println(n, have)
		}
	}
}

// TestPowerCut: what was synced survives a power cut. The disk is a file in memory with a
// file system that writes back by itself only every five minutes; the cut is a copy of it
// at a moment when the writer is stopped.
func TestPowerCut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs the right to mount")
	}
	dir, err := os.MkdirTemp("/dev/shm", "powercut")
	if err != nil {
		t.Skipf("needs a disk in memory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	disk, cut := filepath.Join(dir, "disk"), filepath.Join(dir, "cut")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 256<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", disk)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), writerDir+"="+filepath.Join(mount(t, disk, "loop,commit=300,noauto_da_alloc"), "blobs"))
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	durable, lines := map[uint16]int64{}, bufio.NewScanner(stdout)
	for range 50 + rand.IntN(200) {
		if !lines.Scan() {
			t.Fatal("the writer ended")
		}
		var n uint16
		var have int64
		if _, err := fmt.Sscan(lines.Text(), &n, &have); err != nil {
			t.Fatal(err)
		}
		durable[n] = have
	}
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "--sparse=always", disk, cut)
	b := open(t, filepath.Join(mount(t, cut, "loop"), "blobs"))
	for n, have := range durable {
		f, err := b.Open(nameOf(n))
		if err != nil {
			t.Errorf("body %d of %d bytes: %v", n, have, err)
			continue
		}
		got := make([]byte, have)
		if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, content(n)[:have]) {
			t.Errorf("body %d is not what was synced, %d bytes: %v", n, have, err)
		}
		f.Close()
	}
}

func mount(t *testing.T, disk, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	run(t, "mount", "-o", options, disk, dir)
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	return dir
}

// run skips the test when the machine lacks the tool or the right to use it.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Skipf("%s: %v: %s", name, err, strings.TrimSpace(string(out)))
	}
}
