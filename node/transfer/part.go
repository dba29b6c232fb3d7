package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store/disk"
)

// Part is a file that is being received. It lies hidden in the folder where it will be,
// as .NAME.TAG.part, and what is in there is all that is known of how far it came. Its
// methods are safe for parallel use, but for Close, which comes last.
type Part struct {
	d      *file.Descriptor
	pieces *file.Pieces
	root   *os.Root
	temp   string // its name in root
	f      *os.File

	mu      sync.Mutex
	have    []bool
	missing int   // pieces
	done    int64 // bytes that are here
}

// OpenPart begins to receive the file that d describes into a folder, which must exist,
// or goes on with what is there of it. The tag is of at most 39 bytes and no other file's
// that is received into the folder: descriptors are written by others, and two of them may
// have one id. Check must come next.
func OpenPart(folder, tag string, d *file.Descriptor, l file.List) (*Part, error) {
	pieces, err := d.Pieces(l)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open the folder for received files: %w", err)
	}
	p := &Part{
		d: d, pieces: pieces, root: root, temp: tempName(d.Name, tag),
		have: make([]bool, len(l)), missing: len(l),
	}
	if p.f, err = openTemp(root, p.temp); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return p, nil
}

// openTemp opens a regular file or makes one, and nothing else that may lie there.
func openTemp(root *os.Root, name string) (*os.File, error) {
	before, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, onDisk("make a file to receive into", err)
		}
		return f, nil
	case err != nil:
		return nil, fmt.Errorf("look for what was received: %w", err)
	case !before.Mode().IsRegular():
		return nil, fmt.Errorf("%s is %s and in the way: remove it", name, kindOf(before.Mode()))
	}
	f, err := root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open what was received: %w", err)
	}
	if now, err := f.Stat(); err != nil || !os.SameFile(before, now) {
		return nil, errors.Join(fmt.Errorf("%s was replaced while it was opened", name), err, f.Close())
	}
	return f, nil
}

// Check finds out which pieces are here: it seals what is there and compares with the
// list. Then it looks whether there is room for the others: ErrDiskFull. progress,
// unless nil, is told how many bytes it has looked at, by several at once.
//
// After a crash the hidden file may have its final name as well. If it is not whole then,
// somebody works with it already, and the file is received once more.
func (p *Part) Check(ctx context.Context, progress func(done int64)) error {
	info, err := p.f.Stat()
	if err != nil {
		return fmt.Errorf("look at what was received: %w", err)
	}
	var seen atomic.Int64
	here := int(min(info.Size(), p.d.Size)/file.PieceSize) + 1 // one of a shorter length is not the list's
	err = eachPiece(ctx, min(here, len(p.have)), func(k int, buf []byte) error {
		defer func() { tell(progress, seen.Add(int64(file.PlainLen(p.d.Size, k)))) }()
		start, end := int64(k)*file.PieceSize, int64(k)*file.PieceSize+int64(file.PlainLen(p.d.Size, k))
		if nextData(p.f, start, end) >= end && end > start {
			return nil // a hole: never written
		}
		plain, err := readPiece(p.f, p.d.Size, k, buf)
		if err == nil {
			_, err = p.pieces.Seal(k, plain)
		}
		switch {
		case errors.Is(err, file.ErrChanged):
			return nil
		case err == nil:
			p.mark(k)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("check what was received: %w", err)
	}
	if whole := p.Missing() == 0 && info.Size() == p.d.Size; !whole && disk.HasNames(info) {
		if err := p.beginAnew(); err != nil {
			return err
		}
	}
	need := p.d.Size - p.Done()
	if p.d.Folder { // the archive, and what is in it
		need += p.d.Size
	}
	if need == 0 {
		return nil
	}
	return p.room(need)
}

// room returns ErrDiskFull if so many bytes more do not fit where the file goes.
func (p *Part) room(more int64) error { return room(p.root.Name(), more) }

// beginAnew leaves the file that lies open to its other name.
func (p *Part) beginAnew() (err error) {
	if err := errors.Join(p.f.Close(), p.root.Remove(p.temp)); err != nil {
		return fmt.Errorf("begin to receive anew: %w", err)
	}
	clear(p.have)
	p.missing, p.done = len(p.have), 0
	p.f, err = openTemp(p.root, p.temp)
	return err
}

// Write takes sealed piece k: it is compared with the list, opened in its place, and
// written. file.ErrWrongPiece: whoever gave it lied. file.ErrUnreadable: whoever
// described the file did. ErrDiskFull, and others of the disk.
func (p *Part) Write(k int, sealed []byte) error {
	plain, err := p.pieces.Open(k, sealed)
	if err != nil {
		return err
	}
	if err := p.room(int64(len(plain))); err != nil {
		return err
	}
	if _, err := p.f.WriteAt(plain, int64(k)*file.PieceSize); err != nil {
		return onDisk("write what was received", err)
	}
	p.mark(k)
	return nil
}

func (p *Part) mark(k int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.have[k] {
		p.have[k] = true
		p.missing--
		p.done += int64(file.PlainLen(p.d.Size, k))
	}
}

// Has tells whether piece k is here.
func (p *Part) Has(k int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.have[k]
}

// Missing tells how many pieces are not here.
func (p *Part) Missing() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.missing
}

// Done tells how many bytes of the file are here.
func (p *Part) Done() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Close ends receiving for now. What is here stays, for OpenPart to go on with.
func (p *Part) Close() error { return errors.Join(p.f.Close(), p.root.Close()) }
