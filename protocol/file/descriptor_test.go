package file

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
)

// jpegOf is a picture of so many pixels.
func jpegOf(t testing.TB, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	check(t, jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, width, height)), nil))
	return b.Bytes()
}

// described is a file with everything a descriptor can say.
func described(t testing.TB, size int64) *Descriptor {
	t.Helper()
	d, _, _ := sealAll(t, content(size))
	d.Type, d.Thumbnail = "image/svg+xml", jpegOf(t, 160, 90)
	check(t, d.Validate())
	return d
}

func same(a, b *Descriptor) bool { return proto.Equal(a.Wire(), b.Wire()) }

func TestDescriptorOverTheWire(t *testing.T) {
	for _, size := range sizes {
		d := described(t, size)
		d.Folder = size%2 == 1
		back, err := FromWire(d.Wire())
		check(t, err)
		if !same(d, back) || back.Size != size || back.ID != d.ID || back.Folder != d.Folder {
			t.Errorf("%d bytes: came back otherwise", size)
		}
	}
}

// The list of a large file is not in its descriptor, and that of a small one is.
func TestInlineList(t *testing.T) {
	s := New()
	for _, c := range []struct {
		pieces int
		inline bool
	}{{64, true}, {65, false}, {1000, false}} {
		list := make(List, c.pieces)
		d, err := s.Describe("x", int64(c.pieces)*PieceSize-1, list)
		check(t, err)
		if (d.Inline != nil) != c.inline {
			t.Errorf("%d pieces: %d in the descriptor", c.pieces, len(d.Inline))
		}
		check(t, d.Validate())
		w := d.Wire()
		if c.inline {
			w.Pieces = nil
		} else {
			w.Pieces = list.Bytes()
		}
		if _, err := FromWire(w); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d pieces: %v", c.pieces, err)
		}
	}
}

// Who gets a descriptor that does not fit together takes nothing of it.
func TestDescriptorRefused(t *testing.T) {
	other := described(t, 7).Wire()
	for name, damage := range map[string]func(w *wire.File){
		"no id":              func(w *wire.File) { w.Id = nil },
		"id of 15 bytes":     func(w *wire.File) { w.Id = w.Id[1:] },
		"another id":         func(w *wire.File) { w.Id = other.Id },
		"no key":             func(w *wire.File) { w.Key = nil },
		"key of 33 bytes":    func(w *wire.File) { w.Key = append(w.Key, 0) },
		"another key":        func(w *wire.File) { w.Key = other.Key },
		"no salt":            func(w *wire.File) { w.Salt = nil },
		"another salt":       func(w *wire.File) { w.Salt = other.Salt },
		"no commitment":      func(w *wire.File) { w.Commitment = nil },
		"another commitment": func(w *wire.File) { w.Commitment = other.Commitment },
		"another size":       func(w *wire.File) { w.Size += PieceSize },
		"too large":          func(w *wire.File) { w.Size = MaxSize + 1 },
		"size beyond int64":  func(w *wire.File) { w.Size = 1 << 63 },
		"no list":            func(w *wire.File) { w.List = nil },
		"another list":       func(w *wire.File) { w.List = other.List },
		"no pieces":          func(w *wire.File) { w.Pieces = nil },
		"other pieces":       func(w *wire.File) { w.Pieces = other.Pieces },
		"half a piece":       func(w *wire.File) { w.Pieces = w.Pieces[:16] },
		"a piece more":       func(w *wire.File) { w.Pieces = append(w.Pieces, make([]byte, 32)...) },
	} {
		w := described(t, 5).Wire()
		damage(w)
		if d, err := FromWire(w); !errors.Is(err, ErrMalformed) || d != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := FromWire(nil); !errors.Is(err, ErrMalformed) {
		t.Error("no descriptor at all is one")
	}
	if err := new(Descriptor).Validate(); err == nil {
		t.Error("the zero descriptor is one")
	}
	if _, err := (&Descriptor{Name: "x", Inline: List{{}}, List: List{{}}.Hash()}).Pieces(List{{}}); !errors.Is(err, key.ErrInvalid) {
		t.Errorf("without a key: %v", err)
	}
}

// What is only shown does not cost a file its message.
func TestForShowIsMadeGood(t *testing.T) {
	w := described(t, 5).Wire()
	w.Name, w.Type, w.Thumbnail = "../../etc/\u202egpj.exe\x00", "text/html; charset=utf-8", jpegOf(t, 161, 1)
	d, err := FromWire(w)
	check(t, err)
	if d.Name != "gpj.exe" || d.Type != "" || d.Thumbnail != nil {
		t.Errorf("%q, %q, thumbnail of %d bytes", d.Name, d.Type, len(d.Thumbnail))
	}
	for name, damage := range map[string]func(d *Descriptor){
		"name":      func(d *Descriptor) { d.Name = "a/b" },
		"no name":   func(d *Descriptor) { d.Name = "" },
		"type":      func(d *Descriptor) { d.Type = "text" },
		"thumbnail": func(d *Descriptor) { d.Thumbnail = []byte{1} },
		"size":      func(d *Descriptor) { d.Size = -1 },
	} {
		d := described(t, 5)
		damage(d)
		if err := d.Validate(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTypes(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "text/plain": true, "application/vnd.oasis.opendocument.text": true, "image/svg+xml": true,
		"text": false, "/": false, "a/": false, "/b": false, "Text/plain": false, "a/b/c": false, "text/plain;x": false,
		"a/ b": false, "a/ä": false, "a/" + strings.Repeat("b", 98): true, "a/" + strings.Repeat("b", 99): false,
	} {
		if validType(s) != want {
			t.Errorf("%q", s)
		}
	}
}

func TestThumbnails(t *testing.T) {
	good := jpegOf(t, MaxThumbnailSide, MaxThumbnailSide)
	check(t, CheckThumbnail(good))
	check(t, CheckThumbnail(jpegOf(t, 1, 1)))
	for name, b := range map[string][]byte{
		"nothing":    nil,
		"too wide":   jpegOf(t, MaxThumbnailSide+1, 1),
		"too high":   jpegOf(t, 1, MaxThumbnailSide+1),
		"cut":        good[:len(good)/2],
		"no end":     good[:len(good)-2],
		"no JPEG":    []byte("\x89PNG\r\n\x1a\n"),
		"only sizes": good[:200],
		"too long":   append(bytes.Clone(good), make([]byte, MaxThumbnail)...),
	} {
		if err := CheckThumbnail(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseListRefuses(t *testing.T) {
	for n, size := range map[int]int64{0: 0, 31: 0, 33: 0, 64: 0, 32: PieceSize, 96: PieceSize, 65: -1, 1: MaxSize + 1} {
		if l, err := ParseList(make([]byte, n), size); !errors.Is(err, ErrMalformed) || l != nil {
			t.Errorf("%d bytes for a file of %d: %v", n, size, err)
		}
	}
}
