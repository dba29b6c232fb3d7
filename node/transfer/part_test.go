package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol/file"
)

// Files of every interesting size arrive as they were, from a file and from a pipe.
func TestReceive(t *testing.T) {
	for _, size := range []int{0, 1, file.ChunkSize - 1, file.ChunkSize, file.ChunkSize + 1, file.PieceSize - 1, file.PieceSize, file.PieceSize + 1, 3<<20 + 12345} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			content, into := noise(uint64(size), size), t.TempDir()
			o := prepare(t, write(t, filepath.Join(t.TempDir(), "film.mkv"), content))
			p := receive(t, into, o)
			if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
				t.Fatal(err)
			}
			path := finish(t, p, o)
			if path != filepath.Join(into, "film.mkv") || !bytes.Equal(must(os.ReadFile(path))(t), content) || len(names(t, into)) != 1 {
				t.Fatalf("%s, and in the folder %q", path, names(t, into))
			}
			if m := must(os.Stat(path))(t).Mode(); m != 0o600 {
				t.Errorf("mode %v", m)
			}
			spool := filepath.Join(t.TempDir(), "spool")
			d, l, err := transfer.Spool(t.Context(), bytes.NewReader(content), spool, "film.mkv")
			if err != nil {
				t.Fatal(err)
			}
			spooled := must(transfer.OpenSpooled(spool, d, l))(t)
			defer spooled.Close()
			p = receive(t, into, offer{d: d, list: l})
			if err := transfer.Fetch(t.Context(), p, []transfer.Source{&giver{pieces: spooled, name: "spool"}}, transfer.Options{}); err != nil {
				t.Fatal(err)
			}
			if path := finish(t, p, o); path != filepath.Join(into, "film (1).mkv") || !bytes.Equal(must(os.ReadFile(path))(t), content) {
				t.Fatal(path)
			}
		})
	}
}

// A folder arrives with its names, times and whether files are read-only, and reads as
// the same archive then: who received it can give it to others.
func TestReceiveFolder(t *testing.T) {
	dir, into := sample(t), t.TempDir()
	o := prepare(t, dir)
	p := receive(t, into, o)
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	path := finish(t, p, o)
	if path != filepath.Join(into, "photos") || len(names(t, into)) != 1 {
		t.Fatalf("%s, and in the folder %q", path, names(t, into))
	}
	want, _ := open(t, dir)
	got, _ := open(t, path)
	if !bytes.Equal(all(t, got), all(t, want)) {
		t.Error("it reads as another archive")
	}
	again := must(transfer.NewOriginal(got, o.d, o.list))(t)
	if _, err := again.Piece(1, nil2()); err != nil {
		t.Errorf("it cannot be given to others: %v", err)
	}
	p = receive(t, into, o)
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	if second := finish(t, p, o); second != filepath.Join(into, "photos (1)") {
		t.Errorf("received again it is %s", second)
	}
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		info := must(d.Info())(t)
		if m := info.Mode().Perm(); m&0o077 != 0 || !d.IsDir() && m&0o100 != 0 {
			t.Errorf("%s has mode %o", name, m)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func nil2() []byte { return make([]byte, 0, file.SealedPieceSize) }

// After a crash between the name and its record, Finish finds what it did.
func TestFinishTwice(t *testing.T) {
	for _, path := range []string{write(t, filepath.Join(t.TempDir(), "a.txt"), noise(1, 100)), sample(t)} {
		o, into := prepare(t, path), t.TempDir()
		if err := os.Mkdir(filepath.Join(into, o.d.Name), 0o700); err != nil { // something of this name is there
			t.Fatal(err)
		}
		p := receive(t, into, o)
		if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
			t.Fatal(err)
		}
		first := must(p.Finish(t.Context()))(t)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		p = receive(t, into, o)
		if n := p.Missing(); n != 0 {
			t.Fatalf("%d pieces are missing", n)
		}
		if second := finish(t, p, o); second != first || len(names(t, into)) != 2 {
			t.Errorf("%s, then %s: %q", first, second, names(t, into))
		}
	}
}

// After a crash between the name and its record, somebody works with the file already: it
// is his, and the file is received once more.
func TestFinishedAndChanged(t *testing.T) {
	changes := map[string]func(b []byte) []byte{
		"another byte": func(b []byte) []byte { b[7]++; return b },
		"shorter":      func(b []byte) []byte { return b[:50] },
		"longer":       func(b []byte) []byte { return append(b, "more"...) },
	}
	for what, change := range changes {
		content := noise(1, 100)
		o, into := prepare(t, write(t, filepath.Join(t.TempDir(), "a.txt"), content)), t.TempDir()
		p := receive(t, into, o)
		if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
			t.Fatal(err)
		}
		first := must(p.Finish(t.Context()))(t)
		p.Close()
		changed := change(bytes.Clone(content))
		write(t, first, changed)
		p = receive(t, into, o)
		if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
			t.Fatal(err)
		}
		if second := finish(t, p, o); second == first || !bytes.Equal(must(os.ReadFile(second))(t), content) {
			t.Errorf("%s: %s has other bytes", what, second)
		}
		if got := must(os.ReadFile(first))(t); !bytes.Equal(got, changed) {
			t.Errorf("%s: it was written over", what)
		}
	}
}

