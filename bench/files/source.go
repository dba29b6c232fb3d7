//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// source is something to send.
type source struct {
	what  string
	path  string
	bytes int64
	files int
	sum   []byte
}

// smallest and largest are the sizes of small files, in bytes; there are all in between.
const smallest, largest = 1 << 10, 7 << 10

// makeSources makes the large file and the folder of small files.
func makeSources(dir string, mib, count int) ([]source, error) {
	random := rand.NewChaCha8([32]byte{1})
	large := source{what: fmt.Sprintf("1 file of %d MiB", mib), path: filepath.Join(dir, "large"), bytes: int64(mib) << 20, files: 1}
	small := source{what: fmt.Sprintf("%d files of 1 to 7 KiB", count), path: filepath.Join(dir, "small"), files: count}
	if err := os.MkdirAll(small.path, 0o700); err != nil {
		return nil, err
	}
	if err := fill(large.path, random, large.bytes); err != nil {
		return nil, err
	}
	for i := range count {
		folder := filepath.Join(small.path, fmt.Sprintf("%03d", i/100))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
		n := int64(smallest + i*7919%(largest-smallest+1))
		if err := fill(filepath.Join(folder, fmt.Sprintf("%05d", i)), random, n); err != nil {
			return nil, err
		}
		small.bytes += n
	}
	var errs error
	for _, s := range []*source{&large, &small} {
		var err error
		s.sum, err = sum(s.path)
		errs = errors.Join(errs, err)
	}
	return []source{large, small}, errs
}

func fill(path string, random io.Reader, n int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, random, n)
	return errors.Join(err, f.Close())
}

// same compares a copy with what was sent.
func (s source) same(path string) error {
	got, err := sum(path)
	if err == nil && !bytes.Equal(got, s.sum) {
		err = errors.New("what arrived is not what was sent")
	}
	return err
}

// sum is a hash of all files at a path, with their names.
func sum(root string) ([]byte, error) {
	all := sha256.New()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		one := sha256.New()
		if _, err := io.Copy(one, f); err != nil {
			return err
		}
		fmt.Fprintf(all, "%s %x\n", name, one.Sum(nil))
		return nil
	})
	return all.Sum(nil), err
}
