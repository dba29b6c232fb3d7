//go:build linux

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const sshPort = "2222"

// sshPair is what two people with accounts at each other's machines have: keys, and a server
// that is started for each connection.
type sshPair struct {
	dir    string
	server string // path of sshd
}

// findSSH tells where the server is, if scp, rsync and all that they need are here.
func findSSH() (server string, err error) {
	for _, tool := range []string{"scp", "rsync", "ssh-keygen"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", err
		}
	}
	for _, path := range []string{"sshd", "/usr/sbin/sshd"} { // it wants a full path, and is seldom in the user's
		if server, err = exec.LookPath(path); err == nil {
			break
		}
	}
	if err == nil && os.Getuid() != 0 {
		err = errors.New("the server of ssh needs root")
	}
	return server, err
}

func newSSHPair(ctx context.Context, server, dir string) (*sshPair, error) {
	s := &sshPair{dir: dir, server: server}
	for _, folder := range []string{s.into("scp"), s.into("rsync"), "/run/sshd"} { // the last is where the server locks itself in
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{"host", "user"} {
		cmd := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key))
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("make a key for ssh: %w: %s", err, out)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		return nil, err
	}
	known := "[127.0.0.1]:" + sshPort + " " + string(public)
	return s, os.WriteFile(filepath.Join(dir, "known"), []byte(known), 0o600)
}

func (s *sshPair) into(tool string) string { return filepath.Join(s.dir, tool) }

// ways are scp and rsync, as they come, with only the keys and the port said.
func (s *sshPair) ways() []way {
	options := []string{"-o", "Port=" + sshPort, "-o", "IdentityFile=" + filepath.Join(s.dir, "user"),
		"-o", "UserKnownHostsFile=" + filepath.Join(s.dir, "known"), "-o", "BatchMode=yes"}
	scp := append([]string{"scp", "-q", "-r"}, options...)
	rsync := []string{"rsync", "-r", "-e", strings.Join(append([]string{"ssh"}, options...), " ")}
	return []way{s.way("scp", scp), s.way("rsync", rsync)}
}

func (s *sshPair) way(name string, args []string) way {
	return way{name: name, into: s.into(name), send: func(ctx context.Context, path string) (cost, error) {
		return s.send(ctx, append(args, path, "127.0.0.1:"+s.into(name)))
	}}
}

// send runs a command that makes one connection, to a server that takes one and ends.
func (s *sshPair) send(ctx context.Context, args []string) (total cost, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := exec.CommandContext(ctx, s.server, "-d", "-e", "-f", "/dev/null", "-p", sshPort, "-h", filepath.Join(s.dir, "host"),
		"-o", "AuthorizedKeysFile="+filepath.Join(s.dir, "user.pub"), "-o", "StrictModes=no", "-o", "PidFile=none",
		"-o", "ListenAddress=127.0.0.1", "-o", "Subsystem=sftp internal-sftp")
	said, err := server.StderrPipe()
	if err != nil {
		return total, err
	}
	if err := server.Start(); err != nil {
		return total, fmt.Errorf("start the server of ssh: %w", err)
	}
	defer server.Wait() // again, where it has ended well
	if err := awaitListening(said); err != nil {
		return total, err
	}
	began := time.Now()
	client := exec.CommandContext(ctx, args[0], args[1:]...)
	out, err := client.CombinedOutput()
	total.Seconds = time.Since(began).Seconds()
	if err != nil {
		cancel()
		return total, fmt.Errorf("%s: %w: %s", args[0], err, lastLine(out))
	}
	server.Wait() // its end tells how its connection was cut, not whether the file came
	total.CPU = cpuUsed(server) + cpuUsed(client)
	total.PeakMiB = max(peakUsed(server), peakUsed(client))
	return total, nil
}

// awaitListening waits until the server says that it listens, and reads on until it ends.
func awaitListening(said io.Reader) error {
	last := ""
	for lines := bufio.NewScanner(said); lines.Scan(); last = lines.Text() {
		if strings.HasPrefix(lines.Text(), "Server listening") {
			go io.Copy(io.Discard, said)
			return nil
		}
	}
	return fmt.Errorf("the server of ssh ended: %s", cmp.Or(last, "it said nothing"))
}
