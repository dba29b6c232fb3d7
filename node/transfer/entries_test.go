package transfer

import (
	"archive/tar"
	"errors"
	"strings"
	"testing"
)

// What is too much is refused before anything is done with it.
func TestFolderOfTooMany(t *testing.T) {
	f := &folder{entries: make([]entry, MaxEntries-1), skipped: []string{"a socket"}}
	if err := f.plan("one more", nil, nil); !errors.Is(err, ErrTooManyEntries) {
		t.Error(err)
	}
	f = &folder{names: maxNames}
	if err := f.plan("one more", nil, nil); !errors.Is(err, ErrTooManyEntries) {
		t.Error(err)
	}
	u := &unpacker{entries: MaxEntries}
	if err := u.take(t.Context(), &tar.Header{Name: "one more"}, strings.NewReader("")); !errors.Is(err, ErrTooManyEntries) {
		t.Error(err)
	}
}
