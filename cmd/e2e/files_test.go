package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
)

// fileGroup is a rendezvous, and alice and bob, who are contacts.
type fileGroup struct {
	*group
	alice, bob drive.Person
}

const (
	// fileRate is how many bytes of files a node takes and gives a second: there is time
	// to do something in the middle of one.
	fileRate = 4 << 20
	someFile = 12 << 20
	partOfIt = 1 << 20 // of someFile
)

func newFileGroup(t *testing.T, flags ...string) *fileGroup {
	g := &fileGroup{group: newGroup(t)}
	g.flags = append(g.flags, flags...)
	g.start()
	g.alice, g.bob = g.join("alice"), g.join("bob")
	g.must(drive.Befriend(g.ctx, g.alice, g.bob))
	return g
}

// on is the group in a test within the test.
func (g *fileGroup) on(t *testing.T) *fileGroup {
	inner := *g.group
	inner.t = t
	return &fileGroup{&inner, g.alice, g.bob}
}

// outbox is a new folder with things to be sent.
func (g *group) outbox() string {
	g.t.Helper()
	dir, err := os.MkdirTemp(g.dir, "out-")
	g.must(err)
	return dir
}

// write makes a file with so many bytes that are nowhere else, and returns its path.
func (g *group) write(name string, size int64) string {
	g.t.Helper()
	path := filepath.Join(g.outbox(), name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	g.must(err)
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%032d", time.Now().UnixNano())))), size)
	g.must(errors.Join(err, f.Close()))
	return path
}

func (g *group) sum(path string) string {
	g.t.Helper()
	sum, err := sumOf(path)
	g.must(err)
	return sum
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// offer sends a file, does not wait for what comes of it, and returns the message's id
// when the other side has it too.
func (g *group) offer(from, to drive.Person, with, path string, flags ...string) string {
	g.t.Helper()
	var m api.Message
	g.must(from.JSON(g.ctx, &m, append([]string{"send", with, "--file", path, "--no-wait"}, flags...)...))
	g.awaitFile(to, m.ID, "it is offered", func(api.File) bool { return true })
	return m.ID
}

// accept has somebody fetch a file, and waits until it is here.
func (g *group) accept(p drive.Person, id string) api.File {
	g.t.Helper()
	g.want(p, id)
	return g.awaitHere(p, id)
}

// want has somebody fetch a file.
func (g *group) want(p drive.Person, id string) {
	g.t.Helper()
	_, err := p.Run(g.ctx, "file", "accept", id, "--no-wait")
	g.must(err)
}

func (g *group) awaitHere(p drive.Person, id string) api.File {
	g.t.Helper()
	return g.awaitFile(p, id, "it is here", func(f api.File) bool { return f.State == api.FileDone })
}

func (g *group) awaitState(p drive.Person, id, state string) api.File {
	g.t.Helper()
	return g.awaitFile(p, id, "it is "+state, func(f api.File) bool { return f.State == state })
}

func (g *group) awaitAnswer(p drive.Person, id, answer string) {
	g.t.Helper()
	g.awaitFile(p, id, "the answer is "+answer, func(f api.File) bool { return f.Answer == answer })
}

// awaitPart waits until so many bytes of a file are here, and some are not.
func (g *group) awaitPart(p drive.Person, id string, atLeast int64) api.File {
	g.t.Helper()
	f := g.awaitFile(p, id, fmt.Sprint(atLeast, " bytes of it are here"), func(f api.File) bool {
		return f.State != api.FileWanted || f.Progress != nil && f.Progress.Doing == api.Fetching && f.Progress.Done >= atLeast
	})
	if f.State != api.FileWanted {
		g.t.Fatalf("%s: %d bytes were to be here, and not all: %+v", p.Name, atLeast, f)
	}
	return f
}

// goesOn waits until a file is fetched again, and asserts that it goes on where it was.
func (g *group) goesOn(p drive.Person, id string, was api.File) {
	g.t.Helper()
	if is := g.awaitPart(p, id, 0); is.Progress.Done < was.Progress.Done {
		g.t.Errorf("%d bytes are here, and were %d", is.Progress.Done, was.Progress.Done)
	}
}

// awaitFile looks at a file on somebody's node, through restarts of that, until it is so.
func (g *group) awaitFile(p drive.Person, id, what string, so func(api.File) bool) (last api.File) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.ctx, 2*time.Minute)
	defer cancel()
	look := func() bool {
		client, err := api.Dial(p.Dir)
		if err != nil {
			return false
		}
		defer client.Close()
		for m, err := range client.WatchFile(ctx, id) {
			if err != nil {
				return false
			}
			if last = *m.File; so(last) {
				return true
			}
		}
		return false
	}
	if err := drive.Until(ctx, time.Hour, what, look); err != nil {
		g.t.Fatalf("%s waited in vain until %s: %+v %+v", p.Name, what, last, last.Progress)
	}
	return last
}

// exits asserts how a command ends.
func (g *group) exits(code int, p drive.Person, args ...string) string {
	g.t.Helper()
	_, err := p.Run(g.ctx, args...)
	failed, ok := errors.AsType[*drive.Error](err)
	if !ok || failed.Code != code {
		g.t.Fatalf("%s: parley %s: %v, not exit status %d", p.Name, strings.Join(args, " "), err, code)
	}
	return failed.Stderr
}

