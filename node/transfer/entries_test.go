package transfer

import (
	"errors"
	"testing"
)

func TestFolderOfTooMany(t *testing.T) {
	f := &folder{entries: make([]entry, MaxEntries-1), skipped: []string{"a socket"}}
	if err := f.plan("one more", nil, nil); !errors.Is(err, ErrTooManyEntries) {
		t.Error(err)
	}
}
