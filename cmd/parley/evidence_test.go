package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/node/web"
)

// command runs one command line in a folder and returns what it printed and the
// exit code.
func command(t *testing.T, dir string, line ...string) (out string, code int) {
	t.Helper()
	p := newProgram()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p.stdout, p.stderr = file, file
	app := p.app()
	args, err := arrange(app, append([]string{"parley", "--dir", dir}, line...))
	if err == nil {
		err = app.RunContext(t.Context(), args)
	}
	if err != nil {
		f := explain(err)
		p.complain(f, false)
		code = f.code
	}
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), code
}

// serve gives a person the local API, until the test ends.
func serve(t *testing.T, p *nodetest.Person) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(ctx, p.Node, p.Config.Dir, cancel) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the local API ended: %v", err)
		}
	})
	for {
		client, err := api.Dial(p.Config.Dir)
		if err == nil {
			client.Close()
			return
		}
		if !errors.Is(err, api.ErrNotRunning) {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			ended <- err // for the cleanup
			t.Fatal("the local API did not begin")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestEvidence lets a rendezvous show two people different logs, and does with the
// alarm all that the command line can.
func TestEvidence(t *testing.T) {
	net := nodetest.NewWith(t, 2, nodetest.Options{Fork: func(i int) bool { return i == 1 }})
	alice, bob := net.People[0], net.People[1]
	serve(t, alice)
	dir, file := alice.Config.Dir, filepath.Join(t.TempDir(), "evidence.json")
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	expect := func(code int, want string, line ...string) {
		t.Helper()
		out, got := command(t, dir, line...)
		if got != code || !strings.Contains(out, want) {
			t.Errorf("parley %s: %d, want %d and %q:\n%s", strings.Join(line, " "), got, code, want, out)
		}
	}
	expect(exitOK, "no alarm", "evidence", "list")
	expect(exitNotFound, "", "evidence", "show")
	expect(exitNotFound, "", "evidence", "export", file)
	expect(exitNotFound, "hint: see those that are over: parley evidence list", "evidence", "accept", "--yes")

	net.Befriend(alice, bob)
	m := bob.Say(alice, "hello")
	net.Wait("alice has it directly", func() bool {
		return bob.Message(m.ID).State == api.Delivered && bob.Contact("alice").Path == api.Direct
	})
	net.Fork()
	for _, p := range net.People {
		net.Wait(p.Name+" is up again", p.Up)
		if _, err := p.RenameDevice(t.Context(), p.Whoami().Device, "of "+p.Name); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Doctor(t.Context()); err != nil { // it looks the own account up
			t.Fatal(err)
		}
	}
	bob.Say(alice, "across")
	net.Wait("alice is alarmed", func() bool {
		list, err := alice.Alarms(t.Context())
		return err == nil && len(list) > 0 && list[len(list)-1].Evidence != ""
	})

	expect(exitOK, "STANDS, with evidence", "evidence", "list")
	expect(exitOK, `"alarms":[{"n":1,`, "evidence", "list", "--json")
	expect(exitOK, "known here:\n    parley/12D3Koo", "evidence", "show")
	expect(exitUsage, "", "evidence", "show", "first")
	expect(exitNotFound, "", "evidence", "show", "99")
	expect(exitOK, "convicts your rendezvous", "evidence", "export", file)
	expect(exitConflict, "--force", "evidence", "export", file)
	expect(exitOK, "convicts your rendezvous", "evidence", "export", file, "--force")

	expect(exitOK, "That is your rendezvous", "evidence", "check", file)
	other, err := os.ReadFile(filepath.Join("..", "..", "protocol", "directory", "testdata", "evidence.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors map[string]string
	if err := json.Unmarshal(other, &vectors); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, []byte(vectors["rebound"]), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(exitOK, "That is not your rendezvous", "evidence", "check", elsewhere)
	dir = nowhere
	expect(exitNotRunning, "", "evidence", "list")
	expect(exitOK, "signed two logs that differ", "evidence", "check", file)
	expect(exitOK, `"kind":"fork","rendezvous":"12D3Koo`, "evidence", "check", file, "--json")
	expect(exitNotFound, "", "evidence", "check", file+"2")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"altered": strings.Replace(string(whole), "ts 1", "ts 2", 1), "cut": string(whole[:len(whole)-2]), "empty": "", "long": strings.Repeat("{", 1<<20),
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(exitUnverified, "hint: ask whoever gave it to you", "evidence", "check", path)
	}
	if _, err := os.Lstat(nowhere); err == nil {
		t.Error("a folder was made")
	}

	dir = alice.Config.Dir
	expect(exitUsage, "", "evidence", "accept") // nobody is here to ask
	expect(exitOK, "STANDS", "evidence", "list")
	expect(exitOK, "is ended", "evidence", "accept", "--yes")
	expect(exitNotFound, "", "evidence", "accept", "--yes")
	expect(exitOK, ", with evidence", "evidence", "list")
	net.Wait("alice has read the log anew", func() bool {
		s, err := alice.Safety(t.Context(), "bob")
		return err == nil && s.Entry != nil
	})
	expect(exitOK, "in the public log at entry", "verify", "bob")
	expect(exitOK, `"confirmed":[`, "verify", "bob", "--json")
}
