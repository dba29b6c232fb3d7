package api

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Names in a data directory.
const (
	SocketName = "parley.sock" // where a running node listens
	SocketFile = "socket"      // holds the socket's path, where that is too long for SocketName
)

// MaxSocketPath is the longest path of a unix socket, in bytes, that every
// system we know accepts.
const MaxSocketPath = 100

// socketPath finds the socket of the node that runs in dir, if one does.
func socketPath(dir string) (string, error) {
	file, err := os.Open(filepath.Join(dir, SocketFile))
	if errors.Is(err, os.ErrNotExist) {
		return filepath.Join(dir, SocketName), nil
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	path, err := io.ReadAll(io.LimitReader(file, MaxSocketPath+1))
	return strings.TrimSuffix(string(path), "\n"), err
}
