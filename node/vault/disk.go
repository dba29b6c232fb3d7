package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/parley-chat/parley/store/disk"
)

// What a file that is being replaced leaves beside it, if a crash comes then.
const (
	newSuffix = ".new" // its successor
	oldSuffix = ".old" // itself, under a second name
)

// create puts a file in place where there is none: the whole of it or, after a
// crash, nothing. The error is fs.ErrExist if there is one.
func create(path string, b []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+newSuffix+"-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := fill(temp, b); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil { // unlike a rename, it replaces nothing
		return err
	}
	return disk.SyncDir(filepath.Dir(path))
}

// replace puts a file in the place of another, if there is one: after a crash
// either the one or the other is there, whole. What the old one held is
// overwritten. The caller sees to it that nobody else replaces it too.
//
// An error may come after the new file is in place.
func replace(path string, b []byte) error {
	if err := tidy(path); err != nil {
		return err
	}
	file, err := os.OpenFile(path+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := fill(file, b); err != nil {
		return err
	}
	if err := os.Link(path, path+oldSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return err
	}
	if err := disk.SyncDir(filepath.Dir(path)); err != nil {
		return err
	}
	return tidy(path)
}

// tidy destroys what replacing a file has left beside it.
func tidy(path string) error {
	for _, left := range []string{path + newSuffix, path + oldSuffix} {
		info, err := os.Stat(left)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		// A crash may have come between the second name and the rename.
		if now, err := os.Stat(path); err == nil && os.SameFile(info, now) {
			err = os.Remove(left)
			if err := errors.Join(err, disk.SyncDir(filepath.Dir(path))); err != nil {
				return err
			}
			continue
		}
		// That it was renamed must be durable before the old one is destroyed.
		if err := disk.SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
		if err := shred(left); err != nil {
			return err
		}
	}
	return nil
}

// shred overwrites a file and unlinks it, the latter in any case. That a
// magnetic disk forgets the old bytes is as sure as its file system writes in
// place. Flash memory does not: it writes elsewhere and erases when it likes,
// and so do file systems that copy on write, and their snapshots. There the
// bytes stay for an unknown time, for somebody who takes the chips apart or has
// the snapshot.
func shred(path string) error {
	return errors.Join(overwrite(path), os.Remove(path), disk.SyncDir(filepath.Dir(path)))
}

func overwrite(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = file.WriteAt(make([]byte, size), 0)
	}
	return errors.Join(err, file.Sync(), file.Close())
}

// fill writes a new file and makes it durable.
func fill(file *os.File, b []byte) error {
	_, err := file.Write(b)
	return errors.Join(err, file.Sync(), file.Close())
}

// privateDir refuses a directory that others than its owner may look into.
func privateDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w in %s", ErrNoVault, dir)
	}
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%w: others may use %s (mode %04o): run chmod 700 on it", ErrExposed, dir, info.Mode().Perm())
	}
	return nil
}
