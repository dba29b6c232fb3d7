package transfer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/file"
)

var (
	red   = color.RGBA{0xff, 0, 0, 0xff}
	green = color.RGBA{0, 0xff, 0, 0xff}
	blue  = color.RGBA{0, 0, 0xff, 0xff}
	white = color.RGBA{0xff, 0xff, 0xff, 0xff}
)

// quarters is a picture whose corners are red, green, blue and white.
func quarters(width, height int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			m.Set(x, y, [2][2]color.RGBA{{red, green}, {blue, white}}[y*2/height][x*2/width])
		}
	}
	return m
}

func noise(width, height int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	rand.NewChaCha8([32]byte{1}).Read(m.Pix)
	for i := 3; i < len(m.Pix); i += 4 {
		m.Pix[i] = 0xff
	}
	return m
}

var encoders = map[string]func(b *bytes.Buffer, m image.Image) error{
	"png":  func(b *bytes.Buffer, m image.Image) error { return png.Encode(b, m) },
	"jpeg": func(b *bytes.Buffer, m image.Image) error { return jpeg.Encode(b, m, &jpeg.Options{Quality: 95}) },
	"gif":  func(b *bytes.Buffer, m image.Image) error { return gif.Encode(b, m, nil) },
}

func encoded(t testing.TB, format string, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encoders[format](&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// thumbnail makes one, checks it and decodes it.
func thumbnail(t testing.TB, picture []byte) image.Image {
	t.Helper()
	b, err := Thumbnail(t.Context(), bytes.NewReader(picture), int64(len(picture)))
	if err != nil {
		t.Fatal(err)
	}
	if err := file.CheckThumbnail(b); err != nil {
		t.Fatal(err)
	}
	m, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// corners names the colours of the quarters of a picture, in the order of reading.
func corners(m image.Image) (names string) {
	b := m.Bounds()
	for _, y := range []int{b.Dy() / 4, b.Dy() * 3 / 4} {
		for _, x := range []int{b.Dx() / 4, b.Dx() * 3 / 4} {
			r, g, b, _ := m.At(x, y).RGBA()
			name := "?"
			for letter, want := range map[string]color.RGBA{"r": red, "g": green, "b": blue, "w": white} {
				if near(r, want.R) && near(g, want.G) && near(b, want.B) {
					name = letter
				}
			}
			names += name
		}
	}
	return names
}

func near(got uint32, want uint8) bool {
	d := int(got>>8) - int(want)
	return d > -50 && d < 50
}

func TestThumbnails(t *testing.T) {
	for format := range encoders {
		for in, out := range map[image.Point]image.Point{
			{320, 240}: {160, 120},
			{240, 320}: {120, 160},
			{160, 160}: {160, 160},
			{40, 30}:   {40, 30},
			{5, 800}:   {1, 160},
			{481, 271}: {160, 90},
			{161, 20}:  {160, 19},
		} {
			if format == "gif" && in.X > 40 {
				continue // the race detector makes its palette slow
			}
			m := thumbnail(t, encoded(t, format, quarters(in.X, in.Y)))
			if got := m.Bounds().Size(); got != out {
				t.Errorf("%s of %v became %v, want %v", format, in, got, out)
			}
			if in.X > 10 && corners(m) != "rgbw" {
				t.Errorf("%s of %v: corners %s", format, in, corners(m))
			}
		}
	}
}

// Whatever the size and the content, there is a thumbnail within the limits.
func TestThumbnailOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width, height := rapid.IntRange(1, 200).Draw(t, "width"), rapid.IntRange(1, 200).Draw(t, "height")
		format := rapid.SampledFrom([]string{"png", "jpeg"}).Draw(t, "format")
		var b bytes.Buffer
		if err := encoders[format](&b, noise(width, height)); err != nil {
			t.Fatal(err)
		}
		small, err := Thumbnail(t.Context(), bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if err := file.CheckThumbnail(small); err != nil {
			t.Fatal(err)
		}
	})
}

// What is seen through is white, as the page is.
func TestThumbnailOnWhite(t *testing.T) {
	m := thumbnail(t, encoded(t, "png", image.NewNRGBA(image.Rect(0, 0, 300, 300))))
	if corners(m) != "wwww" {
		t.Errorf("corners %s", corners(m))
	}
}

// withSegments puts segments behind the beginning of a JPEG.
func withSegments(picture []byte, segments ...[]byte) []byte {
	b := bytes.Clone(picture[:2])
	for _, s := range segments {
		b = append(b, s...)
	}
	return append(b, picture[2:]...)
}

func segment(marker byte, data []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(2+len(data)))
	return append(b, data...)
}

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// exif is a segment that tells an orientation, behind another tag.
func exif(order byteOrder, orientation uint16) []byte {
	b := append([]byte("Exif\x00\x00"), map[string]string{"BigEndian": "MM", "LittleEndian": "II"}[order.String()]...)
	b = order.AppendUint16(b, 42)
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 2)
	for tag, value := range []uint16{7, orientation} {
		b = order.AppendUint16(b, 0x0111+uint16(tag))
		b = order.AppendUint16(b, 3)
		b = order.AppendUint32(b, 1)
		b = order.AppendUint16(b, value)
		b = order.AppendUint16(b, 0)
	}
	return segment(0xe1, order.AppendUint32(b, 0))
}

