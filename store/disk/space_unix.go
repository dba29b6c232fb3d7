//go:build linux || darwin || freebsd

package disk

import (
	"io/fs"
	"math"
	"syscall"
)

// Space returns how many bytes an ordinary user may still write where dir is, and the
// size of that disk; both endless when the system does not tell.
func Space(dir string) (free, total int64) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return math.MaxInt64, math.MaxInt64
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize)
}

// HasNames tells whether a file has more than one name.
func HasNames(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink > 1
}
