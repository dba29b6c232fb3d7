package transfer

import (
	"errors"
	"fmt"
	"path"
	"syscall"
)

// ErrDiskFull is returned when what is received does not fit. What there is of it stays:
// it goes on once there is room.
var ErrDiskFull = errors.New("there is not enough room on the disk")

// onDisk says what failed on the disk, and that it is full if it is.
func onDisk(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%s: %w: %w", what, ErrDiskFull, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// numbered returns the i-th name to try for a file: name.ext, name (1).ext, ...
func numbered(name string, i int) string {
	if i == 0 {
		return name
	}
	ext := path.Ext(name)
	stem := name[:len(name)-len(ext)]
	if stem == "" { // .profile
		stem, ext = name, ""
	}
	return fmt.Sprintf("%s (%d)%s", stem, i, ext)
}
