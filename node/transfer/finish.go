package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store/disk"
)

// finalNames is how many names are tried: name.ext, name (1).ext, ...
const finalNames = 1000

// ErrNoName is returned when a folder is full of files of the same name.
var ErrNoName = errors.New("there are too many files of this name in the folder")

// Finish gives the received file its name, when all pieces are here, and returns where
// it is. It overwrites nothing. Nothing is ever under that name that is not whole and
// durable. A folder is unpacked beside, and then renamed.
//
// The hidden file stays until RemovePart, so that Finish can be repeated after a crash: it
// finds what it did.
func (p *Part) Finish(ctx context.Context) (path string, err error) {
	if n := p.Missing(); n > 0 {
		return "", fmt.Errorf("%d pieces are missing", n)
	}
	temp, err := p.f.Stat()
	if err != nil {
		return "", fmt.Errorf("look at what was received: %w", err)
	}
	if temp.Size() > p.d.Size && !disk.HasNames(temp) { // else it is finished, and somebody added to it
		if err := p.f.Truncate(p.d.Size); err != nil {
			return "", onDisk("finish what was received", err)
		}
	}
	if err := p.f.Sync(); err != nil {
		return "", onDisk("write what was received to the disk", err)
	}
	finish := p.finishFile
	if p.d.Folder {
		finish = p.finishFolder
	}
	name, err := finish(ctx, temp)
	if err != nil {
		return "", err
	}
	return filepath.Join(p.root.Name(), name), disk.SyncDir(p.root.Name())
}

// naming makes one Part at a time look for a free name and take it, where that are two steps.
var naming sync.Mutex

// finishFile gives the hidden file, which is temp, its name beside the hidden one.
func (p *Part) finishFile(_ context.Context, temp fs.FileInfo) (string, error) {
	naming.Lock()
	defer naming.Unlock()
	for i := range finalNames {
		name := numbered(p.finalName(), i)
		linkErr := p.root.Link(p.temp, name)
		there, err := p.root.Lstat(name)
		switch {
		case err == nil && os.SameFile(temp, there): // now, or by us before a crash
			return name, nil
		case linkErr == nil:
			return "", fmt.Errorf("%s was replaced while it was named", p.temp)
		case err == nil:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("name the received file: %w", err)
		}
		// A file system without second names. After a crash right now the file is
		// received once more, as name (1).
		if err := p.root.Rename(p.temp, name); err != nil {
			return "", onDisk("name the received file", err)
		}
		return name, nil
	}
	return "", ErrNoName
}

// finalName is what the sender called it, made safe.
func (p *Part) finalName() string { return file.CleanName(p.d.Name) }

// tempName is what a file is called while it is received.
func tempName(name, tag string) string { return "." + file.CleanName(name) + "." + tag + ".part" }

// unpackName is where a folder is unpacked.
func unpackName(temp string) string { return strings.TrimSuffix(temp, "part") + "unpacking" }

// removeTemp removes what there is of a file that is being received.
func removeTemp(root *os.Root, temp string) error {
	err := root.Remove(temp)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, root.RemoveAll(unpackName(temp))); err != nil {
		return fmt.Errorf("remove what was received: %w", err)
	}
	return nil
}

// finishFolder unpacks the received archive and gives the folder its name.
func (p *Part) finishFolder(ctx context.Context, archive fs.FileInfo) (string, error) {
	name, err := p.unpackedBefore(ctx, archive)
	if err != nil || name != "" {
		return name, err
	}
	unpacked := unpackName(p.temp)
	if err := p.root.RemoveAll(unpacked); err != nil { // of before a crash
		return "", fmt.Errorf("make room for unpacking: %w", err)
	}
	if err := p.unpackInto(ctx, unpacked); err != nil {
		return "", errors.Join(err, p.root.RemoveAll(unpacked))
	}
	return p.nameFolder(unpacked)
}

func (p *Part) unpackInto(ctx context.Context, temp string) error {
	if err := p.root.Mkdir(temp, 0o700); err != nil {
		return onDisk("make a folder", err)
	}
	root, err := p.root.OpenRoot(temp)
	if err != nil {
		return fmt.Errorf("open the new folder: %w", err)
	}
	defer root.Close()
	if err := unpack(ctx, root, io.NewSectionReader(p.f, 0, p.d.Size), p.d.Size, p.room); err != nil {
		return err
	}
	dir, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("open the new folder: %w", err)
	}
	defer dir.Close()
	return syncTree(dir)
}

// unpackedBefore returns the name of the very folder that was received, if it was unpacked
// before a crash, and so after the archive was whole; else none.
func (p *Part) unpackedBefore(ctx context.Context, archive fs.FileInfo) (name string, err error) {
	for i := range finalNames {
		name = numbered(p.finalName(), i)
		info, err := p.root.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", nil
		case err != nil:
			return "", fmt.Errorf("look for the received folder: %w", err)
		case info.IsDir() && !info.ModTime().Before(archive.ModTime()) && p.isUnpacked(ctx, name):
			return name, nil
		}
	}
	return "", ErrNoName
}

// nameFolder gives the unpacked folder a name that nothing has.
func (p *Part) nameFolder(unpacked string) (name string, err error) {
	naming.Lock()
	defer naming.Unlock()
	for i := range finalNames {
		name = numbered(p.finalName(), i)
		if _, err := p.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			if err := p.root.Rename(unpacked, name); err != nil {
				return "", onDisk("name the received folder", err)
			}
			return name, nil
		}
	}
	return "", ErrNoName
}

// isUnpacked tells whether a folder is what was received: its archive is the same.
func (p *Part) isUnpacked(ctx context.Context, name string) bool {
	f, err := openFolder(filepath.Join(p.root.Name(), name))
	if err != nil {
		return false
	}
	defer f.Close()
	if f.Size() != p.d.Size || len(f.skipped) > 0 {
		return false
	}
	same := &Original{f, p.d.Size, p.pieces}
	return eachPiece(ctx, len(p.have), func(k int, buf []byte) error {
		_, err := same.Piece(k, buf)
		return err
	}) == nil
}

// RemovePart removes what there is in a folder of a file that is not wanted any more,
// and that no Part has open: name is the one in the descriptor, tag that of OpenPart. That
// there is nothing is success.
func RemovePart(folder, name, tag string) error {
	root, err := os.OpenRoot(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the folder of a part of a file: %w", err)
	}
	defer root.Close()
	return removeTemp(root, tempName(name, tag))
}
