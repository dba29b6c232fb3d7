//go:build !(linux || darwin || freebsd)

package badger

import "math"

// diskSpace does not know: the guard is off.
func diskSpace(string) (free, total int64) { return math.MaxInt64, math.MaxInt64 }
