//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
)

// Where processes listen. By default that is every address, for TCP and for QUIC.
var (
	loopback  = []string{"--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"}
	relayOnly = []string{"--listen", "/p2p-circuit"} // nobody can dial the node but through its relay
)

// parleyGroup is a rendezvous and two pairs of nodes.
type parleyGroup struct {
	ctx    context.Context
	bin    string
	dir    string
	host   *drive.Host
	people []drive.Person

	direct, relayed way
}

// startGroup starts the processes. What it returns is to be stopped, also after an error.
func startGroup(ctx context.Context, bin, dir string) (*parleyGroup, error) {
	g := &parleyGroup{ctx: ctx, bin: bin, dir: dir}
	if _, err := os.Stat(bin); err != nil {
		return g, fmt.Errorf("the parley binary is missing (make build): %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return g, err
	}
	log, err := os.Create(filepath.Join(dir, "host.log"))
	if err != nil {
		return g, err
	}
	defer log.Close() // the rendezvous has its own descriptor of it
	g.host, err = drive.StartHost(ctx, bin, filepath.Join(dir, "host"), nil, log, "", loopback...)
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return g, fmt.Errorf("%w\n%s", err, said)
	}
	if g.direct, err = g.pair("parley direct", "alice", "bob", loopback, api.Direct); err != nil {
		return g, err
	}
	g.relayed, err = g.pair("parley relayed", "carol", "dave", relayOnly, api.Relayed)
	return g, err
}

func (g *parleyGroup) stop() {
	ctx := context.WithoutCancel(g.ctx)
	for _, p := range g.people {
		p.Run(ctx, "down") // fails where nothing runs, which is what is wanted
	}
	if g.host != nil {
		g.host.Stop()
	}
}

// pair makes two people contacts, of whom the second takes every
// file of the first unasked, and makes sure of the path that their messages take.
func (g *parleyGroup) pair(name, from, to string, listen []string, path api.Path) (way, error) {
	var people []drive.Person
	for _, name := range []string{from, to} {
		p := drive.Person{Name: name, Bin: g.bin, Dir: filepath.Join(g.dir, name), Key: filepath.Join(g.dir, name+".key")}
		g.people, people = append(g.people, p), append(people, p)
		if err := os.MkdirAll(g.downloads(p), 0o700); err != nil {
			return way{}, err
		}
		flags := append([]string{"--download-dir", g.downloads(p), "--auto-accept-bytes", "3G"}, listen...)
		if _, err := p.Join(g.ctx, g.host.Invite, flags...); err != nil {
			return way{}, err
		}
	}
	a, b := people[0], people[1]
	if err := drive.Befriend(g.ctx, a, b); err != nil {
		return way{}, err
	}
	if _, err := b.Run(g.ctx, "verify", a.Name, "--yes"); err != nil {
		return way{}, err
	}
	if err := g.awaitPath(a, b, path); err != nil {
		return way{}, err
	}
	send, err := g.between(a, b)
	return way{name: name, into: g.downloads(b), send: send}, err
}

func (g *parleyGroup) downloads(p drive.Person) string {
	return filepath.Join(g.dir, p.Name+"-downloads")
}

func (g *parleyGroup) awaitPath(a, b drive.Person, path api.Path) error {
	return drive.Until(g.ctx, time.Minute, fmt.Sprintf("%s reaches %s: %s", a.Name, b.Name, path), func() bool {
		if _, err := a.Run(g.ctx, "send", b.Name, "hello", "--wait"); err != nil {
			return false
		}
		c, err := a.Contact(g.ctx, b.Name)
		return err == nil && c.Path == path
	})
}

// node is a running node, and what it had resident before the first file.
type node struct {
	pid  int
	idle float64
}

func (g *parleyGroup) between(a, b drive.Person) (func(context.Context, string) (cost, error), error) {
	var ends []node
	for _, p := range []drive.Person{a, b} {
		s, err := p.Status(g.ctx)
		if err != nil {
			return nil, err
		}
		idle, err := memoryOf(s.PID, "VmRSS")
		if err != nil {
			return nil, err
		}
		ends = append(ends, node{s.PID, idle})
	}
	return func(ctx context.Context, path string) (c cost, err error) {
		before, err := g.used(ends)
		if err != nil {
			return c, err
		}
		for _, n := range ends {
			if err := resetPeak(n.pid); err != nil {
				return c, err
			}
		}
		began := time.Now()
		cli, err := sendFrom(ctx, a, b.Name, path)
		if err != nil {
			return c, err
		}
		c.Seconds = time.Since(began).Seconds()
		after, err := g.used(ends)
		if err != nil {
			return c, err
		}
		c.CPU, c.RelayCPU = cli+after.CPU-before.CPU, after.RelayCPU-before.RelayCPU
		for _, n := range ends {
			peak, err := memoryOf(n.pid, "VmHWM")
			if err != nil {
				return c, err
			}
			c.PeakMiB = max(c.PeakMiB, peak-n.idle)
		}
		return c, nil
	}, nil
}

// used is the CPU time of two nodes and of the rendezvous.
func (g *parleyGroup) used(ends []node) (c cost, err error) {
	for _, n := range ends {
		used, err := cpuOf(n.pid)
		if err != nil {
			return c, err
		}
		c.CPU += used
	}
	c.RelayCPU, err = cpuOf(g.host.PID())
	return c, err
}

// sendFrom runs parley send, which ends when the file is there, and returns its CPU
// seconds. drive allows a command a minute, which is not enough.
func sendFrom(ctx context.Context, from drive.Person, to, path string) (float64, error) {
	cmd := exec.CommandContext(ctx, from.Bin, "send", to, "--file", path)
	cmd.Env = append(slices.Clone(os.Environ()), "PARLEY_DIR="+from.Dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("parley send: %w: %s", err, bytes.TrimSpace(out))
	}
	return cpuUsed(cmd), nil
}
