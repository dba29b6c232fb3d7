//go:build linux

package e2e

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
)

// TestOTK12_StartKillSuspendCycles: however a node is started twice, killed and
// suspended, one process at a time holds the directory, and the rendezvous
// never sees the device cloned or set back. PARLEY_CYCLES sets how many times.
func TestOTK12_StartKillSuspendCycles(t *testing.T) {
	t.Parallel()
	cycles := often(t, "PARLEY_CYCLES", 10)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d cycles, seed %d", cycles, seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	g := newGroup(t)
	g.start()
	alice, bob := g.join("alice"), g.join("bob")
	g.must(drive.Befriend(g.ctx, alice, bob))
	for range cycles {
		pid := g.onlyProcess(alice)
		switch rnd.IntN(3) {
		case 0:
			syscall.Kill(pid, syscall.SIGKILL)
		case 1:
			syscall.Kill(pid, syscall.SIGSTOP)
			time.AfterFunc(300*time.Millisecond, func() { syscall.Kill(pid, syscall.SIGCONT) })
		case 2: // nothing: both starts find it running
		}
		g.startTwice(alice)
	}
	g.onlyProcess(alice)
	if _, err := alice.Run(g.ctx, "send", "bob", "still myself", "--wait"); err != nil {
		t.Error(err)
	}
	g.must(drive.Until(g.ctx, time.Minute, "the rendezvous and alice agree", func() bool {
		s, err := alice.Status(g.ctx)
		return err == nil && s.Rendezvous.Up && len(s.Problems) == 0 && s.Prekeys.Published > 0
	}))
}

// startTwice runs two starts at once; both must end well, whichever wins.
func (g *group) startTwice(p drive.Person) {
	g.t.Helper()
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := p.Run(g.ctx, "up"); err != nil {
				g.t.Error(err)
			}
		})
	}
	both.Wait()
}

// onlyProcess returns the one process that runs the person's node.
func (g *group) onlyProcess(p drive.Person) int {
	g.t.Helper()
	var pids []int
	g.must(drive.Until(g.ctx, 20*time.Second, "one process runs "+p.Name+"'s node", func() bool {
		pids = nodesIn(p.Dir)
		return len(pids) == 1
	}))
	s, err := p.Status(g.ctx)
	if err != nil || s.PID != pids[0] {
		g.t.Fatalf("process %d runs the node, %d answers: %v", pids[0], s.PID, err)
	}
	return pids[0]
}

// nodesIn lists the processes that run a node in dir.
func nodesIn(dir string) (pids []int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		args, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(args, []byte("--dir="+dir+"\x00up\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
