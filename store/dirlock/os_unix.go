//go:build linux || darwin || freebsd

package dirlock

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Take keeps other processes out of dir until the file it returns is closed. The
// kernel releases the lock also when the process ends, however it ends. ErrHeld
// names the process that has it.
func Take(dir string) (*os.File, error) {
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
		return nil, fmt.Errorf("%w by process %s", ErrHeld, strings.TrimSpace(string(pid)))
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
