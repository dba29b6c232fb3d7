// Package disk tells how much space there is, so that what does not fit is refused before
// the system does, and looks after the names of files.
package disk

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Spare returns how many bytes of a disk of so many what others send in files leaves free:
// more than a store needs to take messages.
func Spare(total int64) int64 { return min(512<<20, total/3) }

// Full tells whether an error of the system says that a disk is full, or what one user may
// have of it.
func Full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// SyncDir makes durable which names a directory has.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open a folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write the names in a folder to the disk: %w", err)
	}
	return nil
}
