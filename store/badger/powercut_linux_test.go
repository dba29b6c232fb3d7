package badger_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/parley-chat/parley/store/storetest"
)

// TestPowerCut: what was acknowledged survives a power cut. The disk is a file
// in memory with a file system that writes back by itself only every five
// minutes; the cut is a copy of it at a moment when the writer is stopped.
func TestPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	if os.Getuid() != 0 {
		t.Skip("needs the right to mount")
	}
	for i := range 3 {
		t.Run(fmt.Sprint(i), cutOnce)
	}
}

func cutOnce(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "powercut")
	if err != nil {
		t.Skipf("needs a disk in memory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	disk, cut := filepath.Join(dir, "disk"), filepath.Join(dir, "cut")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 1<<30); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", disk)
	mounted := mount(t, disk, "loop,commit=300,noauto_da_alloc")

	child := storetest.Pairs.Command(filepath.Join(mounted, "store"))
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	lines := bufio.NewScanner(stdout)
	var acks []string
	for n := 1000 + rand.IntN(8000); len(acks) < n && lines.Scan(); {
		acks = append(acks, lines.Text())
	}
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "--sparse=always", disk, cut)

	kv := mustOpen(t, filepath.Join(mount(t, cut, "loop"), "store"))
	if err := storetest.Pairs.Check(kv, acks); err != nil {
		t.Errorf("after %d acknowledgements: %v", len(acks), err)
	}
	if err := kv.Close(); err != nil {
		t.Error(err)
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
