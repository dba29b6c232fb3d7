//go:build linux || darwin || freebsd

package badger

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/parley-chat/parley/store"
)

// lockDir keeps other processes out, also while Badger is not open yet. The
// kernel releases the lock when the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "holder"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer file.Close()
		if err != syscall.EWOULDBLOCK {
			return nil, fmt.Errorf("lock: %w", err)
		}
		pid, _ := io.ReadAll(io.LimitReader(file, 20))
		return nil, fmt.Errorf("%w: process %s", store.ErrLocked, strings.TrimSpace(string(pid)))
	}
	if err := file.Truncate(0); err != nil {
		file.Close()
		return nil, err
	}
	if _, err := fmt.Fprintln(file, os.Getpid()); err != nil {
		file.Close()
		return nil, fmt.Errorf("note the process id: %w", err)
	}
	return file, nil
}

// diskSpace returns what an ordinary user may still write, and the size of the
// disk; both endless when the system does not tell.
func diskSpace(dir string) (free, total int64) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return math.MaxInt64, math.MaxInt64
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize)
}
