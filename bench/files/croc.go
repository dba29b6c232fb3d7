//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const crocVersion = "github.com/schollz/croc/v10@v10.2.7"

// buildCroc builds croc as its authors pinned it.
func buildCroc(ctx context.Context, path string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", crocVersion)
	cmd.Dir = os.TempDir() // not into our go.sum
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if parsed := json.Unmarshal(out, &module); err != nil || parsed != nil {
		return "", fmt.Errorf("download %s: %w: %s", crocVersion, cmp.Or(err, parsed), module.Error)
	}
	cmd = exec.CommandContext(ctx, "go", "build", "-C", module.Dir, "-o", path, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", crocVersion, err, bytes.TrimSpace(out))
	}
	return path, nil
}

// Ports of croc. Our network namespace has no others.
const (
	crocPort      = 9009 // and the four above: of the relay inside a sender
	crocRelayPort = 9109
	crocRelay     = "9109,9110,9111,9112,9113"
)

// croc is a croc binary and a relay of it that runs.
type croc struct {
	bin   string
	dir   string // its home, so that it finds no settings of the user
	relay *exec.Cmd
}

func startCroc(ctx context.Context, bin, dir string) (*croc, error) {
	c := &croc{bin: bin, dir: dir}
	if err := os.MkdirAll(c.into(), 0o700); err != nil {
		return nil, err
	}
	c.relay = c.command(context.WithoutCancel(ctx), "relay", "--ports", crocRelay)
	if err := c.relay.Start(); err != nil {
		return nil, fmt.Errorf("start croc's relay: %w", err)
	}
	if err := awaitPort(ctx, crocRelayPort); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *croc) stop() {
	c.relay.Process.Kill()
	c.relay.Wait()
}

func (c *croc) into() string { return filepath.Join(c.dir, "received") }

func (c *croc) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.bin, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "CROC_CONFIG_DIR="+c.dir, "CROC_SECRET=1234-loopback-bench-only")
	return cmd
}

func (c *croc) way(name string, relayed bool, flags ...string) way {
	return way{name: name, into: c.into(), send: func(ctx context.Context, path string) (cost, error) {
		return c.send(ctx, path, relayed, flags)
	}}
}

// crocJoins is how long a sender is given to enter the room at its relay, where croc itself
// sleeps half a second. It does not count.
const crocJoins = 1500 * time.Millisecond

func (c *croc) send(ctx context.Context, path string, relayed bool, flags []string) (total cost, err error) {
	port := crocPort
	args := append(append([]string(nil), flags...), "--ignore-stdin", "--local", "send", path)
	if relayed {
		port = crocRelayPort
		args = append(append([]string(nil), flags...), "--ignore-stdin", "--relay", fmt.Sprintf("127.0.0.1:%d", port), "send", "--no-local", path)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	relayBefore, err := cpuOf(c.relay.Process.Pid)
	if err != nil {
		return total, err
	}
	began := time.Now()
	sender := c.command(ctx, args...)
	said, err := sender.StderrPipe()
	if err != nil {
		return total, err
	}
	if err := sender.Start(); err != nil {
		return total, fmt.Errorf("start croc: %w", err)
	}
	defer func() { // where it has ended well this finds it so
		cancel()
		sender.Wait()
	}()
	bar, err := awaitCode(said)
	if err != nil {
		return total, err
	}
	total.Seconds = time.Since(began).Seconds()
	if err := awaitPort(ctx, port); err != nil {
		return total, err
	}
	time.Sleep(crocJoins)

	began = time.Now()
	receiver := c.command(ctx, "--yes", "--ip", fmt.Sprintf("127.0.0.1:%d", port), "--out", c.into())
	if out, err := receiver.CombinedOutput(); err != nil {
		cancel()
		return total, fmt.Errorf("croc receives: %w: %s; the sender: %s", err, lastLine(out), lastLine(<-bar))
	}
	total.Seconds += time.Since(began).Seconds()
	last := lastLine(<-bar)
	if err := sender.Wait(); err != nil {
		return total, fmt.Errorf("croc sends: %w: %s", err, last)
	}
	relayAfter, err := cpuOf(c.relay.Process.Pid)
	total.CPU = cpuUsed(sender) + cpuUsed(receiver)
	total.RelayCPU = relayAfter - relayBefore
	total.PeakMiB = max(peakUsed(sender), peakUsed(receiver))
	return total, err
}

// awaitCode waits until croc has read its files and says the code. What it says from then
// on, its progress bar, comes when it has ended.
func awaitCode(said io.Reader) (<-chan []byte, error) {
	r := bufio.NewReader(said)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("croc said no code: %w: %s", err, line)
		}
		if strings.HasPrefix(line[strings.LastIndexByte(line, '\r')+1:], "Code is:") {
			break
		}
	}
	rest := make(chan []byte, 1)
	go func() { // ends with the process
		bar, _ := io.ReadAll(r)
		rest <- bar
	}()
	return rest, nil
}

func awaitPort(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("croc does not listen at port %d: %w", port, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lastLine is why a program says it panicked, or else the last thing that it drew on a line.
func lastLine(out []byte) []byte {
	if at := bytes.LastIndex(out, []byte("panic: ")); at >= 0 {
		why, _, _ := bytes.Cut(out[at:], []byte("\n"))
		return why
	}
	out = bytes.TrimSpace(out)
	return bytes.TrimSpace(out[bytes.LastIndexAny(out, "\r\n")+1:])
}
