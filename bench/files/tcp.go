//go:build linux

package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// tcpWay sends the bytes over a TCP connection inside this process: what the kernel and
// the disk allow.
func tcpWay(dir string) way {
	into := filepath.Join(dir, "tcp")
	return way{name: "plain TCP", into: into, send: func(ctx context.Context, path string) (cost, error) {
		if err := os.MkdirAll(into, 0o700); err != nil {
			return cost{}, err
		}
		before, err := ownCPU()
		if err != nil {
			return cost{}, err
		}
		began := time.Now()
		if err := sendPlain(ctx, path, filepath.Join(into, filepath.Base(path))); err != nil {
			return cost{}, err
		}
		took := time.Since(began).Seconds()
		after, err := ownCPU()
		return cost{Seconds: took, CPU: after - before}, err
	}}
}

func ownCPU() (float64, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, nil
}

func sendPlain(ctx context.Context, path, to string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		return err
	}
	defer in.Close()
	stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
	defer stop()
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	send, receive := sendFile, receiveFile
	if info.IsDir() {
		send, receive = sendFolder, receiveFolder
	}
	var both errgroup.Group
	both.Go(func() error { return errors.Join(send(out, path), out.Close()) })
	both.Go(func() error { return receive(in, to) })
	return both.Wait()
}

func sendFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func receiveFile(r io.Reader, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

func sendFolder(w io.Writer, root string) error {
	archive := tar.NewWriter(w)
	return errors.Join(archive.AddFS(os.DirFS(root)), archive.Close())
}

func receiveFolder(r io.Reader, path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			syscall.Sync()
			return nil
		}
		if err != nil {
			return err
		}
		if err := unpack(root, h, archive); err != nil {
			return err
		}
	}
}

func unpack(root *os.Root, h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeDir {
		if err := root.Mkdir(filepath.Clean(h.Name), 0o700); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	}
	f, err := root.Create(h.Name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
