//go:build linux

package natlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// failing is the environment variable that makes TestFailing run.
const failing = "PARLEY_NATLAB_FAILING"

// TestFailing is run by the tests below, in a process of its own. It fails
// with processes running in the lab, one of which it has lost track of.
func TestFailing(t *testing.T) {
	if os.Getenv(failing) == "" {
		t.Skip("run by TestNothingIsLeft and TestRequire")
	}
	lab := New(t, Sites{"A": {Kind: Cone}}, Public(1))
	lab.Delay("A", time.Second, 0, 0)
	lab.Start(lab.Command(t.Context(), "A1", "sh", "-c", "echo last words; exec sleep 600")).WaitFor("words", 10*time.Second)
	lost := lab.Command(context.Background(), "R1", "sh", "-c", "trap '' TERM; touch here; sleep 600; sleep 600")
	if err := lost.Start(); err != nil {
		t.Fatal(err)
	}
	Until(t, 10*time.Second, "the lost process runs", func() bool {
		_, err := os.Stat(filepath.Join(lab.Dir("R1"), "here"))
		return err == nil
	})
	t.Fatal("on purpose")
}

// runFailing runs TestFailing in another process.
func runFailing(t *testing.T, env ...string) (cmd *exec.Cmd, output string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), self, "-test.run=^TestFailing$", "-test.v")
	cmd.Env = append(os.Environ(), failing+"=1")
	cmd.Env = append(cmd.Env, env...)
	out, _ := cmd.CombinedOutput()
	return cmd, string(out)
}

// A lab goes away with all that runs in it even if the test fails, and the
// next one takes away what a crashed process could not.
func TestNothingIsLeft(t *testing.T) {
	Require(t)
	t.Parallel()
	// No process has this id: Linux gives out ids up to 1<<22.
	crashed := fmt.Sprintf("%s%d-%d", prefix, 1<<22+1, os.Getpid())
	t.Cleanup(func() { remove(crashed) })
	ns := crashed + "-A1"
	for _, dir := range []string{filepath.Join(etcDir, ns), filepath.Join(os.TempDir(), crashed)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := command("", "ip", "netns", "add", ns); err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command("ip", "netns", "exec", ns, "sleep", "600")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		orphan.Wait()
		close(ended)
	}()

	cmd, output := runFailing(t)
	for _, want := range []string{"--- FAIL: TestFailing", "on purpose", "A1 sh -c echo last words", "\n        last words\n"} {
		if !strings.Contains(output, want) {
			t.Errorf("no %q in the output of the failing test:\n%s", want, output)
		}
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the process in the lab of the crashed process lives on")
		orphan.Process.Kill()
	}
	for _, dir := range []string{netnsDir, etcDir, os.TempDir()} {
		for _, lab := range []string{fmt.Sprintf("%s%d-", prefix, cmd.Process.Pid), crashed} {
			if left := namesIn(dir, lab); len(left) > 0 {
				t.Errorf("left in %s: %v", dir, left)
			}
		}
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	cmd, output := runFailing(t, "PATH=/nowhere", "PARLEY_NATLAB=")
	if !strings.Contains(output, "--- SKIP: TestFailing") || !strings.Contains(output, "natlab: skipped: ") {
		t.Errorf("without tools: want a skipped test that says why, got\n%s", output)
	}
	if !cmd.ProcessState.Success() {
		t.Errorf("without tools: %v", cmd.ProcessState)
	}
	cmd, output = runFailing(t, "PATH=/nowhere", "PARLEY_NATLAB=require")
	if !strings.Contains(output, "--- FAIL: TestFailing") || !strings.Contains(output, "natlab: required, but ") {
		t.Errorf("without tools, but required: want a failed test that says why, got\n%s", output)
	}
	if cmd.ProcessState.Success() {
		t.Error("without tools, but required: the process succeeded")
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	lab := New(t, Sites{"A": {Kind: Cone, Hosts: 2}}, Public(1))

	t.Run("each host has a directory and an environment of its own", func(t *testing.T) {
		for _, host := range lab.Hosts() {
			got := lab.Run(lab.Command(t.Context(), host, "sh", "-c", `pwd; echo $HOME; cd "$TMPDIR" && cd "$XDG_RUNTIME_DIR" && pwd`))
			dir := lab.Dir(host)
			if want := dir + "\n" + dir + "\n" + dir + "/run\n"; got != want {
				t.Errorf("%s: %q, want %q", host, got, want)
			}
			got = lab.Run(lab.Command(t.Context(), host, "env"))
			if want := strings.Join(lab.Env(host), "\n") + "\n"; got != want {
				t.Errorf("%s has environment\n%swant\n%s", host, got, want)
			}
		}
	})
	t.Run("public servers have names", func(t *testing.T) {
		got := lab.Run(prober(t.Context(), lab, "A1", "lookup", "r1.natlab.net"))
		if want := "[" + lab.IP("R1") + "]\n"; got != want {
			t.Errorf("r1.natlab.net is %q, want %q", got, want)
		}
	})
	t.Run("Stop asks, Kill does not", func(t *testing.T) {
		const script = `trap "echo bye; exit 7" TERM; echo ready; while :; do sleep 0.05; done`
		p := lab.Start(lab.Command(t.Context(), "A1", "sh", "-c", script))
		p.WaitFor("ready", 10*time.Second)
		if err := p.Stop(); err == nil || err.Error() != "exit status 7" {
			t.Errorf("Stop: %v, want exit status 7", err)
		}
		if got, want := p.Output(), "ready\nbye\n"; got != want {
			t.Errorf("output %q, want %q", got, want)
		}
		p = lab.Start(lab.Command(t.Context(), "A1", "sh", "-c", script))
		p.WaitFor("ready", 10*time.Second)
		if err := p.Kill(); err == nil || err.Error() != "signal: killed" {
			t.Errorf("Kill: %v, want signal: killed", err)
		}
		if got, want := p.Output(), "ready\n"; got != want {
			t.Errorf("output %q, want %q", got, want)
		}
	})
	t.Run("the end of the context asks, too", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := lab.Start(lab.Command(ctx, "A2", "sh", "-c", `trap "echo bye; exit" TERM; echo ready; while :; do sleep 0.05; done`))
		p.WaitFor("ready", 10*time.Second)
		cancel()
		p.Wait()
		if got, want := p.Output(), "ready\nbye\n"; got != want {
			t.Errorf("output %q, want %q", got, want)
		}
	})
}
