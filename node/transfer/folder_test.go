package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol/file"
)

// sample makes a folder of all that may be in one.
func sample(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "photos")
	for _, d := range []string{"", "a", "a/b", "empty", "z"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "a", "b", "deep.txt"), []byte("deep"))
	write(t, filepath.Join(dir, "a", "nothing"), nil)
	write(t, filepath.Join(dir, "one"), noise(1, 512))
	write(t, filepath.Join(dir, "two"), noise(2, 2<<20+17))
	write(t, filepath.Join(dir, "z", strings.Repeat("long", 40)), noise(3, 1000))
	write(t, filepath.Join(dir, "z", "umlaut-ü"), noise(4, 100))
	if err := os.Chmod(filepath.Join(dir, "one"), 0o555); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a/b/deep.txt", "a/b", "empty"} {
		at := time.Unix(1_500_000_000+int64(i), 500)
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t testing.TB, path string) (transfer.Content, []string) {
	t.Helper()
	c, skipped, err := transfer.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, skipped
}

func all(t testing.TB, c transfer.Content) []byte {
	t.Helper()
	return must(io.ReadAll(io.NewSectionReader(c, 0, c.Size())))(t)
}

// The plan of a folder reads as an archive that any program can read, the same each
// time, and any part of it reads as the whole does.
func TestFolderIsAnArchive(t *testing.T) {
	dir := sample(t)
	c, skipped := open(t, dir)
	whole := all(t, c)
	if int64(len(whole)) != c.Size() || len(skipped) != 0 {
		t.Fatalf("%d bytes of %d, skipped %q", len(whole), c.Size(), skipped)
	}
	again, _ := open(t, dir)
	if !bytes.Equal(all(t, again), whole) {
		t.Fatal("a second plan reads otherwise")
	}
	var got []string
	for r := tar.NewReader(bytes.NewReader(whole)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name)
		content := must(io.ReadAll(r))(t)
		if h.Typeflag == tar.TypeReg && !bytes.Equal(content, must(os.ReadFile(filepath.Join(dir, h.Name)))(t)) {
			t.Errorf("%s has other bytes", h.Name)
		}
		if h.Uname+h.Gname != "" || h.Uid+h.Gid != 0 || h.Mode&^0o700 != 0 || h.Typeflag == tar.TypeReg && h.Mode&0o100 != 0 {
			t.Errorf("%s tells %q %q %o", h.Name, h.Uname, h.Gname, h.Mode)
		}
	}
	if !slices.IsSorted(got) || len(got) != 10 {
		t.Fatalf("entries %q", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, len(whole)).Draw(t, "from")
		n := rapid.OneOf(rapid.IntRange(0, 2000), rapid.IntRange(0, len(whole))).Draw(t, "n")
		p := make([]byte, n)
		got, err := c.ReadAt(p, int64(from))
		want := whole[from:min(from+n, len(whole))]
		if !bytes.Equal(p[:got], want) || (err != nil) != (len(want) < n) {
			t.Fatalf("read %d from %d: %d bytes, %v", n, from, got, err)
		}
	})
}

// Links, sockets and pipes are left out, with a line each; nothing waits for a pipe.
func TestFolderSkipsWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), []byte("x"))
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := must(net.Listen("unix", filepath.Join(dir, "socket")))(t)
	defer l.Close()
	write(t, filepath.Join(dir, "bad\xff"), []byte("x"))
	deep := strings.Repeat("n/", 63)
	if err := os.MkdirAll(filepath.Join(dir, deep, "n"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, deep, "n", "f"), []byte("x"))
	_, skipped := open(t, dir)
	want := []string{`"bad\xff": a name that cannot be sent`, `"link": a symbolic link`, `"` + deep + `n/f": more than 64 folders deep`, `"pipe": a pipe`, `"socket": a socket`}
	if !slices.Equal(skipped, want) {
		t.Errorf("skipped %q", skipped)
	}
	for _, name := range []string{filepath.Join(dir, "pipe"), os.DevNull} {
		if _, _, err := transfer.Open(name); !errors.Is(err, transfer.ErrNotSendable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What changed since it was offered is not sealed, however it changed.
func TestChangedFileGivesNothing(t *testing.T) {
	changes := map[string]func(t *testing.T, name string){
		"other byte": func(t *testing.T, name string) { flip(t, name, 1<<20+5) },
		"shorter": func(t *testing.T, name string) {
			if err := os.Truncate(name, 1<<20+1); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(t *testing.T, name string) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		},
		"a pipe now": func(t *testing.T, name string) {
			if err := errors.Join(os.Remove(name), syscall.Mkfifo(name, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
	}
	for what, change := range changes {
		for _, folder := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, in a folder: %v", what, folder), func(t *testing.T) {
				dir := t.TempDir()
				path := write(t, filepath.Join(dir, "f"), noise(1, 3<<20))
				if folder {
					path = dir
				}
				o := prepare(t, path)
				change(t, filepath.Join(dir, "f"))
				if !folder && (what == "gone" || what == "a pipe now") {
					return // what is open stays
				}
				_, err := o.Piece(1, make([]byte, 0, file.SealedPieceSize))
				if err == nil || what != "a pipe now" && !errors.Is(err, file.ErrChanged) {
					t.Fatalf("sealed: %v", err)
				}
			})
		}
	}
}

// A pipe that breaks is not one that ends.
func TestSpoolCut(t *testing.T) {
	for what, end := range map[string]func(cancel func()) error{
		"in the middle": func(func()) error { return io.ErrUnexpectedEOF },
		"by its writer": func(cancel func()) error { cancel(); return io.EOF },
	} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		in := io.MultiReader(bytes.NewReader(noise(1, 1000)), readFunc(func([]byte) (int, error) { return 0, end(cancel) }))
		if _, _, err := transfer.Spool(ctx, in, filepath.Join(dir, "spool"), "dump"); err == nil || len(names(t, dir)) != 0 {
			t.Errorf("cut %s: %v, left %q", what, err, names(t, dir))
		}
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// flip changes one bit of a file.
func flip(t testing.TB, name string, at int64) {
	t.Helper()
	f := must(os.OpenFile(name, os.O_RDWR, 0))(t)
	defer f.Close()
	b := []byte{0}
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
