//go:build linux

// Command files measures how Parley moves files, beside croc and plain TCP.
// `make bench-files` runs it.
//
// What is sent is one file of bytes that do not compress, and a folder of small ones.
// It goes from disk to disk on this machine: between two real nodes that reach each other
// directly, and between two that have only the relay of a real rendezvous; between two
// croc, directly and through a relay of croc's; by scp and rsync over ssh, with a server that
// takes one connection, where root has them; and over a TCP connection, as a tar stream
// where it is a folder, with nothing that protects it. The ways take turns, A B C A B C,
// and what is said of them are medians with the least and the most, and ratios of runs of
// the same round. Every copy is compared with what was sent.
//
// The clock of Parley runs from the start of `parley send` to its end, when the sender
// knows that it is all there: read, sealed, sent, verified, synced to disk. That of croc
// runs until it shows its code, and again from the start of the receiver to its end; what
// a person needs for the code does not count. Plain TCP syncs at the end too, croc does
// not. The CPU is that of both ends together, and beside it that of the relay. The memory
// is the most that one end had resident: over what it had before the first file in a node,
// all in croc, which has no life before.
//
// Everything runs in a network namespace that has loopback and nothing else, so that no
// packet leaves the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

type options struct {
	parley string
	croc   string
	sshd   string
	dir    string
	json   string
	mib    int
	count  int
	rounds int
	limit  time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.parley, "parley", "bin/parley", "the parley binary")
	flag.StringVar(&o.croc, "croc", "", "the croc binary; empty: it is built; none: without it")
	flag.StringVar(&o.sshd, "sshd", "", "the server for scp and rsync; empty: it is looked for; none: without them")
	flag.StringVar(&o.dir, "dir", "", "the folder to work in, removed at the end; empty: a new one for temporary files")
	flag.StringVar(&o.json, "json", "bin/bench-files.json", "where to write all figures")
	flag.IntVar(&o.mib, "mib", 1024, "size of the large file in MiB, at most 3072")
	flag.IntVar(&o.count, "count", 10_000, "number of small files")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each way is measured")
	flag.DurationVar(&o.limit, "limit", 5*time.Minute, "how long one transfer may take")
	flag.Parse()
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-files:", err)
		os.Exit(1)
	}
}

func (o options) run() (err error) {
	if o.mib < 1 || o.mib > 3072 || o.count < 1 || o.rounds < 1 {
		return errors.New("-mib is from 1 to 3072, -count and -rounds at least 1")
	}
	if o.parley, err = filepath.Abs(o.parley); err != nil {
		return err
	}
	if o.json, err = filepath.Abs(o.json); err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "parley-bench-"); err != nil {
			return err
		}
	}
	defer os.RemoveAll(o.dir)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	alone, err := loopbackOnly()
	if err != nil {
		return err
	}
	if !alone {
		if o.croc == "" { // while there is a network
			path, err := buildCroc(ctx, filepath.Join(o.dir, "croc"))
			o.croc = orNone("croc, which cannot be built here", path, err)
		}
		if o.sshd == "" { // while it is told who is root
			path, err := findSSH()
			o.sshd = orNone("scp and rsync", path, err)
		}
		return o.again()
	}
	if out, err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("bring loopback up: %w: %s", err, out)
	}
	return measure(ctx, o)
}

func orNone(what, path string, err error) string {
	if err != nil {
		fmt.Printf("without %s: %v\n", what, err)
		return "none"
	}
	return path
}

// loopbackOnly tells whether this machine, or this network namespace, has no other network.
func loopbackOnly() (bool, error) {
	list, err := net.Interfaces()
	if err != nil {
		return false, fmt.Errorf("list networks: %w", err)
	}
	for _, i := range list {
		if i.Flags&net.FlagLoopback == 0 {
			return false, nil
		}
	}
	return true, nil
}