// What is in the hidden file is found again, whatever was done to it.
func TestCheckFindsWhatIsHere(t *testing.T) {
	o, into := prepare(t, write(t, filepath.Join(t.TempDir(), "f"), noise(1, 6<<20+100))), t.TempDir()
	p := receive(t, into, o)
	for _, k := range []int{0, 2, 3, 6} {
		if err := p.Write(k, must(o.Piece(k, nil2()))(t)); err != nil {
			t.Fatal(err)
		}
	}
	p.Close()
	hidden := filepath.Join(into, names(t, into)[0])
	flip(t, hidden, 2<<20+77)
	if m := must(os.Stat(hidden))(t).Mode(); m != 0o600 || !strings.HasPrefix(filepath.Base(hidden), ".f.") {
		t.Errorf("%s %v", hidden, m)
	}
	p = receive(t, into, o)
	defer p.Close()
	var have []int
	for k := range o.list {
		if p.Has(k) {
			have = append(have, k)
		}
	}
	if !slices.Equal(have, []int{0, 3, 6}) || p.Done() != 2<<20+100 {
		t.Errorf("pieces %v, %d bytes", have, p.Done())
	}
	if _, err := p.Finish(t.Context()); err == nil {
		t.Error("an unfinished file got its name")
	}
	if len(names(t, into)) != 1 {
		t.Errorf("in the folder: %q", names(t, into))
	}
}

// Two files of one name are received into one folder, each as it was: who describes a file
// chooses its name, and its id.
func TestPartsOfOneName(t *testing.T) {
	into := t.TempDir()
	parts, offers := map[string]*transfer.Part{}, map[string]offer{}
	for tag, seed := range map[string]uint64{"one": 1, "two": 2} {
		o := prepare(t, write(t, filepath.Join(t.TempDir(), "setup.exe"), noise(seed, 2<<20)))
		p, err := transfer.OpenPart(into, tag, o.d, o.list)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.Write(0, must(o.Piece(0, nil2()))(t)); err != nil {
			t.Fatal(err)
		}
		parts[tag], offers[tag] = p, o
	}
	if err := errors.Join(parts["two"].Close(), transfer.RemovePart(into, "setup.exe", "two")); err != nil {
		t.Fatal(err)
	}
	p, o := parts["one"], offers["one"]
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	path := must(p.Finish(t.Context()))(t)
	if got := must(os.ReadFile(path))(t); !bytes.Equal(got, noise(1, 2<<20)) {
		t.Error("other bytes")
	}
}

// Something else under the hidden name is not followed and not written to.
func TestHiddenNameTaken(t *testing.T) {
	o, into := prepare(t, write(t, filepath.Join(t.TempDir(), "f"), noise(1, 10))), t.TempDir()
	receive(t, into, o).Close()
	hidden, victim := filepath.Join(into, names(t, into)[0]), write(t, filepath.Join(into, "victim"), []byte("precious"))
	if err := errors.Join(os.Remove(hidden), os.Symlink("victim", hidden)); err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.OpenPart(into, "tag", o.d, o.list); err == nil {
		t.Error("a link was opened")
	}
	if got := must(os.ReadFile(victim))(t); string(got) != "precious" {
		t.Errorf("%q", got)
	}
}

// archive is a file that says it is a folder.
func archive(t *testing.T, content []byte) offer {
	o := prepare(t, write(t, filepath.Join(t.TempDir(), "bag"), content))
	o.d.Folder = true
	return o
}