// A picture that a camera took in any position is shown upright.
func TestThumbnailIsUpright(t *testing.T) {
	picture := encoded(t, "jpeg", quarters(400, 200))
	for orientation, want := range []string{
		"rgbw", "rgbw", "grwb", "wbgr", "bwrg", "rbgw", "brwg", "wgbr", "gwrb", "rgbw",
	} {
		for _, order := range []byteOrder{binary.BigEndian, binary.LittleEndian} {
			m := thumbnail(t, withSegments(picture, segment(0xe0, []byte("JFIF")), exif(order, uint16(orientation))))
			if corners(m) != want {
				t.Errorf("orientation %d, %s: %s, want %s", orientation, order, corners(m), want)
			}
			size, sides := m.Bounds().Size(), image.Pt(160, 80)
			if orientation >= 5 && orientation <= 8 {
				sides = image.Pt(80, 160)
			}
			if size != sides {
				t.Errorf("orientation %d: %v", orientation, size)
			}
		}
	}
}

// Where and with what a picture was taken does not leave with it.
func TestThumbnailTellsNothingElse(t *testing.T) {
	const secret = "52.5200 N 13.4050 E"
	for name, picture := range map[string][]byte{
		"exif":    append([]byte("Exif\x00\x00"), secret...),
		"xmp":     []byte("http://ns.adobe.com/xap/1.0/\x00" + secret),
		"comment": []byte(secret),
	} {
		marker := map[string]byte{"exif": 0xe1, "xmp": 0xe1, "comment": 0xfe}[name]
		whole := withSegments(encoded(t, "jpeg", quarters(300, 300)), segment(marker, picture))
		b, err := Thumbnail(t.Context(), bytes.NewReader(whole), int64(len(whole)))
		if err != nil || bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s: %v", name, err)
		}
		for at := 2; b[at+1] != 0xda; at += 2 + int(binary.BigEndian.Uint16(b[at+2:])) {
			if b[at+1] >= 0xe0 { // of an application, or a comment
				t.Errorf("%s: segment %x", name, b[at+1])
			}
		}
	}
}

// pngHeader is the beginning of a PNG, by the sizes that it tells.
func pngHeader(width, height uint32, depth, kind byte) []byte {
	data := binary.BigEndian.AppendUint32([]byte("IHDR"), width)
	data = binary.BigEndian.AppendUint32(data, height)
	data = append(data, depth, kind, 0, 0, 0)
	b := binary.BigEndian.AppendUint32([]byte("\x89PNG\r\n\x1a\n"), uint32(len(data)-4))
	return binary.BigEndian.AppendUint32(append(b, data...), crc32.ChecksumIEEE(data))
}

// progressive makes a JPEG say that it is, which costs more memory.
func progressive(picture []byte, width, height uint16) []byte {
	b := bytes.Clone(picture)
	at := bytes.Index(b, []byte{0xff, 0xc0})
	b[at+1] = 0xc2
	binary.BigEndian.PutUint16(b[at+5:], height)
	binary.BigEndian.PutUint16(b[at+7:], width)
	return b
}

// behindRestart puts a marker without a length in front, such that who looks for one finds
// the header of another picture inside a segment.
func behindRestart(picture []byte) []byte {
	const at = 4 + 0xffe1 // behind a segment whose length are the first two bytes of the true one
	data := make([]byte, 0xffff-2)
	copy(data[at-8:], segment(0xc0, nil))
	return withSegments(picture, []byte{0xff, 0xd0}, segment(0xe1, data))
}

