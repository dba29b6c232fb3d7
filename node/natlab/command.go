//go:build linux

package natlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is how long a program that was asked to end may take.
	patience = 5 * time.Second
	// shown is how much of a program's output, in bytes, a failed test logs.
	shown = 64 << 10

	runDir = "run" // below a host's directory: its XDG_RUNTIME_DIR
	tmpDir = "tmp" // its TMPDIR
)

// Command prepares a program to run on a host. The program has to be named by
// an absolute path or be in PATH. It runs in the host's directory and with an
// environment of its own (see Env). When ctx ends it gets SIGTERM, and SIGKILL
// five seconds later. The caller may change all of it before it starts.
func (l *Lab) Command(ctx context.Context, host, name string, args ...string) *exec.Cmd {
	l.t.Helper()
	args = append([]string{"netns", "exec", l.ns(host), name}, args...)
	cmd := exec.CommandContext(ctx, "ip", args...) // ip replaces itself by the program
	cmd.Dir = l.Dir(host)
	cmd.Env = l.Env(host)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	return cmd
}

// Env returns the whole environment of a host's programs: HOME, TMPDIR and
// XDG_RUNTIME_DIR in its own directory, so that nothing of the person who runs
// the test (their configuration, keyring or sockets) is found.
func (l *Lab) Env(host string) []string {
	l.t.Helper()
	dir := l.Dir(host)
	env := []string{
		"HOME=" + dir,
		"TMPDIR=" + filepath.Join(dir, tmpDir),
		"XDG_RUNTIME_DIR=" + filepath.Join(dir, runDir),
		"LANG=C.UTF-8",
	}
	for _, key := range []string{"PATH", "GOCOVERDIR", "GORACE", "GOTRACEBACK"} {
		if value, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+value)
		}
	}
	return env
}

// Run runs a command to its end and returns what it printed to standard
// output. The test ends if the command fails.
func (l *Lab) Run(cmd *exec.Cmd) string {
	l.t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("natlab: run %s: %v\n%s%s", l.label(cmd), err, out, &stderr)
	}
	return string(out)
}

// Process is a program that runs in the background.
type Process struct {
	t    testing.TB
	name string // for messages
	cmd  *exec.Cmd
	log  string        // path of the file with its output
	done chan struct{} // closed when it has ended
	err  error         // how it ended; read after done
}

// Start starts a command in the background. Both its outputs go to one file,
// which is logged if the test fails. It is stopped when the test ends.
func (l *Lab) Start(cmd *exec.Cmd) *Process {
	l.t.Helper()
	l.logs++
	p := &Process{
		t:    l.t,
		name: l.label(cmd),
		cmd:  cmd,
		log:  filepath.Join(l.dir, fmt.Sprintf("%d.log", l.logs)),
		done: make(chan struct{}),
	}
	file, err := os.Create(p.log)
	l.must(err)
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		l.t.Fatalf("natlab: start %s: %v", p.name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	l.t.Cleanup(func() {
		err := p.Stop()
		if l.t.Failed() {
			l.t.Logf("natlab: %s ended with %v; it printed:\n%s", p.name, err, p.tail())
		}
	})
	return p
}

// label names a command by its host, program and arguments.
func (l *Lab) label(cmd *exec.Cmd) string {
	return strings.TrimPrefix(strings.Join(cmd.Args, " "), "ip netns exec "+l.name+"-")
}

// Output returns what the program has printed so far.
func (p *Process) Output() string {
	out, err := os.ReadFile(p.log)
	if err != nil {
		return fmt.Sprintf("natlab: %v", err)
	}
	return string(out)
}

// tail returns the last part of the output.
func (p *Process) tail() string {
	out := p.Output()
	if len(out) <= shown {
		return out
	}
	return fmt.Sprintf("... %d bytes left out ...\n%s", len(out)-shown, out[len(out)-shown:])
}

// WaitFor waits until the program has printed text. The test ends if that
// takes longer than the timeout, or if the program ends without.
func (p *Process) WaitFor(text string, timeout time.Duration) {
	p.t.Helper()
	Until(p.t, timeout, p.name+" prints "+strconv.Quote(text), func() bool {
		ended := p.ended() // asked first: what it printed before counts
		if strings.Contains(p.Output(), text) {
			return true
		}
		if ended {
			p.t.Fatalf("natlab: %s ended (%v) without printing %q", p.name, p.err, text)
		}
		return false
	})
}

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait waits for the program to end and returns what exec.Cmd.Wait does.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Stop asks the program to end (SIGTERM) and waits for it. After five seconds
// it is killed, and Stop returns an error that says so.
func (p *Process) Stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended, which is fine
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		return errors.Join(errors.New("killed: it did not end when asked to"), p.Kill())
	}
}

// Kill ends the program as a crash does (SIGKILL) and waits for it.
func (p *Process) Kill() error {
	p.cmd.Process.Kill()
	return p.Wait()
}

// Until polls cond until it is true, and ends the test if it is not within the
// timeout. what is the thing waited for, in words: "bob has the message".
func Until(t testing.TB, timeout time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("natlab: waited %v in vain: %s", timeout, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
