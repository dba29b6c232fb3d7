package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store/disk"
)

// sealers is how many pieces of one file are sealed and hashed at a time.
const sealers = 2

// ErrTooLarge is returned for a file of more than file.MaxSize bytes.
var ErrTooLarge = errors.New("files of more than 1 TiB cannot be sent")

// Pieces are the sealed pieces of a file that can be given to others. It is safe for
// parallel use.
type Pieces interface {
	// Piece returns sealed piece k, in the memory of buf if it has a capacity of
	// file.SealedPieceSize. file.ErrChanged if it is not what the list says: then
	// there is nothing to give.
	Piece(k int, buf []byte) ([]byte, error)
	io.Closer
}

// Prepare seals all of a file once, under a key of its own, and returns how to describe
// it, and its list. Nothing sealed is kept: it is sealed again when it is sent. progress,
// unless nil, is told how many bytes are done, by several at once.
func Prepare(ctx context.Context, c Content, name string, progress func(done int64)) (*file.Descriptor, file.List, error) {
	size := c.Size()
	if size > file.MaxSize {
		return nil, nil, ErrTooLarge
	}
	sealer, list := file.New(), make(file.List, file.PieceCount(size))
	var done atomic.Int64
	err := eachPiece(ctx, len(list), func(k int, buf []byte) error {
		plain, err := readPiece(c, size, k, buf)
		if err != nil {
			return err
		}
		n := len(plain)
		sealed, err := sealer.Seal(k, plain)
		if err != nil {
			return err
		}
		list[k] = file.HashPiece(sealed)
		tell(progress, done.Add(int64(n)))
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("prepare the file to be sent: %w", err)
	}
	d, err := sealer.Describe(name, size, list)
	if err != nil {
		return nil, nil, err
	}
	_, d.Folder = c.(*folder)
	return d, list, nil
}

func tell(progress func(int64), done int64) {
	if progress != nil {
		progress(done)
	}
}

// eachPiece calls do for each of n pieces, several at a time, with a buffer that a
// sealed piece fits in.
func eachPiece(ctx context.Context, n int, do func(k int, buf []byte) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(n, sealers) {
		g.Go(func() error {
			buf := make([]byte, 0, file.SealedPieceSize)
			for k := int(next.Add(1)) - 1; k < n; k = int(next.Add(1)) - 1 {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(k, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// readPiece reads piece k of a file, as long as it was.
func readPiece(r io.ReaderAt, size int64, k int, buf []byte) ([]byte, error) {
	plain := buf[:file.PlainLen(size, k)]
	n, err := r.ReadAt(plain, int64(k)*file.PieceSize)
	switch {
	case n == len(plain):
		return plain, nil
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("it is shorter: %w", file.ErrChanged)
	}
	return nil, err
}

// Original is a file that lies open here, as its owner sees it, and is sealed again each
// time a piece of it is given.
type Original struct {
	content Content
	size    int64
	pieces  *file.Pieces
}

// NewOriginal gives the file that d describes out of c, which is closed with it.
// file.ErrChanged if it has another size.
func NewOriginal(c Content, d *file.Descriptor, l file.List) (*Original, error) {
	if c.Size() != d.Size {
		return nil, fmt.Errorf("it has another size: %w", file.ErrChanged)
	}
	pieces, err := d.Pieces(l)
	if err != nil {
		return nil, err
	}
	return &Original{c, d.Size, pieces}, nil
}

// Piece seals piece k again. See Pieces.
func (o *Original) Piece(k int, buf []byte) ([]byte, error) {
	plain, err := readPiece(o.content, o.size, k, buf)
	if err != nil {
		return nil, fmt.Errorf("read piece %d: %w", k, err)
	}
	return o.pieces.Seal(k, plain)
}

// Close closes the file.
func (o *Original) Close() error { return o.content.Close() }

// SaveList keeps the list of a file that is sent or received, durably: a file whose list
// is lost cannot be given to anybody any more.
func SaveList(name string, l file.List) (err error) {
	temp := name + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keep the list of a file: %w", err)
	}
	_, err = f.Write(l.Bytes())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return onDisk("keep the list of a file", err)
	}
	if err := os.Rename(temp, name); err != nil {
		return fmt.Errorf("keep the list of a file: %w", err)
	}
	return disk.SyncDir(filepath.Dir(name))
}

// LoadList reads the list of the file that d describes: the one in it, or else the one
// that SaveList kept.
func LoadList(name string, d *file.Descriptor) (file.List, error) {
	if d.Inline != nil {
		return d.Inline, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the list of a file: %w", err)
	}
	l, err := file.ParseList(b, d.Size)
	if err != nil {
		return nil, err
	}
	return l, d.CheckList(l)
}
