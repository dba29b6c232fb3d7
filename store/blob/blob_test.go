package blob

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/store"
)

var name = store.BlobName{0xab, 1}

func open(t testing.TB, dir string) *Bodies {
	t.Helper()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// grow appends to a body behind have bytes, and returns how many it has then.
func grow(t testing.TB, b *Bodies, have int64, text string) int64 {
	t.Helper()
	g, err := b.Grow(name, have)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := io.WriteString(g, text); err != nil {
		t.Fatal(err)
	}
	if err := g.Sync(); err != nil {
		t.Fatal(err)
	}
	return g.Len()
}

func expect(t testing.TB, b *Bodies, want string) {
	t.Helper()
	f, err := b.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	n, lenErr := b.Len(name)
	if err := errors.Join(err, lenErr); err != nil || string(got) != want || n != int64(len(want)) {
		t.Fatalf("%q of %d bytes, %v, want %q", got, n, err, want)
	}
}

func TestBody(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	b := open(t, dir)
	if n, err := b.Len(name); n != 0 || err != nil {
		t.Errorf("none: %d, %v", n, err)
	}
	if _, err := b.Open(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if got := grow(t, b, 100, "hello"); got != 5 { // more than there is: the store was not set back, the files were
		t.Errorf("%d bytes", got)
	}
	grow(t, b, 5, " world")
	expect(t, b, "hello world")
	b = open(t, dir) // as after a restart
	grow(t, b, 4, "!")
	expect(t, b, "hell!") // what the store did not know to be durable is cut off
	grow(t, b, 0, "")
	expect(t, b, "")

	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Dir(b.path(name)): 0o700, b.path(name): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	for range 2 {
		if err := b.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	expectNames(t, b)
}

func expectNames(t testing.TB, b *Bodies, want ...store.BlobName) {
	t.Helper()
	got := map[store.BlobName]bool{}
	for n, err := range b.All() {
		if err != nil {
			t.Fatal(err)
		}
		got[n] = true
	}
	if len(got) != len(want) {
		t.Fatalf("%d bodies, want %d", len(got), len(want))
	}
	for _, n := range want {
		if !got[n] {
			t.Errorf("no %v", n)
		}
	}
}

func TestAll(t *testing.T) {
	b := open(t, t.TempDir())
	names := []store.BlobName{{}, {1}, {1, 2}, {0xff, 0xff}}
	for _, n := range names {
		g, err := b.Grow(n, 0)
		if err != nil {
			t.Fatal(err)
		}
		g.Close()
	}
	if err := os.WriteFile(filepath.Join(b.dir, "01", "lost+found"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expectNames(t, b, names...)
	for range b.All() {
		break
	}
}

// TestAnyCrash: whatever is written, cut and lost behind what is marked, the marked bytes
// stay, and what is read as far as they go is what was written there.
func TestAnyCrash(t *testing.T) {
	b := open(t, t.TempDir())
	rapid.Check(t, func(rt *rapid.T) {
		b.Remove(name)
		var want []byte // the whole body, as its author has it
		for range 200 {
			want = append(want, byte(len(want)*7))
		}
		marked := int64(0)
		for marked < int64(len(want)) {
			g, err := b.Grow(name, marked)
			if err != nil {
				rt.Fatal(err)
			}
			if g.Len() != marked {
				rt.Fatalf("%d bytes are there, %d were marked", g.Len(), marked)
			}
			for range rapid.IntRange(1, 3).Draw(rt, "steps") {
				n := min(rapid.Int64Range(1, 50).Draw(rt, "bytes"), int64(len(want))-g.Len())
				if _, err := g.Write(want[g.Len() : g.Len()+n]); err != nil {
					rt.Fatal(err)
				}
				if rapid.Bool().Draw(rt, "sync") {
					if err := g.Sync(); err != nil {
						rt.Fatal(err)
					}
					marked = g.Len()
				}
			}
			g.Close()
			if rapid.Bool().Draw(rt, "crash") { // what was not synced is lost, or noise
				lost := make([]byte, 100)
				f, err := os.OpenFile(b.path(name), os.O_WRONLY, 0)
				if err != nil {
					rt.Fatal(err)
				}
				f.WriteAt(lost, marked)
				f.Truncate(marked + rapid.Int64Range(0, 100).Draw(rt, "tail"))
				f.Close()
			}
		}
		g, err := b.Grow(name, marked)
		if err != nil {
			rt.Fatal(err)
		}
		g.Close()
		if got, err := os.ReadFile(b.path(name)); err != nil || !bytes.Equal(got, want) {
			rt.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}

func TestFits(t *testing.T) {
	b := open(t, t.TempDir())
	for _, c := range []struct {
		free, total, more int64
		fits              bool
	}{
		{100 << 30, 500 << 30, 99 << 30, true},
		{100 << 30, 500 << 30, 99<<30 + 1, false},
		{1 << 30, 500 << 30, 0, true},
		{1<<30 - 1, 500 << 30, 0, false},
		{900 << 20, 8000 << 20, 100 << 20, true}, // a small disk: a tenth stays free
		{900 << 20, 8000 << 20, 101 << 20, false},
		{600 << 20, 2 << 30, 88 << 20, true}, // a smaller one: what the store of the rows needs
		{600 << 20, 2 << 30, 89 << 20, false},
		{200 << 20, 300 << 20, 100 << 20, true},
		{200 << 20, 300 << 20, 101 << 20, false},
	} {
		b.space = func(string) (int64, int64) { return c.free, c.total }
		room, err := b.Reserve(c.more)
		if (err == nil) != c.fits || err != nil && !errors.Is(err, store.ErrFull) {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil {
			room.Release()
		}
	}
}

// Bodies that grow at the same time do not take what was promised to another one.
func TestReserve(t *testing.T) {
	b := open(t, t.TempDir())
	free := int64(1<<30 + 1000)
	b.space = func(string) (int64, int64) { return free, 500 << 30 }
	reserve := func(bytes int64) *Room {
		t.Helper()
		r, err := b.Reserve(bytes)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	full := func(err error) {
		t.Helper()
		if !errors.Is(err, store.ErrFull) {
			t.Errorf("not full: %v", err)
		}
	}
	first := reserve(600)
	_, err := b.Reserve(401)
	full(err)
	second := reserve(400)
	free -= 500
	first.Used(500)
	if err := errors.Join(first.Check(), second.Check()); err != nil {
		t.Errorf("as was promised: %v", err)
	}
	first.Release()
	first.Release()
	reserve(100).Release()
	free-- // somebody else writes, too
	second.Release()
	_, err = b.Reserve(500)
	full(err)
	third := reserve(499)
	free--
	full(third.Check())
	third.Used(1000) // more than is left: it was cut before
	third.Release()
	reserve(498)
}