// A picture that would take too much memory is refused before it takes any.
func TestThumbnailBounded(t *testing.T) {
	small := encoded(t, "jpeg", quarters(16, 16))
	for name, picture := range map[string][]byte{
		"51 megapixels":               pngHeader(51_000, 1000, 8, 0),
		"a line without end":          pngHeader(1<<31-1, 1, 8, 0),
		"34 megapixels of 8 bytes":    pngHeader(34_000, 1000, 8, 6),
		"17 megapixels of 16 bytes":   pngHeader(17_000, 1000, 16, 2),
		"17 megapixels, seen through": pngHeader(17_000, 1000, 16, 6),
		"14 megapixels, progressive":  progressive(small, 14_000, 1000),
		"progressive, hidden behind":  withSegments(progressive(small, 14_000, 1000), bytes.Repeat(segment(0xe2, nil), maxSegments+1)),
		"behind a restart marker":     behindRestart(progressive(small, 14_000, 1000)),
		"64k x 64k, progressive":      progressive(small, 65_535, 65_535),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Thumbnail(t.Context(), bytes.NewReader(picture), int64(len(picture)))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrNoPicture) || !strings.HasSuffix(err.Error(), "pixels") || after.TotalAlloc-before.TotalAlloc > 1<<20 {
			t.Errorf("%s: %d bytes allocated, %v", name, after.TotalAlloc-before.TotalAlloc, err)
		}
	}
}

// A progressive picture takes as long as it has scans, whose bytes may be few.
func TestThumbnailOfManyScans(t *testing.T) {
	picture := progressive(encoded(t, "jpeg", quarters(16, 16)), 1000, 1000)
	picture = append(picture[:len(picture)-2], bytes.Repeat(segment(0xda, []byte{1, 1, 0, 1, 63, 0x10}), 2*maxScans)...)
	_, err := Thumbnail(t.Context(), bytes.NewReader(picture), int64(len(picture)))
	if !errors.Is(err, ErrNoPicture) || !strings.HasSuffix(err.Error(), "scans") {
		t.Error(err)
	}
}

// A file that is too large is not read.
func TestThumbnailOfLargeFile(t *testing.T) {
	if _, err := Thumbnail(t.Context(), nil, maxPicture+1); !errors.Is(err, ErrNoPicture) {
		t.Error(err)
	}
}

// endsLater is a context that ends when it was asked so many times.
type endsLater struct {
	context.Context
	left int
}

func (c *endsLater) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// Who gives up sending a picture does not wait until it is decoded.
func TestThumbnailStops(t *testing.T) {
	for format := range encoders {
		picture := encoded(t, format, noise(300, 300))
		for left := range 4 { // while it is read, and while it is decoded
			ctx := &endsLater{t.Context(), left}
			if _, err := Thumbnail(ctx, bytes.NewReader(picture), int64(len(picture))); !errors.Is(err, context.Canceled) {
				t.Errorf("%s, after %d: %v", format, left, err)
			}
			if ctx.left < -3 {
				t.Errorf("%s, after %d: %d reads more", format, left, -ctx.left)
			}
		}
	}
}

func TestNoThumbnail(t *testing.T) {
	whole := encoded(t, "png", quarters(50, 50))
	for name, picture := range map[string][]byte{
		"nothing":   nil,
		"text":      []byte("hello"),
		"cut":       whole[:len(whole)/2],
		"a header":  pngHeader(10, 10, 8, 2),
		"no pixels": pngHeader(0, 0, 8, 2),
	} {
		if b, err := Thumbnail(t.Context(), bytes.NewReader(picture), int64(len(picture))); !errors.Is(err, ErrNoPicture) || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzThumbnail(f *testing.F) {
	for format := range encoders {
		f.Add(encoded(f, format, quarters(20, 10)))
	}
	f.Add(withSegments(encoded(f, "jpeg", quarters(8, 8)), exif(binary.LittleEndian, 6)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if config, _, err := image.DecodeConfig(bytes.NewReader(b)); err != nil || config.Width*config.Height > 1<<16 {
			return
		}
		small, err := Thumbnail(t.Context(), bytes.NewReader(b), int64(len(b)))
		if err != nil && !errors.Is(err, ErrNoPicture) {
			t.Fatal(err)
		}
		if err == nil && file.CheckThumbnail(small) != nil {
			t.Fatal("not a thumbnail")
		}
	})
}

func FuzzJPEGHeader(f *testing.F) {
	f.Add(withSegments([]byte{0xff, 0xd8}, exif(binary.BigEndian, 3), segment(0xc0, make([]byte, 15))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h := readJPEGHeader(bytes.NewReader(b)); h.orientation < 0 || h.orientation > 8 {
			t.Fatal(fmt.Sprint("orientation ", h.orientation))
		}
	})
}

// A picture of 12 megapixels, as a phone takes it.
func BenchmarkThumbnail(b *testing.B) {
	picture := encoded(b, "jpeg", quarters(4000, 3000))
	for b.Loop() {
		if _, err := Thumbnail(b.Context(), bytes.NewReader(picture), int64(len(picture))); err != nil {
			b.Fatal(err)
		}
	}
}
