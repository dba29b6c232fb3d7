package transfer

import (
	"errors"
	"fmt"
	"path"

	"github.com/parley-chat/parley/store/disk"
)

// ErrDiskFull is returned when what is received does not fit. What there is of it stays:
// it goes on once there is room.
var ErrDiskFull = errors.New("there is not enough room on the disk")

// onDisk says what failed on the disk, and that it is full if it is.
func onDisk(what string, err error) error {
	if disk.Full(err) {
		return fmt.Errorf("%s: %w: %w", what, ErrDiskFull, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// room returns ErrDiskFull if so many bytes more in a folder would take what its disk keeps
// free: the program's own store may be on it.
func room(folder string, more int64) error {
	free, total := disk.Space(folder)
	spare := disk.Spare(total)
	if lacking := more + spare - free; lacking > 0 {
		return fmt.Errorf("%w: %d MiB are missing; %d MiB of it stay free for messages", ErrDiskFull, lacking>>20+1, spare>>20)
	}
	return nil
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
