//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
)

// TestIM09_FileSurvivesKills: a file arrives as it was sent although the sender, the
// receiver and the rendezvous are killed at random bytes of it. Nothing is under its name
// before that, and what was verified is not sent again. PARLEY_FILE_MIB and
// PARLEY_FILE_CUTS are how large it is, and how often something is killed.
func TestIM09_FileSurvivesKills(t *testing.T) {
	t.Parallel()
	size, cuts := int64(often(t, "PARLEY_FILE_MIB", 32))<<20, often(t, "PARLEY_FILE_CUTS", 4)
	g := newFileGroup(t, "--file-bytes", "1M") // the sender stores nothing, and is the only source
	(&fileCuts{group: g.group, from: g.alice, to: g.bob, size: size}).run(cuts)
}

// fileCuts is a file that is cut off again and again.
type fileCuts struct {
	*group
	from, to drive.Person
	size     int64

	sent    string // path
	got     string // where it is to be
	id      string
	began   time.Time
	read    int64    // bytes that the sender's processes have read
	written int64    // bytes that the receiver's processes have written
	last    api.File // as it was when something was killed
}

const (
	// Of what is on its way when a process is killed: 2 requests, of which each has a
	// piece that is being put together, and what lies in the buffers of a stream.
	lostByCut  = 8 << 20
	otherBytes = 1 << 20 // that a process reads, or writes, besides files
)

