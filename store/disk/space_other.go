//go:build !(linux || darwin || freebsd)

package disk

import (
	"io/fs"
	"math"
)

// Space does not know: both are endless.
func Space(string) (free, total int64) { return math.MaxInt64, math.MaxInt64 }

// HasNames does not know: it is false.
func HasNames(fs.FileInfo) bool { return false }
