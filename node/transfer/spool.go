package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store/disk"
)

// Spool reads what cannot be read twice, a pipe, to its end, and keeps it sealed in the
// file at path, which must not exist. It returns how to describe it, and its list. When
// it fails nothing is left.
func Spool(ctx context.Context, r io.Reader, path, name string) (d *file.Descriptor, l file.List, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("keep what is to be sent: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	sealer, size := file.New(), int64(0)
	buf := make([]byte, file.PieceSize, file.SealedPieceSize)
	for last := false; !last; {
		n, err := io.ReadFull(stopping{ctx, r}, buf[:file.PieceSize])
		last = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if size += int64(n); size > file.MaxSize {
			return nil, nil, ErrTooLarge
		}
		if err != nil && !last {
			return nil, nil, fmt.Errorf("read what is to be sent: %w", err)
		}
		sealed, err := sealer.Seal(len(l), buf[:n])
		if err != nil {
			return nil, nil, err
		}
		l = append(l, file.HashPiece(sealed))
		if err := room(filepath.Dir(path), int64(len(sealed))); err != nil {
			return nil, nil, err
		}
		if _, err := f.Write(sealed); err != nil {
			return nil, nil, onDisk("keep what is to be sent", err)
		}
	}
	if err := ctx.Err(); err != nil { // then the end may be that of who writes
		return nil, nil, err
	}
	if err := errors.Join(f.Sync(), disk.SyncDir(filepath.Dir(path))); err != nil {
		return nil, nil, onDisk("keep what is to be sent", err)
	}
	d, err = sealer.Describe(name, size, l)
	return d, l, err
}

// Spooled is a file that Spool kept.
type Spooled struct {
	f    *os.File
	size int64
	list file.List
}

// OpenSpooled opens what Spool kept.
func OpenSpooled(path string, d *file.Descriptor, l file.List) (*Spooled, error) {
	if err := d.CheckList(l); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open what is to be sent: %w", err)
	}
	return &Spooled{f, d.Size, l}, nil
}

// Piece reads sealed piece k. See Pieces.
func (s *Spooled) Piece(k int, buf []byte) ([]byte, error) {
	if k < 0 || k >= len(s.list) {
		return nil, fmt.Errorf("%w: piece %d of %d", file.ErrMalformed, k, len(s.list))
	}
	sealed := buf[:file.SealedLen(s.size, k)]
	if _, err := s.f.ReadAt(sealed, int64(k)*file.SealedPieceSize); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read piece %d: %w", k, err)
	}
	if !s.list.Holds(k, sealed) {
		return nil, fmt.Errorf("piece %d: %w", k, file.ErrChanged)
	}
	return sealed, nil
}

// Close closes the file.
func (s *Spooled) Close() error { return s.f.Close() }
