package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-chat/parley/node/api"
)

const (
	logName  = "node.log"
	maxLog   = 4 << 20 // bytes; a longer log is put aside when the node starts
	patience = time.Minute
)

// startNode starts `parley up --foreground` in the background and waits until
// it answers. Where another process was faster, that one is what we get. If it
// fails, what it said is our error, and its exit code is ours.
func (p *program) startNode(ctx context.Context, dir string, u unlock, flags ...string) (*api.Client, error) {
	log, err := openLog(filepath.Join(dir, logName))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("open the node's log: %w", err)
	}
	child, err := spawn(dir, log, u, flags)
	if err != nil {
		return nil, fmt.Errorf("start the node: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }() // ends with the node, or with us
	deadline := time.After(patience)
	for {
		select {
		case err := <-ended:
			if err != nil {
				return nil, p.startFailed(log, from, err)
			}
			return api.Dial(dir) // it found another node running
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), child.Process.Signal(os.Interrupt))
		case <-deadline:
			return nil, fail(exitTimeout, "the node has not started within %v", patience).hint("see %s", log.Name())
		case <-time.After(20 * time.Millisecond):
			client, err := answering(ctx, dir, child.Process.Pid)
			if client != nil || err != nil {
				return client, err
			}
		}
	}
}

// answering returns a client once the process answers in dir, and nil before.
// Another process that answers does not count: ours might follow it.
func answering(ctx context.Context, dir string, pid int) (*api.Client, error) {
	client, err := api.Dial(dir)
	if errors.Is(err, api.ErrNotRunning) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s, err := client.Status(ctx); err != nil || s.PID != pid {
		client.Close()
		return nil, nil
	}
	return client, nil
}

// spawn starts the node detached from this terminal. A passphrase goes through
// a pipe: it is never an argument, in the environment or in a file.
func spawn(dir string, log *os.File, u unlock, flags []string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := append([]string{"--dir=" + dir, "up", "--foreground"}, append(flags, u.flags...)...)
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	defer write.Close()
	if u.passphrase != nil {
		args = append(args, "--passphrase-file=/dev/fd/3")
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{read} // its descriptor 3
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := write.Write(u.passphrase); err != nil { // fits the pipe
		return nil, errors.Join(err, cmd.Process.Kill())
	}
	return cmd, nil
}

func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, fmt.Errorf("put the node's old log aside: %w", err)
		}
	}
	log, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the node's log: %w", err)
	}
	return log, nil
}

// startFailed repeats the last words of a node that has not started.
func (p *program) startFailed(log *os.File, from int64, err error) error {
	said, readErr := io.ReadAll(io.LimitReader(io.NewSectionReader(log, from, maxLog), maxLog))
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	f := fail(exitError, "the node ended at once: %v", err).hint("see %s", log.Name())
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		f.code = exit.ExitCode()
	}
	for line := range strings.Lines(string(said)) {
		line = strings.TrimSuffix(line, "\n")
		if text, ok := strings.CutPrefix(line, "parley: error: "); ok {
			f.text, f.hints = text, nil
		} else if text, ok := strings.CutPrefix(line, "hint: "); ok {
			f.hints = append(f.hints, text)
		}
	}
	return f
}