func tarOf(t *testing.T, entries ...*tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func folderHeader(name string) *tar.Header {
	return &tar.Header{Name: name + "/", Typeflag: tar.TypeDir, ModTime: time.Unix(1_500_000_000, 0)}
}

// deep is folders in each other.
func deep(n int) (list []*tar.Header) {
	for i := range n {
		list = append(list, folderHeader(strings.Repeat("n/", i)+"n"))
	}
	return list
}

func TestHostileFolders(t *testing.T) {
	long := strings.Repeat("n/", 2100)
	bad := map[string][]byte{
		"parent":         tarOf(t, &tar.Header{Name: "../evil"}),
		"parent inside":  tarOf(t, &tar.Header{Name: "a/", Typeflag: tar.TypeDir}, &tar.Header{Name: "a/../../evil"}),
		"absolute":       tarOf(t, &tar.Header{Name: "/evil"}),
		"the folder":     tarOf(t, &tar.Header{Name: "./", Typeflag: tar.TypeDir}),
		"no name":        tarOf(t, &tar.Header{Name: ""}),
		"no parent":      tarOf(t, &tar.Header{Name: "a/b"}),
		"symlink":        tarOf(t, &tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}),
		"hard link":      tarOf(t, &tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}),
		"device":         tarOf(t, &tar.Header{Name: "d", Typeflag: tar.TypeChar}),
		"pipe":           tarOf(t, &tar.Header{Name: "p", Typeflag: tar.TypeFifo}),
		"too long":       tarOf(t, &tar.Header{Name: long[:len(long)-1], Format: tar.FormatPAX}),
		"file as parent": tarOf(t, &tar.Header{Name: "a"}, &tar.Header{Name: "a/b"}),
		"cut":            tarOf(t, &tar.Header{Name: "a", Size: 5000})[:2000],
		"noise":          noise(1, 10000),
		"too deep":       tarOf(t, deep(65)...),
		"not in order":   tarOf(t, folderHeader("a"), folderHeader("b"), &tar.Header{Name: "a/c"}),
	}
	for what, content := range bad {
		t.Run(what, func(t *testing.T) {
			outside := t.TempDir()
			into := filepath.Join(outside, "downloads")
			if err := os.Mkdir(into, 0o700); err != nil {
				t.Fatal(err)
			}
			o := archive(t, content)
			p := receive(t, into, o)
			if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
				t.Fatal(err)
			}
			path, err := p.Finish(t.Context())
			if !errors.Is(err, transfer.ErrBadFolder) {
				t.Errorf("%s, %v", path, err)
			}
			if got := names(t, into); len(got) != 1 || !strings.HasSuffix(got[0], ".part") {
				t.Errorf("left in the folder: %q", got)
			}
			if err := errors.Join(p.Close(), transfer.RemovePart(into, o.d.Name, "tag")); err != nil || len(names(t, into)) != 0 || len(names(t, outside)) != 1 {
				t.Errorf("left: %q, %v", names(t, into), err)
			}
		})
	}
}

// A folder as deep as may be is unpacked, with the times of its folders.
func TestUnpackDeep(t *testing.T) {
	o, into := archive(t, tarOf(t, append(deep(64), folderHeader("z"))...)), t.TempDir()
	p := receive(t, into, o)
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	path := finish(t, p, o)
	for i := range 64 {
		at := must(os.Stat(filepath.Join(path, strings.Repeat("n/", i+1))))(t).ModTime()
		if at.Unix() != 1_500_000_000 {
			t.Fatalf("folder %d is of %v", i, at)
		}
	}
}

// Hostile names in a folder are made safe, and two that become one stay two.
func TestUnpackCleansNames(t *testing.T) {
	entries := []*tar.Header{folderHeader(".git"), {Name: ".git/config", ModTime: time.Unix(1<<40, 0)}}
	entries = append(entries, slices.Repeat([]*tar.Header{{Name: ".git/a"}}, 300)...)
	entries = append(entries, &tar.Header{Name: "a:b"}, &tar.Header{Name: "a?b"}, &tar.Header{Name: "evil\u202egnp.exe", Mode: 0o4777})
	o, into := archive(t, tarOf(t, entries...)), t.TempDir()
	p := receive(t, into, o)
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	path := finish(t, p, o)
	if got := names(t, path); !slices.Equal(got, []string{"_git", "a_b", "a_b (1)", "evilgnp.exe"}) {
		t.Errorf("%q", got)
	}
	if n := len(names(t, filepath.Join(path, "_git"))); n != 301 {
		t.Errorf("%d names that are one when cleaned", n)
	}
	if m := must(os.Stat(filepath.Join(path, "evilgnp.exe")))(t).Mode(); m != 0o600 {
		t.Errorf("mode %v", m)
	}
}

func TestListIsKept(t *testing.T) {
	o := offer{list: make(file.List, 66)} // more than is in a descriptor
	for k := range o.list {
		o.list[k] = file.HashPiece([]byte{byte(k)})
	}
	o.d = must(file.New().Describe("f", 65<<20, o.list))(t)
	name := filepath.Join(t.TempDir(), "list")
	if err := transfer.SaveList(name, o.list); err != nil {
		t.Fatal(err)
	}
	if l, err := transfer.LoadList(name, o.d); err != nil || !slices.Equal(l, o.list) {
		t.Fatal(err)
	}
	flip(t, name, 40)
	if _, err := transfer.LoadList(name, o.d); !errors.Is(err, file.ErrMalformed) {
		t.Errorf("a list with another bit: %v", err)
	}
	liar := &giver{list: slices.Concat(o.list[1:], o.list[:1]), name: "liar"}
	l, err := transfer.FetchList(t.Context(), o.d, []transfer.Source{liar, source(o)}, transfer.Options{})
	if err != nil || !slices.Equal(l, o.list) {
		t.Fatal(err)
	}
	if _, err := transfer.FetchList(t.Context(), o.d, []transfer.Source{liar}, transfer.Options{}); !errors.Is(err, transfer.ErrNoSource) {
		t.Errorf("only a liar: %v", err)
	}
}

func TestPrepareStops(t *testing.T) {
	c, _ := open(t, write(t, filepath.Join(t.TempDir(), "f"), noise(1, 5<<20)))
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := transfer.Prepare(ctx, c, "f", func(int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
