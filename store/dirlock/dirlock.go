// Package dirlock gives a directory to one process.
package dirlock

import "errors"

// ErrHeld is returned while another process has the directory.
var ErrHeld = errors.New("held")
