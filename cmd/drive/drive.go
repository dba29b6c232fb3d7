// Package drive runs the parley binary as people would: real processes, real
// directories, the command line and its --json output. The demo, the end-to-end
// tests and bench/files use it; it must not import anything of the node but the
// types of its API.
package drive

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/parley-chat/parley/node/api"
)

// Person is somebody with a laptop: a binary and a data directory.
type Person struct {
	Name string
	Bin  string   // the parley binary
	Dir  string   // its data directory
	In   []string // what the command runs inside of, such as ip netns exec NAME; may be empty
	Key  string   // the key file that stands in for a passphrase

	Stdin io.Reader // of its commands; nil: nothing
}

// Error is a command that failed.
type Error struct {
	Args   []string
	Code   int // exit status, -1 when killed
	Stderr string
}

func (e *Error) Error() string {
	return fmt.Sprintf("parley %s: exit status %d: %s", strings.Join(e.Args, " "), e.Code, strings.TrimSpace(e.Stderr))
}

func command(ctx context.Context, in []string, bin string, args ...string) *exec.Cmd {
	argv := append(append(append([]string(nil), in...), bin), args...)
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

// Run runs one command to its end, at most a minute, and returns what it printed.
func (p Person) Run(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := command(ctx, p.In, p.Bin, args...)
	cmd.Env = append(os.Environ(), "PARLEY_DIR="+p.Dir)
	cmd.Stdin = p.Stdin
	cmd.WaitDelay = time.Second // the node it may start in the background keeps no pipe of ours
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out, &Error{args, exit.ExitCode(), stderr.String()}
	}
	return out, fmt.Errorf("parley %s: %w: %s", strings.Join(args, " "), err, stderr.String())
}

// JSON runs a command with --json and reads its answer into v.
func (p Person) JSON(ctx context.Context, v any, args ...string) error {
	out, err := p.Run(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("read the answer of parley %s: %w: %s", args[0], err, out)
	}
	return nil
}

// Join registers and starts the person's node.
func (p Person) Join(ctx context.Context, invite string, flags ...string) ([]byte, error) {
	return p.Run(ctx, append([]string{"join", invite, "--name", p.Name, "--key-file", p.Key}, flags...)...)
}

// History returns the whole conversation, without marking it read.
func (p Person) History(ctx context.Context, with string) ([]api.Message, error) {
	var answer struct{ Messages []api.Message }
	err := p.JSON(ctx, &answer, "history", with, "-n", "1000000", "--peek")
	return answer.Messages, err
}

// Contact returns what the person's node knows of another.
func (p Person) Contact(ctx context.Context, name string) (api.Contact, error) {
	var answer struct{ Contacts []api.Contact }
	if err := p.JSON(ctx, &answer, "contacts"); err != nil {
		return api.Contact{}, err
	}
	for _, c := range answer.Contacts {
		if c.Name == name {
			return c, nil
		}
	}
	return api.Contact{}, fmt.Errorf("%s has no contact %s", p.Name, name)
}

// Status returns what parley status says.
func (p Person) Status(ctx context.Context) (s api.Status, err error) {
	err = p.JSON(ctx, &s, "status")
	return s, err
}

// Befriend makes two people contacts of each other.
func Befriend(ctx context.Context, a, b Person) error {
	if _, err := a.Run(ctx, "add", b.Name); err != nil {
		return err
	}
	if err := b.awaitRelation(ctx, a.Name, api.Incoming); err != nil {
		return err
	}
	if _, err := b.Run(ctx, "accept", a.Name); err != nil {
		return err
	}
	return a.awaitRelation(ctx, b.Name, api.Accepted)
}

func (p Person) awaitRelation(ctx context.Context, name, relation string) error {
	return Until(ctx, time.Minute, fmt.Sprintf("%s is %s to %s", name, relation, p.Name), func() bool {
		c, err := p.Contact(ctx, name)
		return err == nil && c.Relation == relation
	})
}

// Until polls, with a deadline: what real processes do has no other signal.
func Until(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v until %s", limit, what)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// Host is a running rendezvous.
type Host struct {
	Invite string
	cmd    *exec.Cmd
	done   chan struct{} // closed when its output ended
}

var inviteLink = regexp.MustCompile(`parley://join#[A-Za-z0-9_-]+`)

// StartHost runs parley host and waits for the invite that it prints. The
// first start of a directory prints one; for a later start pass the old one.
func StartHost(ctx context.Context, bin, dir string, in []string, stderr io.Writer, invite string, flags ...string) (*Host, error) {
	h := &Host{Invite: invite, done: make(chan struct{})}
	h.cmd = command(context.WithoutCancel(ctx), in, bin, append([]string{"host", "--dir", dir}, flags...)...)
	h.cmd.Stderr = stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a ^C at the terminal is the caller's to handle
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the rendezvous: %w", err)
	}
	found := make(chan string, 1)
	go func() {
		defer close(h.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if link := inviteLink.FindString(lines.Text()); link != "" {
				select {
				case found <- link:
				default:
				}
			}
		}
	}()
	if invite != "" {
		return h, nil
	}
	select {
	case h.Invite = <-found:
		return h, nil
	case <-h.done:
		err = errors.New("it ended")
	case <-time.After(30 * time.Second):
		err = errors.New("30 s passed")
	case <-ctx.Done():
		err = ctx.Err()
	}
	h.Kill()
	return nil, fmt.Errorf("the rendezvous printed no invite: %w", err)
}

// PID is the rendezvous' process.
func (h *Host) PID() int { return h.cmd.Process.Pid }

// Stop ends the rendezvous gracefully.
func (h *Host) Stop() error { return h.end(syscall.SIGTERM) }

// Kill ends the rendezvous at once.
func (h *Host) Kill() { h.end(syscall.SIGKILL) }

// Freeze stops the rendezvous without ending it: it answers nobody until Thaw.
func (h *Host) Freeze() error { return h.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets it go on.
func (h *Host) Thaw() error { return h.cmd.Process.Signal(syscall.SIGCONT) }

func (h *Host) end(sig syscall.Signal) error {
	if err := h.cmd.Process.Signal(sig); err != nil {
		return err
	}
	<-h.done
	return h.cmd.Wait()
}
