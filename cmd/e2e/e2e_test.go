// Package e2e proves the promises of the README with real processes: nothing
// here imports the node or the rendezvous, only the binary is driven. What no
// command does, a member of our own asks by the protocol.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
)

var bin string // the parley binary, built once for all tests

// atOnce is how many tests run at a time. They wait, most of the time.
const atOnce = "4"

func TestMain(m *testing.M) {
	flag.Set("test.parallel", atOnce)
	code, err := withBinary(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withBinary(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "parley-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bin = filepath.Join(dir, "parley")
	build := exec.Command("go", "build", "-o", bin, "../parley")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build parley: %w\n%s", err, out)
	}
	return run(), nil
}

// group is a rendezvous and some people of one test.
type group struct {
	t     *testing.T
	ctx   context.Context
	dir   string
	flags []string // of the host
	in    []string // what the host runs inside of
	log   *os.File // what the host writes to stderr
	host  *drive.Host
}

func newGroup(t *testing.T) *group {
	ctx, cancel := context.WithTimeout(context.Background(), testTime(t))
	t.Cleanup(cancel)
	g := &group{t: t, ctx: ctx, dir: t.TempDir()}
	port := freePort(t)
	g.flags = []string{"--listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port), "--listen", fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", port)}
	return g
}

func testTime(t *testing.T) time.Duration {
	if deadline, ok := t.Deadline(); ok {
		return time.Until(deadline) - 20*time.Second // room to clean up and say why
	}
	return time.Hour
}

// often returns how many times something is done: few in a test run, as many as
// the environment says in a soak.
func often(t *testing.T, env string, few int) int {
	s := os.Getenv(env)
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

var lastPort atomic.Int32

func init() { lastPort.Store(20_000 + rand.Int32N(10_000)) }

// freePort returns a port for a rendezvous that must come back at the same address: one
// that nobody is given who asks for any, as those from 32768 on are.
func freePort(t *testing.T) int {
	for range 1000 {
		port := int(lastPort.Add(1))
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// start runs the rendezvous, for the first time or again.
func (g *group) start() {
	g.t.Helper()
	invite := ""
	if g.host != nil {
		invite = g.host.Invite
	}
	if g.log == nil {
		g.log = g.logFile("host")
	}
	host, err := drive.StartHost(g.ctx, bin, filepath.Join(g.dir, "host"), g.in, g.log, invite, g.flags...)
	if err != nil {
		g.t.Fatal(err)
	}
	if g.host == nil {
		g.t.Cleanup(func() { g.host.Kill() })
	}
	g.host = host
}

func (g *group) logFile(name string) *os.File {
	f, err := os.OpenFile(filepath.Join(g.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		f.Close()
		if text, _ := os.ReadFile(f.Name()); g.t.Failed() && len(text) > 0 {
			g.t.Logf("%s wrote to stderr, at the end:\n%s", name, tail(string(text), 40))
		}
	})
	return f
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// join makes an account and starts its node. Files come slowly there.
func (g *group) join(name string, in ...string) drive.Person {
	g.t.Helper()
	p := drive.Person{Name: name, Bin: bin, Dir: filepath.Join(g.dir, name), Key: filepath.Join(g.dir, name+".key"), In: in}
	g.cleanUp(p)
	g.must(os.Mkdir(p.Dir, 0o700))
	config := fmt.Sprintf("file-rate: %d\ndownload-dir: %s\n", fileRate, g.inbox(p))
	g.must(os.WriteFile(filepath.Join(p.Dir, "config.yaml"), []byte(config), 0o600))
	if _, err := p.Join(g.ctx, g.host.Invite); err != nil {
		g.t.Fatal(err)
	}
	return p
}

// inbox is where the files go that a person accepts.
func (g *group) inbox(p drive.Person) string { return filepath.Join(g.dir, p.Name+"-in") }

// cleanUp stops a node when the test ends, and shows its log if it failed.
func (g *group) cleanUp(p drive.Person) {
	g.t.Cleanup(func() {
		if g.t.Failed() {
			if text, err := os.ReadFile(filepath.Join(p.Dir, "node.log")); err == nil {
				g.t.Logf("%s's node.log, at the end:\n%s", p.Name, tail(string(text), 40))
			}
		}
		p.Run(context.Background(), "down")
	})
}

func (g *group) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// texts returns what p has received from another, in the order shown.
func (g *group) texts(p drive.Person, from string) (got []string) {
	messages, err := p.History(g.ctx, from)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if !m.Mine && m.State != api.Hole {
			got = append(got, m.Text)
		}
	}
	return got
}
