package badger

import (
	"os"
	"syscall"
)

// hold gives a file its space without writing it, where the file system can and does.
func hold(file *os.File, size int64) bool {
	if err := syscall.Fallocate(int(file.Fd()), 0, 0, size); err != nil {
		return false
	}
	var st syscall.Stat_t
	err := syscall.Fstat(int(file.Fd()), &st)
	return err == nil && st.Blocks*512 >= size // some say yes and hold nothing
}