// nothingOf asserts that there is nothing of a file in somebody's inbox, and, if a part
// of it was there, that it goes.
func (g *group) nothingOf(p drive.Person, name string) {
	g.t.Helper()
	g.must(drive.Until(g.ctx, time.Minute, "nothing is left of "+name, func() bool {
		left, err := filepath.Glob(filepath.Join(g.inbox(p), "."+name+"*"))
		return err == nil && len(left) == 0
	}))
	if _, err := os.Lstat(filepath.Join(g.inbox(p), name)); !errors.Is(err, fs.ErrNotExist) {
		g.t.Errorf("%s has %s: %v", p.Name, name, err)
	}
}

// same asserts that a received file is what was sent, for its owner only.
func (g *group) same(sent string, got api.File) {
	g.t.Helper()
	if g.sum(got.Path) != g.sum(sent) {
		g.t.Errorf("%s is not what was sent", got.Path)
	}
	info, err := os.Stat(got.Path)
	g.must(err)
	if info.Mode() != 0o600 {
		g.t.Errorf("%s is %v", got.Path, info.Mode())
	}
}

// TestFiles: what is sent arrives, whatever it is, and what does not says why.
func TestFiles(t *testing.T) {
	t.Parallel()
	g := newFileGroup(t)
	for _, c := range []struct {
		name string
		run  func(*fileGroup)
	}{
		{"a folder", (*fileGroup).folder},
		{"a pipe", (*fileGroup).pipe},
		{"names", (*fileGroup).names},
		{"paused", (*fileGroup).paused},
		{"changed", (*fileGroup).changed},
		{"away", (*fileGroup).away},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(g.on(t)) })
	}
}

// pipe: what a command writes arrives as a file.
func (g *fileGroup) pipe() {
	text := g.write("dump", 3<<20+17)
	in, err := os.Open(text)
	g.must(err)
	defer in.Close()
	sender := g.alice
	sender.Stdin = in
	var m api.Message
	g.must(sender.JSON(g.ctx, &m, "send", "bob", "-", "--name", "shop.sql", "--no-wait"))
	g.must(os.Remove(text))
	g.awaitFile(g.bob, m.ID, "it is offered", func(f api.File) bool { return f.Size == 3<<20+17 })
	got := g.accept(g.bob, m.ID)
	in.Seek(0, io.SeekStart)
	want, err := io.ReadAll(in)
	g.must(err)
	if is, err := os.ReadFile(got.Path); err != nil || !bytes.Equal(is, want) {
		g.t.Errorf("%s is not what was piped: %v", got.Path, err)
	}
}

// names: nothing is overwritten, and a name cannot lead anywhere.
func (g *fileGroup) names() {
	path := g.write("plain.txt", 100)
	for _, c := range []struct{ called, is string }{
		{"plain.txt", "plain.txt"},
		{"plain.txt", "plain (1).txt"},
		{"../../.ssh/authorized_keys", "authorized_keys"},
		{".bashrc", "_bashrc"},
		{"invoice\u202Efdp.exe", "invoicefdp.exe"},
		{"NUL", "_NUL"},
	} {
		id := g.offer(g.alice, g.bob, "bob", path, "--name", c.called)
		got := g.accept(g.bob, id)
		g.same(path, got)
		if want := filepath.Join(g.inbox(g.bob), c.is); got.Path != want {
			g.t.Errorf("%q is at %q, not %q", c.called, got.Path, want)
		}
	}
}

// paused: either side stops it for a while, and it goes on from there.
func (g *fileGroup) paused() {
	path := g.write("pause.bin", someFile)
	id := g.offer(g.alice, g.bob, "bob", path)
	g.want(g.bob, id)
	for _, p := range []drive.Person{g.bob, g.alice} {
		was := g.awaitPart(g.bob, id, partOfIt)
		_, err := p.Run(g.ctx, "file", "pause", id)
		g.must(err)
		g.awaitState(p, id, api.FilePaused)
		_, err = p.Run(g.ctx, "file", "resume", id)
		g.must(err)
		g.goesOn(g.bob, id, was)
	}
	g.same(path, g.awaitHere(g.bob, id))
}

// changed: who changes a file while it is sent gives nobody a mixture of both.
func (g *fileGroup) changed() {
	path := g.write("draft.bin", someFile)
	id := g.offer(g.alice, g.bob, "bob", path)
	g.want(g.bob, id)
	g.awaitPart(g.bob, id, partOfIt)
	other, err := os.ReadFile(g.write("other.bin", someFile))
	g.must(err)
	g.must(os.WriteFile(path, other, 0o600)) // in its place, as an editor may
	g.awaitState(g.alice, id, api.FileChanged)
	g.awaitState(g.bob, id, api.FileFailed)
	g.exits(1, g.bob, "file", "accept", id)
	_, err = g.bob.Run(g.ctx, "file", "cancel", id)
	g.must(err)
	g.nothingOf(g.bob, "draft.bin")
}

// away: what is sent to who is away waits at the rendezvous, and who sent it need not be
// there when it is fetched.
func (g *fileGroup) away() {
	_, err := g.bob.Run(g.ctx, "down")
	g.must(err)
	path := g.write("later.bin", 3<<20+5)
	id := protocol.NewMsgID().String()
	_, err = g.alice.Run(g.ctx, "send", "bob", "--file", path, "--id", id) // ends when it is there
	g.must(err)
	g.awaitFile(g.alice, id, "it is stored", func(f api.File) bool { return f.Stored })
	_, err = g.alice.Run(g.ctx, "down")
	g.must(err)

	_, err = g.bob.Run(g.ctx, "up")
	g.must(err)
	g.awaitFile(g.bob, id, "it is offered", func(api.File) bool { return true })
	g.same(path, g.accept(g.bob, id))

	_, err = g.alice.Run(g.ctx, "up")
	g.must(err)
	g.awaitAnswer(g.alice, id, api.FileTaken)
}
