package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	write := func(text string, fails error) func(io.Writer) error {
		return func(w io.Writer) error {
			if _, err := io.WriteString(w, text); err != nil {
				return err
			}
			return fails
		}
	}
	broken := errors.New("broken")
	is := func(want string) {
		t.Helper()
		got, err := os.ReadFile(path)
		if want == "" && errors.Is(err, os.ErrNotExist) {
			return
		}
		if string(got) != want {
			t.Errorf("the file holds %q (%v), want %q", got, err, want)
		}
	}
	if err := writeNew(path, false, write("half", broken)); !errors.Is(err, broken) {
		t.Errorf("broken off: %v", err)
	}
	is("")
	if err := writeNew(path, false, write("first", nil)); err != nil {
		t.Fatal(err)
	}
	is("first")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := writeNew(path, false, write("second", nil)); explain(err).code != exitConflict {
		t.Errorf("over a file: %v", err)
	}
	is("first")
	if err := writeNew(path, true, write("half", broken)); !errors.Is(err, broken) {
		t.Errorf("broken off: %v", err)
	}
	is("first")
	if err := writeNew(path, true, write("third", nil)); err != nil {
		t.Fatal(err)
	}
	is("third")
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Errorf("left over: %v, %v", list, err)
	}
	if err := writeNew(filepath.Join(dir, "none", "file"), false, write("x", nil)); err == nil {
		t.Error("into a folder that is not there")
	}
}
