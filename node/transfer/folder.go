package transfer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/protocol/file"
)

// MaxEntries is how many files and folders one folder may hold, at all depths.
const MaxEntries = 100_000

const (
	maxPath  = 4096     // bytes, of a name in an archive
	maxDepth = 64       // parts of one
	maxNames = 32 << 20 // bytes, of all of them: they are in memory while the folder is given
	tarBlock = 512
	tarEnd   = 2 * tarBlock // of nothing
)

// ErrTooManyEntries is returned for a folder of more than MaxEntries entries, and for one
// whose names are too long together.
var ErrTooManyEntries = fmt.Errorf("a folder of more than %d files and folders, or of %d MiB of names, cannot be sent", MaxEntries, maxNames>>20)

// folder is a folder as a tar archive that is nowhere kept: its bytes are made when they
// are read, out of a plan and the files. Two plans of equal folders are equal, so that
// one can be sent on after a restart, and by who has received it.
//
// An entry has a name, a size, a time in whole seconds, and whether it is read-only.
// Owners, other rights and the execute bit stay here: what comes from others is not to
// be run by a click.
type folder struct {
	root    *os.Root
	entries []entry // in the order of the archive: sorted, a folder before what is in it
	size    int64
	names   int // bytes of names looked at
	skipped []string
}

// entry is a file or a folder in the archive.
type entry struct {
	name     string // with slashes, from the folder on; that of a folder ends in one
	header   int64  // where its header begins
	content  int64  // where its bytes begin
	size     int64
	seconds  int64 // when it was changed
	readOnly bool
}

func (e *entry) isDir() bool { return strings.HasSuffix(e.name, "/") }

// end is where the next entry begins.
func (e *entry) end() int64 { return e.content + (e.size+tarBlock-1)/tarBlock*tarBlock }

// openFolder plans the archive of a folder.
func openFolder(path string) (*folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open the folder to be sent: %w", err)
	}
	f := &folder{root: root}
	if err := fs.WalkDir(root.FS(), ".", f.plan); err != nil {
		return nil, errors.Join(fmt.Errorf("look through the folder to be sent: %w", err), root.Close())
	}
	f.size += tarEnd
	return f, nil
}

// plan takes one thing in the folder.
func (f *folder) plan(name string, d fs.DirEntry, err error) error {
	f.names += len(name)
	switch {
	case name == "." || err != nil:
		return err
	case len(f.entries)+len(f.skipped) >= MaxEntries || f.names > maxNames:
		return ErrTooManyEntries
	case !utf8.ValidString(name) || len(name) > maxPath:
		return f.skip(name, d, "a name that cannot be sent")
	case strings.Count(name, "/") >= maxDepth:
		return f.skip(name, d, fmt.Sprintf("more than %d folders deep", maxDepth))
	case !d.IsDir() && !d.Type().IsRegular():
		return f.skip(name, d, kindOf(d.Type()))
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	e := entry{name: name, header: f.size, seconds: info.ModTime().Unix()}
	if d.IsDir() {
		e.name += "/"
	} else {
		e.size, e.readOnly = info.Size(), info.Mode()&0o200 == 0
	}
	header, err := e.tarHeader()
	if err != nil {
		return err
	}
	e.content = e.header + int64(len(header))
	f.entries, f.size = append(f.entries, e), e.end()
	return nil
}

// skip leaves something out, and what is in it.
func (f *folder) skip(name string, d fs.DirEntry, why string) error {
	f.skipped = append(f.skipped, fmt.Sprintf("%q: %s", name, why))
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// tarHeader returns what stands before the bytes of an entry.
func (e *entry) tarHeader() ([]byte, error) {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: e.size, Mode: 0o600, ModTime: time.Unix(e.seconds, 0)}
	switch {
	case e.isDir():
		h.Typeflag, h.Mode = tar.TypeDir, 0o700
	case e.readOnly:
		h.Mode = 0o400
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return nil, fmt.Errorf("describe %q: %w", e.name, err)
	}
	return b.Bytes(), nil
}

// Size is that of the archive.
func (f *folder) Size() int64 { return f.size }

func (f *folder) Close() error { return f.root.Close() }

// ReadAt reads the archive. file.ErrChanged if a file is gone or shorter than planned; one
// that is longer is read as far as planned.
func (f *folder) ReadAt(p []byte, off int64) (n int, err error) {
	i := sort.Search(len(f.entries), func(i int) bool { return f.entries[i].end() > off })
	for n < len(p) && off < f.size {
		var took int
		if i < len(f.entries) {
			took, err = f.readEntry(&f.entries[i], p[n:], off)
			i++
		} else {
			took = zero(p[n:], f.size-off)
		}
		n, off = n+took, off+int64(took)
		if err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readEntry reads from the place off on to the end of an entry, or of p.
func (f *folder) readEntry(e *entry, p []byte, off int64) (n int, err error) {
	if off < e.content {
		header, err := e.tarHeader()
		if err != nil {
			return 0, err
		}
		n = copy(p, header[off-e.header:])
		off += int64(n)
	}
	if rest := e.content + e.size - off; rest > 0 && n < len(p) {
		want := min(rest, int64(len(p)-n))
		took, err := f.readFile(e.name, p[n:n+int(want)], off-e.content)
		n, off = n+took, off+int64(took)
		if err != nil {
			return n, err
		}
	}
	return n + zero(p[n:], e.end()-off), nil
}

func (f *folder) readFile(name string, p []byte, off int64) (int, error) {
	in, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a pipe by now
	if err != nil {
		return 0, fmt.Errorf("%w: %w", file.ErrChanged, err)
	}
	defer in.Close()
	n, err := in.ReadAt(p, off)
	if errors.Is(err, io.EOF) && n < len(p) {
		return n, fmt.Errorf("%q is shorter: %w", path.Base(name), file.ErrChanged)
	}
	if n == len(p) {
		err = nil
	}
	return n, err
}

// zero writes zeros, at most so many.
func zero(p []byte, most int64) int {
	n := int(min(most, int64(len(p))))
	clear(p[:n])
	return n
}
