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
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/protocol/file"
)

// ErrBadFolder is returned for an archive that is not one of ours: entries that are
// neither file nor folder, names that lead elsewhere, more bytes than it may unpack to.
var ErrBadFolder = errors.New("what was received is not a folder that can be unpacked safely")

const (
	sameNames = 100     // entries that may come to the same name when it is cleaned
	copyStep  = 1 << 18 // bytes
)

// unpack fills root, which is empty, with what is in an archive of so many bytes. Names
// are cleaned, nothing is overwritten, and all files together are no longer than the
// archive is: one that says more is refused.
func unpack(ctx context.Context, root *os.Root, archive io.Reader, size int64) error {
	u := &unpacker{root: root, folders: map[string]string{".": "."}, left: size, buf: make([]byte, copyStep)}
	r := tar.NewReader(archive)
	for n := 0; ; n++ {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return u.setTimes()
		case err != nil:
			return fmt.Errorf("%w: %w", ErrBadFolder, err)
		case n >= MaxEntries:
			return fmt.Errorf("%w: %w", ErrBadFolder, ErrTooManyEntries)
		}
		if err := u.take(ctx, h, r); err != nil {
			return err
		}
	}
}

type unpacker struct {
	root    *os.Root
	folders map[string]string // as the archive calls them: what they are called here
	made    []made            // folders, in order
	left    int64             // bytes that may still be unpacked
	buf     []byte
}

type made struct {
	name string
	at   time.Time
}

// take unpacks one entry.
func (u *unpacker) take(ctx context.Context, h *tar.Header, content io.Reader) error {
	name := strings.TrimSuffix(h.Name, "/")
	parent, known := u.folders[path.Dir(name)]
	if name == "" || path.Clean("/"+name) != "/"+name || len(name) > maxPath || !known {
		return fmt.Errorf("%w: the name %.100q", ErrBadFolder, h.Name)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		here, err := u.free(parent, name, func(name string) error { return u.root.Mkdir(name, 0o700) })
		u.folders[name] = here
		u.made = append(u.made, made{here, whole(h.ModTime)})
		return err
	case tar.TypeReg:
		if u.left -= h.Size; h.Size < 0 || u.left < 0 {
			return fmt.Errorf("%w: its files are larger than itself", ErrBadFolder)
		}
		return u.takeFile(ctx, h, parent, content)
	}
	return fmt.Errorf("%w: %.100q is neither file nor folder", ErrBadFolder, h.Name)
}

func (u *unpacker) takeFile(ctx context.Context, h *tar.Header, parent string, content io.Reader) (err error) {
	var f *os.File
	here, err := u.free(parent, h.Name, func(name string) (err error) {
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

// free makes something under a clean name that is not taken.
func (u *unpacker) free(parent, name string, make func(string) error) (here string, err error) {
	clean := file.CleanName(path.Base(name))
	for i := range sameNames {
		here = path.Join(parent, numbered(clean, i))
		if err = make(here); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return "", onDisk("unpack "+clean, err)
	}
	return here, nil
}

// setTimes sets those of the folders, the innermost first: what is put into a folder
// changes its time.
func (u *unpacker) setTimes() error {
	for _, m := range slices.Backward(u.made) {
		if err := u.root.Chtimes(m.name, time.Time{}, m.at); err != nil {
			return fmt.Errorf("set the time of %s: %w", m.name, err)
		}
	}
	return nil
}

// whole is a time as a file system can keep it, in whole seconds.
func whole(t time.Time) time.Time {
	return time.Unix(min(max(t.Unix(), math.MinInt32), math.MaxUint32), 0)
}

// stopping is a reader that ends with its context.
type stopping struct {
	ctx context.Context
	r   io.Reader
}

func (s stopping) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}
