package web

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/parley-chat/parley/node/api"
)

// listen opens the socket in dir. Where its path would be too long, it is made
// in a new private directory for temporary files, and a file in dir says where.
func listen(dir string) (net.Listener, error) {
	pointer := filepath.Join(dir, api.SocketFile)
	path := filepath.Join(dir, api.SocketName)
	for _, stale := range []string{pointer, path} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove the socket of an earlier run: %w", err)
		}
	}
	if len(path) <= api.MaxSocketPath {
		l, err := listenAt(path)
		if err != nil {
			return nil, err
		}
		return &listener{UnixListener: l}, nil
	}
	short, err := os.MkdirTemp("", "parley-") // mode 0700
	if err != nil {
		return nil, err
	}
	l, err := listenAt(filepath.Join(short, api.SocketName))
	if err == nil {
		err = os.WriteFile(pointer, []byte(l.Addr().String()+"\n"), 0o600)
	}
	if err != nil {
		os.RemoveAll(short)
		return nil, err
	}
	return &listener{UnixListener: l, cleanup: []string{pointer, short}}, nil
}

func listenAt(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// listener lets in only processes of the user that this one runs as.
type listener struct {
	*net.UnixListener
	cleanup []string // removed after the socket
	once    sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && uid == os.Getuid() {
			return conn, nil
		}
		conn.Close()
	}
}

// Close closes and removes the socket.
func (l *listener) Close() error {
	err := l.UnixListener.Close()
	l.once.Do(func() {
		for _, path := range l.cleanup {
			os.Remove(path)
		}
	})
	return err
}
