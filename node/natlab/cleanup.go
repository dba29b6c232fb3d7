//go:build linux

package natlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// prefix begins the names of all namespaces and directories we make. The
	// process id of the owner follows, a count, and the name of the host.
	prefix = "parleylab-"

	netnsDir = "/var/run/netns" // where ip keeps its namespaces
	etcDir   = "/etc/netns"     // where ip netns exec looks for their files in /etc
)

// Require skips the test, saying why, if no lab can be built here. With
// PARLEY_NATLAB=require in the environment the test fails instead.
func Require(t testing.TB) {
	t.Helper()
	err := available()
	switch {
	case err == nil:
	case os.Getenv("PARLEY_NATLAB") == "require":
		t.Fatalf("natlab: required, but %v", err)
	default:
		t.Skipf("natlab: skipped: %v", err)
	}
}

var available = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	for _, tool := range []string{"ip", "nft", "conntrack"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed (Debian: apt-get install iproute2 nftables conntrack)", tool)
		}
	}
	// Root in a container may still not be allowed to.
	ns := fmt.Sprintf("%s%d-0-probe", prefix, os.Getpid())
	if err := command("", "ip", "netns", "add", ns); err != nil {
		return fmt.Errorf("no namespaces: %w", err)
	}
	return command("", "ip", "netns", "del", ns)
})

// remove ends everything that runs in a lab and deletes all that was made for
// it. It goes on after an error and may be called for a lab half built.
func remove(lab string) error {
	namespaces := namesIn(netnsDir, lab+"-")
	errs := []error{killAll(namespaces)}
	for _, ns := range namespaces {
		errs = append(errs, command("", "ip", "netns", "del", ns))
	}
	for _, ns := range namesIn(etcDir, lab+"-") {
		errs = append(errs, os.RemoveAll(filepath.Join(etcDir, ns)))
	}
	errs = append(errs, os.RemoveAll(filepath.Join(os.TempDir(), lab)))
	return errors.Join(errs...)
}

// namesIn returns the names in a directory that begin with start.
func namesIn(dir, start string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // not there: nothing was ever made in it
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), start) {
			names = append(names, entry.Name())
		}
	}
	return names
}

// killAll kills what runs in the namespaces and waits until it is gone, so
// that nothing writes to the hosts' directories any more.
func killAll(namespaces []string) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		var pids []int
		for _, ns := range namespaces {
			out, err := exec.Command("ip", "netns", "pids", ns).Output()
			if err != nil {
				return fmt.Errorf("list processes in %s: %w", ns, err)
			}
			for _, field := range strings.Fields(string(out)) {
				if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() {
					pids = append(pids, pid)
				}
			}
		}
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL) // fails if it has just ended
		}
	}
}

var sweepOnce = sync.OnceFunc(sweep)

// sweep removes the labs of processes that are gone. It runs before this
// process builds its first lab, so one that bears our process id is not ours
// either. Errors are left to the next sweep: another process may be at it.
func sweep() {
	for _, dir := range []string{netnsDir, etcDir, os.TempDir()} {
		for _, name := range namesIn(dir, prefix) {
			var pid, n int
			if _, err := fmt.Sscanf(name, prefix+"%d-%d", &pid, &n); err != nil {
				continue
			}
			if pid == os.Getpid() || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				remove(fmt.Sprintf("%s%d-%d", prefix, pid, n))
			}
		}
	}
}
