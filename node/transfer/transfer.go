// Package transfer moves files: it seals what is sent piece by piece out of the file
// where it lies (Original), and puts together what is received in a hidden file that
// gets its name when the last piece was verified (Part, Fetch).
//
// It knows no network and no store. Where pieces come from is a Source; what is to be
// remembered is the descriptor (protocol/file) and a path: both ends begin again from
// what is on disk, so there is nothing else that a crash could lose.
//
// It must not let a sealed piece out whose hash is not in the list: the file may have
// changed since, and sealing other bytes with the same key and nonce would give the key
// stream away. It must not put anything under a final name that is not whole.
package transfer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Content is the bytes of a file to be sent. It can be read anywhere at any time, by
// several at once.
type Content interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// ErrNotSendable is returned for what is neither a regular file nor a folder.
var ErrNotSendable = errors.New("only files and folders can be sent")

// Open opens what is to be sent: a regular file, or a folder, of which skipped says in a
// line each what is left out. The name of the file is not its business.
func Open(path string) (c Content, skipped []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("look at what is to be sent: %w", err)
	}
	switch {
	case info.IsDir():
		f, err := openFolder(path)
		if err != nil {
			return nil, nil, err
		}
		return f, f.skipped, nil
	case !info.Mode().IsRegular(): // before it is opened: opening a pipe waits for who writes to it
		return nil, nil, fmt.Errorf("%q is %s: %w", path, kindOf(info.Mode()), ErrNotSendable)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open what is to be sent: %w", err)
	}
	return &plainFile{f, info.Size()}, nil, nil
}

// plainFile is a regular file, as long as it was when it was opened.
type plainFile struct {
	*os.File
	size int64
}

func (f *plainFile) Size() int64 { return f.size }

func kindOf(m fs.FileMode) string {
	switch m.Type() {
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a pipe"
	case fs.ModeSocket:
		return "a socket"
	case fs.ModeDir:
		return "a folder"
	case 0:
		return "a file"
	}
	return "a device"
}