func (c *fileCuts) run(cuts int) {
	seed := uint64(time.Now().UnixNano())
	c.t.Logf("%d bytes, %d cuts, seed %d", c.size, cuts, seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c.sent = c.write("film.mkv", c.size)
	c.got = filepath.Join(c.inbox(c.to), "film.mkv")
	sum := c.sum(c.sent)
	stop := c.neverHalf(sum)
	c.id = c.offer(c.from, c.to, c.to.Name, c.sent)
	c.want(c.to, c.id)
	c.began = time.Now()
	victims := []func(){c.killSender, c.killReceiver, c.killHost}
	for i, at := range c.places(rnd, cuts) {
		if i%len(victims) == 0 {
			rnd.Shuffle(len(victims), func(a, b int) { victims[a], victims[b] = victims[b], victims[a] })
		}
		c.goneOn(at)
		victims[i%len(victims)]()
	}
	f := c.awaitHere(c.to, c.id)
	stop()
	if f.Path != c.got || c.sum(c.got) != sum {
		c.t.Errorf("%s is not what was sent", f.Path)
	}
	c.awaitAnswer(c.from, c.id, api.FileTaken)
	c.account(cuts)
}

// places are random bytes of the file, in order, with room to the end to see the last in
// time.
func (c *fileCuts) places(rnd *rand.Rand, n int) (list []int64) {
	for range n {
		list = append(list, rnd.Int64N(c.size*7/10))
	}
	slices.Sort(list)
	return list
}

// goneOn waits until the receiver has so many bytes. It never has less than before.
func (c *fileCuts) goneOn(at int64) {
	c.t.Helper()
	if c.last.Progress != nil {
		c.goesOn(c.to, c.id, c.last)
	}
	c.last = c.awaitPart(c.to, c.id, at)
	c.t.Logf("%d bytes are here after %v", c.last.Progress.Done, time.Since(c.began).Round(10*time.Millisecond))
}

func (c *fileCuts) killSender() {
	read, _ := c.killCounted(c.from)
	c.read += read
}

func (c *fileCuts) killReceiver() {
	_, written := c.killCounted(c.to)
	c.written += written
}

func (c *fileCuts) killHost() {
	c.t.Log("the rendezvous is killed")
	c.host.Kill()
	c.start()
}

// killCounted kills somebody's node, starts it again, and returns what the one that was
// killed has read and written.
func (c *fileCuts) killCounted(p drive.Person) (read, written int64) {
	c.t.Helper()
	c.t.Log(p.Name + " is killed")
	s, err := p.Status(c.ctx)
	c.must(err)
	c.must(syscall.Kill(s.PID, syscall.SIGSTOP)) // so that it does nothing that is not counted
	read, written = c.counted(s.PID)
	c.must(syscall.Kill(s.PID, syscall.SIGKILL))
	_, err = p.Run(c.ctx, "up")
	c.must(err)
	return read, written
}

// counted is what a process has read and written: files, and what it says by TCP, which
// here is little.
func (c *fileCuts) counted(pid int) (read, written int64) {
	c.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	c.must(err)
	_, err = fmt.Sscanf(string(text), "rchar: %d\nwchar: %d", &read, &written)
	c.must(err)
	return read, written
}

// account asserts that the receiver has written each piece once, and that the sender has
// read, besides the one time that made the list, what arrived and what was lost on the way.
func (c *fileCuts) account(cuts int) {
	c.t.Helper()
	running := func(p drive.Person) (read, written int64) {
		s, err := p.Status(c.ctx)
		c.must(err)
		return c.counted(s.PID)
	}
	read, _ := running(c.from)
	_, written := running(c.to)
	c.read, c.written = c.read+read, c.written+written
	lives := int64(cuts + 1)
	c.t.Logf("of %d bytes %d were written by the receiver, %d given by the sender", c.size, c.written, c.read-c.size)
	if most := c.size + lives*otherBytes; c.written > most {
		c.t.Errorf("the receiver has written %d bytes, which is more than %d", c.written, most)
	}
	if most := 2*c.size + int64(cuts)*lostByCut + lives*otherBytes; c.read > most {
		c.t.Errorf("the sender has read %d bytes, which is more than %d", c.read, most)
	}
}

// neverHalf looks all the time whether the file has its name, and that it is whole when
// it has.
func (c *fileCuts) neverHalf(sum string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			got, err := sumOf(c.got)
			switch {
			case err == nil && got != sum:
				c.t.Errorf("%s was there before it was whole", c.got)
				return
			case err == nil:
				return
			case !errors.Is(err, fs.ErrNotExist):
				c.t.Error(err)
				return
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// TestFileDiskFull: a disk that is full from the start, or in the middle of a file, is
// said, and with more room the file comes to its end.
func TestFileDiskFull(t *testing.T) {
	t.Parallel()
	g := newFileGroup(t)
	disk := filepath.Join(g.dir, "disk")
	g.must(os.Mkdir(disk, 0o700))
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=96m"); err != nil {
		t.Skip("a small disk of its own needs root: ", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	path := g.write("large.bin", someFile)
	id := g.offer(g.alice, g.bob, "bob", path)

	filler := filepath.Join(disk, "filler")
	g.must(os.WriteFile(filler, make([]byte, 90<<20), 0o600))
	g.exits(1, g.bob, "file", "accept", id, "--to", disk)
	t.Log(g.awaitState(g.bob, id, api.FileFailed).Problem)

	g.must(os.Remove(filler))
	_, err := g.bob.Run(g.ctx, "file", "resume", id)
	g.must(err)
	g.awaitPart(g.bob, id, partOfIt)
	g.fill(filler)
	g.awaitFile(g.bob, id, "it waits for room", func(f api.File) bool {
		return f.Progress != nil && strings.Contains(f.Progress.Waits, "not enough room")
	})
	if _, err := os.Lstat(filepath.Join(disk, "large.bin")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not whole has its name: %v", err)
	}

	g.must(os.Remove(filler))
	for _, verb := range []string{"pause", "resume"} { // not to wait until it is tried again
		_, err = g.bob.Run(g.ctx, "file", verb, id)
		g.must(err)
	}
	g.same(path, g.awaitHere(g.bob, id))
}

// fill writes until the disk is full.
func (g *group) fill(name string) {
	g.t.Helper()
	f, err := os.Create(name)
	g.must(err)
	defer f.Close()
	for step := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(step)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		g.t.Fatal(err)
	}
}
