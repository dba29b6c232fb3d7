package main

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/parley-chat/parley/node/api"
)

// atOnce is how many scripts run at a time. They wait, most of the time.
const atOnce = "4"

func TestMain(m *testing.M) {
	flag.Set("test.parallel", atOnce)
	testscript.Main(m, map[string]func(){"parley": main})
}

// TestScripts runs testdata/*.txtar: real processes, real sockets, this machine
// only. What they do beyond testscript's own commands:
//
//	exits CODE COMMAND...     run it; it must end with this exit code
//	until CODE COMMAND...     run it again and again until it ends with this exit code
//	await REGEXP COMMAND...   run it again and again until its output matches
//	keep NAME                 put the last output into a variable
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "until": until, "await": await, "keep": keep,
		},
	})
}

const loopback = "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1"

func setup(env *testscript.Env) error {
	env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
	env.Setenv("PARLEY_HOST_LISTEN", loopback)
	env.Setenv("PARLEY_RELAY_LISTEN", loopback)
	env.Setenv("PARLEY_LISTEN", loopback)
	env.Defer(func() { stopNodes(env.WorkDir) })
	return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o700)
}

// stopNodes ends what a script has left in the background.
func stopNodes(workDir string) {
	filepath.WalkDir(workDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != api.SocketName {
			return nil
		}
		client, err := api.Dial(filepath.Dir(path))
		if err != nil {
			return nil
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s, err := client.Status(ctx)
		if err != nil {
			return nil
		}
		client.Down(ctx)
		for range 500 {
			if !alive(s.PID) {
				return nil
			}
			time.Sleep(20 * time.Millisecond)
		}
		syscall.Kill(s.PID, syscall.SIGKILL)
		return nil
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, got := exitCode(ts, neg, args)
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	for deadline := time.Now().Add(awaitTime); ; time.Sleep(50 * time.Millisecond) {
		want, got := exitCode(ts, neg, args)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("exit code %d, want %d within %v\n%s%s", got, want, awaitTime, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
		}
	}
}

// exitCode runs a command, and returns the code that is wanted and that it had.
func exitCode(ts *testscript.TestScript, neg bool, args []string) (want, got int) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits|until CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return want, exit.ExitCode()
	}
	ts.Check(err)
	return want, 0
}

const awaitTime = 60 * time.Second

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await REGEXP COMMAND...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(awaitTime); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no %q within %v; last: %v\n%s%s", args[0], awaitTime, err, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
		}
	}
}

func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keep NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}
