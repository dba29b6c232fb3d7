package transfer

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// nextData returns where a file that has holes has bytes, from a place on; end if there
// are none.
func nextData(f *os.File, from, end int64) int64 {
	at, err := unix.Seek(int(f.Fd()), from, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return end
	case err != nil: // this file system does not know of holes
		return from
	}
	return at
}

// syncUnpacked makes one unpacked file durable; here syncTree does all at once.
func syncUnpacked(*os.File) error { return nil }

// syncTree makes all durable that was put into a folder, at every depth.
func syncTree(folder *os.File) error {
	if err := unix.Syncfs(int(folder.Fd())); err != nil {
		return fmt.Errorf("write the unpacked folder to the disk: %w", err)
	}
	return nil
}
