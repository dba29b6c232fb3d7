package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/parley-chat/parley/node/api"
)

// folder: names and what is read-only arrive; nothing can be executed, and no link comes.
func (g *fileGroup) folder() {
	sent := filepath.Join(g.outbox(), "pictures")
	want := g.oddFolder(sent)
	id := g.offer(g.alice, g.bob, "bob", sent)
	got := g.accept(g.bob, id)
	if got.Path != filepath.Join(g.inbox(g.bob), "pictures") {
		g.t.Errorf("it is at %s", got.Path)
	}
	if tree := g.tree(got.Path); !maps.Equal(tree, want) {
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if tree[name] != want[name] {
				g.t.Errorf("%q is %q, not %q", name, tree[name], want[name])
			}
		}
		g.t.Errorf("%d entries came, not %d", len(tree), len(want))
	}
	g.awaitAnswer(g.alice, id, api.FileTaken)
}

// oddFolder makes a folder of 200 small files, and returns what is to come of it: the
// same as tree does.
func (g *group) oddFolder(dir string) map[string]string {
	g.t.Helper()
	want := map[string]string{"2024": "drwx------", "empty": "drwx------", "2024/deep": "drwx------"}
	for name := range want {
		g.must(os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	put := func(name, as, text string, mode fs.FileMode) {
		g.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		g.must(os.Chmod(filepath.Join(dir, name), mode))
		bits := "-rw-------"
		if mode&0o200 == 0 {
			bits = "-r--------"
		}
		want[as] = bits + " " + text
	}
	for i := range 190 {
		name := fmt.Sprintf("2024/%03d.txt", i)
		put(name, name, fmt.Sprint("picture ", i), []fs.FileMode{0o644, 0o755, 0o444, 0o600}[i%4])
	}
	for name, as := range map[string]string{
		"2024/deep/nothing": "2024/deep/nothing", "with spaces.txt": "with spaces.txt", "grün 猫.txt": "grün 猫.txt",
		".hidden": "_hidden", "-rf": "_rf", "two\nlines": "two lines", "tur\u202Egnp.exe": "turgnp.exe",
		"CON": "_CON", "a:b": "a_b", "run.sh": "run.sh",
	} {
		put(name, as, "odd "+as, 0o755)
	}
	g.must(os.WriteFile(filepath.Join(dir, "2024/deep/nothing"), nil, 0o600))
	want["2024/deep/nothing"] = "-rw------- "
	g.must(os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	return want
}

// tree is what is in a folder: modes, and of files what they say.
func (g *group) tree(dir string) map[string]string {
	g.t.Helper()
	all := map[string]string{}
	root := os.DirFS(dir)
	g.must(fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		all[name] = info.Mode().String()
		if err == nil && info.Mode().IsRegular() {
			var text []byte
			text, err = fs.ReadFile(root, name)
			all[name] += " " + string(text)
		}
		return err
	}))
	return all
}
