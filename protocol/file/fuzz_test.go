package file

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol/wire"
)

func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"", "report.pdf", "../.bashrc", "nul.txt", "a\u202eb", "x . .", "\xff\xfe"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if wrong := clean(s); wrong != "" {
			t.Fatalf("%q became %q: %s", s, CleanName(s), wrong)
		}
	})
}

// A descriptor that is taken is valid, and read again it is the same.
func FuzzFromWire(f *testing.F) {
	for _, size := range []int64{0, PieceSize} {
		d, _, _ := sealAll(f, content(size))
		b, err := proto.Marshal(d.Wire())
		check(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var w wire.File
		if proto.Unmarshal(b, &w) != nil {
			return
		}
		d, err := FromWire(&w)
		if err != nil {
			return
		}
		check(t, d.Validate())
		back, err := FromWire(d.Wire())
		check(t, err)
		if !same(d, back) {
			t.Fatal("read again it is another")
		}
	})
}

func FuzzParseList(f *testing.F) {
	f.Add(make([]byte, 32), int64(0))
	f.Add(make([]byte, 96), int64(2*PieceSize))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		l, err := ParseList(b, size)
		if err == nil && (len(l) != PieceCount(size) || !bytes.Equal(l.Bytes(), b)) {
			t.Fatal("not canonical")
		}
	})
}

// Bytes that were not sealed for this place do not open, even listed.
func FuzzOpen(f *testing.F) {
	plain := content(PieceSize + ChunkSize + 3)
	d, list, pieces := sealAll(f, plain)
	f.Add(1, pieces[1])
	f.Add(1, pieces[1][:sealedChunkSize])
	f.Add(0, []byte{})
	f.Fuzz(func(t *testing.T, k int, sealed []byte) {
		if k < 0 || k >= len(list) {
			return
		}
		opened, err := listed(t, d, list, k, sealed).Open(k, bytes.Clone(sealed))
		if err == nil && (!bytes.Equal(sealed, pieces[k]) || !bytes.Equal(opened, piece(plain, k))) {
			t.Fatal("opened what was not sealed")
		}
	})
}

func FuzzCheckThumbnail(f *testing.F) {
	f.Add(jpegOf(f, 3, 2))
	f.Add(jpegOf(f, MaxThumbnailSide+1, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		if CheckThumbnail(b) == nil && len(b) > MaxThumbnail {
			t.Fatal("too long")
		}
	})
}
