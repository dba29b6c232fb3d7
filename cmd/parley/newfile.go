package main

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// writeNew makes a file that only its owner may read, whole or not at all. It
// leaves alone what is there already, unless force is set.
func writeNew(path string, force bool, fill func(io.Writer) error) (err error) {
	place, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist) && !force:
		return fileExists(path)
	case err == nil:
		place.Close()
		defer func() { // the empty file that kept the name
			if err != nil {
				os.Remove(path)
			}
		}()
	case !errors.Is(err, fs.ErrExist):
		return fail(exitError, "%v", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".parley-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already if all went well
	out := bufio.NewWriterSize(file, 64<<10)
	if err := fill(out); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := errors.Join(out.Flush(), file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in dir durable, where the system can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	d.Sync() // some file systems cannot
	return d.Close()
}

func fileExists(path string) error {
	return fail(exitConflict, "there is a file %s already", path).hint("choose another name, or replace it with --force")
}
