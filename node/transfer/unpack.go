package transfer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"github.com/parley-chat/parley/protocol/file"
)

// ErrBadFolder is returned for an archive that is not one of ours: entries that are
// neither file nor folder, names that lead elsewhere, more bytes than it may unpack to.
var ErrBadFolder = errors.New("what was received is not a folder that can be unpacked safely")

const (
	sameNames  = 100     // names that are tried for one entry
	copyStep   = 1 << 18 // bytes
	entryBytes = 4096    // that an entry takes on a disk besides its content
)

// unpack fills root, which is empty, with what is in an archive of so many bytes. Names
// are cleaned, nothing is overwritten, and all files together are no longer than the
// archive is: one that says more is refused. room is asked before anything is written.
func unpack(ctx context.Context, root *os.Root, archive io.Reader, size int64, room func(more int64) error) error {
	u := &unpacker{root: root, room: room, open: []*opened{newOpened(".", ".", time.Time{})}, left: size, buf: make([]byte, copyStep)}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return u.goInto(".")
		case err != nil:
			return fmt.Errorf("%w: %w", ErrBadFolder, err)
		}
		if err := u.take(ctx, h, r); err != nil {
			return err
		}
	}
}

type unpacker struct {
	root    *os.Root
	room    func(more int64) error
	open    []*opened // the root, a folder in it, and so on to the one that is filled just now
	entries int       // so far
	left    int64     // bytes that may still be unpacked
	buf     []byte
}

// opened is a folder that is filled just now, or in which that is.
type opened struct {
	name, here string // as the archive calls it, and as it is called here
	at         time.Time
	next       map[string]int // of clean names that were taken: the number to try next
}

func newOpened(name, here string, at time.Time) *opened {
	return &opened{name, here, at, map[string]int{}}
}

// in is the folder that is filled.
func (u *unpacker) in() *opened { return u.open[len(u.open)-1] }

// goInto leaves folders until the one that the archive calls so is filled. A folder gets
// its time when it is left: what is put into it changes that.
func (u *unpacker) goInto(name string) error {
	for u.in().name != name {
		done := u.in()
		if len(u.open) == 1 {
			return fmt.Errorf("%w: what comes next is in %.100q", ErrBadFolder, name)
		}
		if err := u.root.Chtimes(done.here, time.Time{}, done.at); err != nil {
			return fmt.Errorf("set the time of %s: %w", done.here, err)
		}
		u.open = u.open[:len(u.open)-1]
	}
	return nil
}

// take unpacks one entry.
func (u *unpacker) take(ctx context.Context, h *tar.Header, content io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if u.entries++; u.entries > MaxEntries {
		return fmt.Errorf("%w: %w", ErrBadFolder, ErrTooManyEntries)
	}
	name := strings.TrimSuffix(h.Name, "/")
	if name == "" || path.Clean("/"+name) != "/"+name || len(name) > maxPath || strings.Count(name, "/") >= maxDepth {
		return fmt.Errorf("%w: the name %.100q", ErrBadFolder, h.Name)
	}
	if err := u.goInto(path.Dir(name)); err != nil {
		return err
	}
	if u.left -= h.Size; h.Size < 0 || u.left < 0 {
		return fmt.Errorf("%w: its files are larger than itself", ErrBadFolder)
	}
	if err := u.room(h.Size + entryBytes); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		here, err := u.free(name, func(name string) error { return u.root.Mkdir(name, 0o700) })
		if err != nil {
			return err
		}
		u.open = append(u.open, newOpened(name, here, whole(h.ModTime)))
		return nil
	case tar.TypeReg:
		return u.takeFile(ctx, h, content)
	}
	return fmt.Errorf("%w: %.100q is neither file nor folder", ErrBadFolder, h.Name)
}

func (u *unpacker) takeFile(ctx context.Context, h *tar.Header, content io.Reader) (err error) {
	var f *os.File
	here, err := u.free(h.Name, func(name string) (err error) {
		f, err = u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyBuffer(f, stopping{ctx, content}, u.buf); err != nil {
		return onDisk("unpack "+path.Base(here), err)
	}
	if h.Mode&0o200 == 0 {
		if err := f.Chmod(0o400); err != nil {
			return fmt.Errorf("make %s read-only: %w", here, err)
		}
	}
	if err := u.root.Chtimes(here, time.Time{}, whole(h.ModTime)); err != nil {
		return fmt.Errorf("set the time of %s: %w", here, err)
	}
	return syncUnpacked(f)
}

// free makes something in the folder that is filled, under a clean name that is not taken.
func (u *unpacker) free(name string, make func(string) error) (here string, err error) {
	clean, in := file.CleanName(path.Base(name)), u.in()
	for range sameNames {
		here = path.Join(in.here, numbered(clean, in.next[clean]))
		if err = make(here); !errors.Is(err, fs.ErrExist) {
			break
		}
		in.next[clean]++
	}
	if err != nil {
		return "", onDisk("unpack "+clean, err)
	}
	return here, nil
}

// whole is a time as a file system can keep it, in whole seconds.
func whole(t time.Time) time.Time {
	return time.Unix(min(max(t.Unix(), math.MinInt32), math.MaxUint32), 0)
}

// stopping is a reader that ends with its context. What it reads ends with io.EOF only: for
// a reader of readers io.ErrUnexpectedEOF is an end as well, and for what comes over a
// network it says that the rest did not come.
type stopping struct {
	ctx context.Context
	r   io.Reader
}

func (s stopping) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ended in the middle")
	}
	return n, err
}
