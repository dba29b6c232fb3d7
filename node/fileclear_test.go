package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
)

// What is left of a file is not deleted while it is fetched, but what lies in another folder
// is: it may be what takes the room.
func TestClearingLeavesWhatIsFetched(t *testing.T) {
	f := newFiles(nil, 0)
	at, other := engine.FileRef{Position: 1}, engine.FileRef{Position: 2}
	into, before := t.TempDir(), t.TempDir()
	same := filepath.Join(before, "link")
	if err := os.Symlink(into, same); err != nil {
		t.Fatal(err)
	}
	f.jobs[at] = &fetchJob{file: engine.File{Path: into}}
	for _, e := range []engine.FileEnd{{FileRef: at, Part: into}, {FileRef: at, Part: same}, {FileRef: at}} {
		if f.claim(e) {
			t.Errorf("claimed while it is fetched: %+v", e)
		}
	}
	if !f.claim(engine.FileEnd{FileRef: at, Part: before}) || !f.claim(engine.FileEnd{FileRef: other}) || !f.clearing[other] {
		t.Error("not claimed")
	}
	f.unclaim(other)
	if f.clearing[other] {
		t.Error("it stays claimed")
	}
	select {
	case <-f.change:
	default:
		t.Error("nobody looks whether it is to be fetched")
	}
}

// The log has no names of files, and users are told no errors of the system.
func TestErrorsOfFiles(t *testing.T) {
	const name = "/home/me/divorce.pdf"
	_, missing := os.Open(name)
	link := os.Link(name, name+".2")
	for _, err := range []error{missing, link, fmt.Errorf("read piece 3: %w", missing), errors.Join(errors.New("other"), missing)} {
		if text := withoutNames(err).Error(); strings.Contains(text, "divorce") || !errors.Is(withoutNames(err), fs.ErrNotExist) {
			t.Errorf("%v in the log: %s", err, text)
		}
		if text := problemOf(err); text != "it is not there any more" {
			t.Errorf("%v for users: %s", err, text)
		}
	}
	full := fmt.Errorf("write %s: %w", name, transfer.ErrDiskFull)
	if text := problemOf(full); !strings.Contains(text, "make room") || strings.Contains(text, name) {
		t.Error(text)
	}
}
