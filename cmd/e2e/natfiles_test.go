//go:build linux

package e2e

import (
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/natlab"
)

// TestNATFiles: behind NATs that cannot be punched through, files come over the relay. A
// cut of the line and the death of the relay interrupt them, and no more.
func TestNATFiles(t *testing.T) {
	t.Parallel()
	g := newNATGroup(t, natlab.Sites{"A": {Kind: natlab.Symmetric}, "B": {Kind: natlab.Symmetric}}, "A1", "B1")
	path := g.write("relayed.bin", someFile)
	id := g.offer(g.alice, g.bob, "bob", path)
	g.want(g.bob, id)
	was := g.awaitPart(g.bob, id, partOfIt)
	if was.Progress.Path != string(api.Relayed) {
		t.Errorf("it comes %s", was.Progress.Path)
	}
	t.Logf("%d bytes, the line is cut", was.Progress.Done)
	g.lab.Cut("B")
	time.Sleep(3 * time.Second) // the length of the cut
	g.lab.Heal("B")
	again := g.awaitPart(g.bob, id, was.Progress.Done+1)
	t.Logf("%d bytes, the relay is killed", again.Progress.Done)
	g.host.Kill()
	g.start()
	g.goesOn(g.bob, id, again)
	g.same(path, g.awaitHere(g.bob, id))
	t.Log("it is here")
	g.awaitAnswer(g.alice, id, api.FileTaken)

	sent := filepath.Join(g.outbox(), "pictures")
	want := g.oddFolder(sent)
	got := g.accept(g.bob, g.offer(g.alice, g.bob, "bob", sent))
	if !maps.Equal(g.tree(got.Path), want) {
		t.Errorf("%s is not what was sent", got.Path)
	}
}