// again starts this program anew, in its place, in a network namespace of its own.
func (o options) again() error {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return fmt.Errorf("find what makes a network namespace (Debian: util-linux): %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{unshare, "--net"}
	if os.Geteuid() != 0 {
		args = append(args, "--map-root-user")
	}
	args = append(args, self, "-parley", o.parley, "-croc", o.croc, "-sshd", o.sshd, "-dir", o.dir, "-json", o.json,
		"-limit", o.limit.String(), fmt.Sprintf("-mib=%d", o.mib), fmt.Sprintf("-count=%d", o.count), fmt.Sprintf("-rounds=%d", o.rounds))
	return fmt.Errorf("start %s: %w", unshare, syscall.Exec(unshare, args, os.Environ()))
}

// measure sends everything in every way, as often as there are rounds.
func measure(ctx context.Context, o options) error {
	began, loadBefore := time.Now(), load()
	sent, err := makeSources(filepath.Join(o.dir, "sent"), o.mib, o.count)
	if err != nil {
		return err
	}
	ways, stop, err := o.ways(ctx)
	defer stop()
	if err != nil {
		return err
	}
	r := report{
		When: began.UTC().Truncate(time.Second), Machine: machine(), LoadBefore: loadBefore,
		MiB: o.mib, Files: o.count, Rounds: o.rounds,
	}
	for _, s := range sent {
		for round := 1; round <= o.rounds; round++ {
			for _, w := range ways {
				if err := r.once(ctx, o, round, s, w); err != nil {
					return err
				}
			}
		}
	}
	r.LoadAfter = load()
	r.compare()
	r.print(os.Stdout)
	return r.write(o.json)
}

// way is one way to send what lies somewhere into a folder.
type way struct {
	name string
	into string // the folder
	send func(ctx context.Context, path string) (cost, error)
}

// ways starts whatever is needed to send. stop ends it, also after an error.
func (o options) ways(ctx context.Context) (list []way, stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	group, err := startGroup(ctx, o.parley, filepath.Join(o.dir, "parley"))
	stops = append(stops, group.stop)
	if err != nil {
		return nil, stop, err
	}
	list = []way{group.direct, group.relayed, tcpWay(o.dir)}
	if o.croc != "" && o.croc != "none" {
		c, err := startCroc(ctx, o.croc, filepath.Join(o.dir, "croc-home"))
		if err != nil {
			return nil, stop, err
		}
		stops = append(stops, c.stop)
		list = append(list,
			c.way("croc direct", false), c.way("croc direct --no-compress", false, "--no-compress"),
			c.way("croc relayed", true), c.way("croc relayed --no-compress", true, "--no-compress"))
	}
	if o.sshd != "" && o.sshd != "none" {
		s, err := newSSHPair(ctx, o.sshd, filepath.Join(o.dir, "ssh"))
		if err != nil {
			return nil, stop, err
		}
		list = append(list, s.ways()...)
	}
	return list, stop, nil
}

// once sends once in one way, and notes what it took. What took too long is not tried
// again.
func (r *report) once(ctx context.Context, o options, round int, s source, w way) error {
	res := r.result(s, w.name)
	if res.late {
		return nil
	}
	syscall.Sync() // what others wrote is not ours to wait for
	limited, cancel := context.WithTimeout(ctx, o.limit)
	c, err := w.send(limited, s.path)
	res.late = limited.Err() != nil
	cancel()
	got := filepath.Join(w.into, filepath.Base(s.path))
	if err == nil {
		err = s.same(got)
	}
	if gone := os.RemoveAll(got); gone != nil {
		return gone
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if res.late {
		err = fmt.Errorf("not done after %v", o.limit)
	}
	took := fmt.Sprintf("%.2f s", c.Seconds)
	if err == nil {
		c.Round = round
		res.Runs = append(res.Runs, c)
	} else {
		problem := strings.ReplaceAll(err.Error(), "\n", " ")
		res.Problems = append(res.Problems, problem)
		took = "failed: " + problem
	}
	fmt.Printf("round %d  %-28s %-28s %s\n", round, s.what, w.name, took)
	return nil
}
