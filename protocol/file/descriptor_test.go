package file

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"slices"
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
	if _, err := (&Descriptor{Name: "x", Inline: List{{}}, List: List{{}}.Hash([32]byte{})}).Pieces(List{{}}); !errors.Is(err, key.ErrInvalid) {
		t.Errorf("without a key: %v", err)
	}
}

// The same pieces under another key are another list: AES-GCM alone lets an author make
// pieces that open to two contents, and call both by one id.
func TestListNamesTheKey(t *testing.T) {
	one, other := New(), New()
	other.id = one.id
	var err error
	other.chunks, other.commitment, err = derive(other.key, other.salt, context(other.id))
	check(t, err)
	list := List{HashPiece([]byte("opens with both"))}
	d, err := one.Describe("x", 7, list)
	check(t, err)
	d2, err := other.Describe("x", 7, list)
	check(t, err)
	if d.List == d2.List {
		t.Error("two keys, one list")
	}
	d2.List = d.List
	if _, err := FromWire(d2.Wire()); !errors.Is(err, ErrMalformed) {
		t.Errorf("the list of the other key: %v", err)
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

// manyScans is a progressive JPEG that costs a hundred times what a thumbnail does: every
// scan of 12 bytes goes through the whole picture again.
func manyScans() []byte {
	b := []byte{0xff, 0xd8, 0xff, 0xdb, 0, 67, 0}
	b = append(b, bytes.Repeat([]byte{1}, 64)...)
	b = append(b, 0xff, 0xc2, 0, 11, 8, 0, 160, 0, 160, 1, 1, 0x11, 0)
	b = append(b, 0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80) // code 0: 2^8 blocks and more end here
	for len(b) < MaxThumbnail-14 {
		b = append(b, 0xff, 0xda, 0, 8, 1, 1, 0, 1, 63, 0x10, 0x7f, 0x7f)
	}
	return append(b, 0xff, 0xd9)
}

// What encoders write is taken, as good as it fits.
func TestEncodedThumbnails(t *testing.T) {
	colour := image.NewRGBA(image.Rect(0, 0, MaxThumbnailSide, 90))
	grey := image.NewGray(colour.Rect)
	for i := range colour.Pix {
		colour.Pix[i] = byte(i * i >> 5)
		grey.Pix[i/4] = byte(i * i >> 5)
	}
	for _, m := range []image.Image{colour, grey} {
		var b bytes.Buffer
		check(t, jpeg.Encode(&b, m, &jpeg.Options{Quality: 10}))
		check(t, CheckThumbnail(b.Bytes()))
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
		"a comment":  slices.Concat(good[:2], []byte{0xff, 0xfe, 0, 4, 'h', 'i'}, good[2:]),
		"EXIF":       slices.Concat(good[:2], []byte("\xff\xe1\x00\x08Exif\x00\x00"), good[2:]),
		"a tail":     append(bytes.Clone(good), "PK\x03\x04"...),
		"restarts":   slices.Concat(good[:2], []byte{0xff, 0xdd, 0, 4, 0, 1}, good[2:]),
		"two scans":  slices.Concat(good[:len(good)-2], good[bytes.Index(good, []byte{0xff, 0xda}):]),
		"many scans": manyScans(),
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
