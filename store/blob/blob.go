// Package blob keeps the bodies of blobs, each in a file that only grows. What is known
// of a blob is elsewhere: see store.Blobs.
//
// How much of a body counts is not for its file to say but for store.Blobs, which is told
// after a Sync: what lies behind that is cut off when the body grows on. So a crash at any
// moment costs only bytes that nobody was told are here; and where the two do not agree,
// because one of them was set back, what both have counts.
package blob

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/disk"
)

// spare is what stays free of a disk of total bytes, so that what matters more is still
// stored: 1 GiB, of a disk below 10 GiB a tenth. It is always more than what the rows'
// store wants free, which else would take nothing any more.
func spare(total int64) int64 {
	return max(min(1<<30, total/10), min(512<<20, total/3))
}

// Bodies are the bodies below one directory. It may be used from several goroutines, but
// one body may only be grown, or removed, by one at a time.
type Bodies struct {
	dir   string
	space func(dir string) (free, total int64)

	mu       sync.Mutex
	reserved int64 // bytes that bodies may still grow by
}

// Open prepares a directory, which nobody else uses.
func Open(dir string) (*Bodies, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of blobs: %w", err)
	}
	return &Bodies{dir: dir, space: disk.Space}, disk.SyncDir(filepath.Dir(dir))
}

func (b *Bodies) path(name store.BlobName) string {
	s := name.String()
	return filepath.Join(b.dir, s[:2], s)
}

// Room is space on the disk that one body may grow into. It is for one goroutine.
type Room struct {
	b    *Bodies
	left int64
}

// Reserve keeps room for so many bytes, until it is released. It returns store.ErrFull if
// all that is reserved would leave less than is to stay free.
func (b *Bodies) Reserve(bytes int64) (*Room, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fits(bytes); err != nil {
		return nil, err
	}
	b.reserved += bytes
	return &Room{b, bytes}, nil
}

// fits looks at the disk, for the holder of mu.
func (b *Bodies) fits(more int64) error {
	if free, total := b.space(b.dir); free-b.reserved-more < spare(total) {
		return fmt.Errorf("find room for %d bytes of blobs: %w", b.reserved+more, store.ErrFull)
	}
	return nil
}

// Used says that so many bytes of the room were written.
func (r *Room) Used(bytes int64) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	bytes = min(bytes, r.left)
	r.left -= bytes
	r.b.reserved -= bytes
}

// Check returns store.ErrFull if others have filled the disk meanwhile.
func (r *Room) Check() error {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return r.b.fits(0)
}

// Release gives back what was not used.
func (r *Room) Release() { r.Used(r.left) }

// Len returns how long a body is; 0 if there is none.
func (b *Bodies) Len(name store.BlobName) (int64, error) {
	info, err := os.Stat(b.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at the body of a blob: %w", err)
	}
	return info.Size(), nil
}

// Open opens a body for reading.
func (b *Bodies) Open(name store.BlobName) (*os.File, error) {
	f, err := os.Open(b.path(name))
	if err != nil {
		return nil, fmt.Errorf("open the body of a blob: %w", err)
	}
	return f, nil
}

// Remove deletes a body, if there is one.
func (b *Bodies) Remove(name store.BlobName) error {
	if err := os.Remove(b.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the body of a blob: %w", err)
	}
	return nil
}

// All yields the names of all bodies. After an error it ends.
func (b *Bodies) All() iter.Seq2[store.BlobName, error] {
	return func(yield func(store.BlobName, error) bool) {
		for i := range 256 {
			entries, err := os.ReadDir(filepath.Join(b.dir, fmt.Sprintf("%02x", i)))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				yield(store.BlobName{}, fmt.Errorf("list the bodies of blobs: %w", err))
				return
			}
			for _, e := range entries {
				name, err := hex.DecodeString(e.Name())
				if err != nil || len(name) != len(store.BlobName{}) {
					continue // not ours
				}
				if !yield(store.BlobName(name), nil) {
					return
				}
			}
		}
	}
}

// Growing is a body that is written to. Nothing counts before Sync.
type Growing struct {
	f    *os.File
	size int64
	path string
	made bool // its name, or that of its folder, may not be durable
}

// Grow opens a body to be continued behind its first have bytes, or behind all it has if
// those are fewer; what follows is cut off. The caller closes it.
func (b *Bodies) Grow(name store.BlobName, have int64) (*Growing, error) {
	path := b.path(name)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make a folder of blobs: %w", full(err))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the body of a blob: %w", full(err))
	}
	size, err := cut(f, have)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cut the body of a blob: %w", err), f.Close())
	}
	return &Growing{f: f, size: size, path: path, made: size == 0}, nil
}

func cut(f *os.File, have int64) (size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size = min(have, info.Size())
	if err := f.Truncate(size); err != nil {
		return 0, err
	}
	_, err = f.Seek(size, 0)
	return size, err
}

// Len returns how long the body is.
func (g *Growing) Len() int64 { return g.size }

// Write implements io.Writer. The error wraps store.ErrFull if the disk is.
func (g *Growing) Write(p []byte) (int, error) {
	n, err := g.f.Write(p)
	g.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("write the body of a blob: %w", full(err))
	}
	return n, nil
}

// Sync makes durable what was written. After an error nothing written since the last one
// counts: the body is to be opened again.
func (g *Growing) Sync() error {
	if err := g.f.Sync(); err != nil {
		return fmt.Errorf("sync the body of a blob: %w", full(err))
	}
	if g.made {
		folder := filepath.Dir(g.path)
		if err := errors.Join(disk.SyncDir(folder), disk.SyncDir(filepath.Dir(folder))); err != nil {
			return err
		}
		g.made = false
	}
	return nil
}

// Close implements io.Closer. It makes nothing durable.
func (g *Growing) Close() error { return g.f.Close() }

func full(err error) error {
	if disk.Full(err) {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}
