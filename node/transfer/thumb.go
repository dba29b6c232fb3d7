package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"github.com/parley-chat/parley/protocol/file"
)

// What decoding a picture may cost. A camera makes 12 to 50 megapixels, of 3 bytes each.
const (
	maxPicture = 64 << 20 // bytes of the file
	maxPixels  = 50_000_000
	maxDecoded = 256 << 20 // bytes, about
	maxScans   = 100       // of a progressive JPEG, each of which may go through all of it; most have ten
)

// formats are the pictures of which a thumbnail is made, by how their files begin.
var formats = []struct {
	magic  string
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}{
	{magicJPEG, jpeg.DecodeConfig, jpeg.Decode},
	{"\x89PNG\r\n\x1a\n", png.DecodeConfig, png.Decode},
	{"GIF8", gif.DecodeConfig, gif.Decode},
}

const magicJPEG = "\xff\xd8"

// ErrNoPicture is returned for what no thumbnail is made of: a file that is no PNG, JPEG
// or GIF, a damaged one, and one that would take too much memory or time.
var ErrNoPicture = errors.New("not a picture of which a thumbnail can be made")

// Thumbnail makes a small picture of a picture of size bytes: one that
// file.CheckThumbnail takes, upright, and without whatever else the file says of where
// and with what it was taken. It takes up to 320 MiB of memory, so at most one runs at a
// time, and as long as ctx lasts.
func Thumbnail(ctx context.Context, r io.ReaderAt, size int64) ([]byte, error) {
	if size > maxPicture {
		return nil, fmt.Errorf("%w: %d bytes", ErrNoPicture, size)
	}
	b := make([]byte, size) // what is checked and what is decoded are the same, whoever writes to the file
	if _, err := io.ReadFull(stopping{ctx, io.NewSectionReader(r, 0, size)}, b); err != nil {
		return nil, fmt.Errorf("read a picture: %w", err)
	}
	picture, orientation, err := decode(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoPicture, errors.Join(ctx.Err(), err))
	}
	return encodeThumbnail(picture, orientation)
}

// decode reads a picture, if that costs little enough, and its orientation in EXIF.
func decode(ctx context.Context, b []byte) (picture image.Image, orientation int, err error) {
	for _, format := range formats {
		if !bytes.HasPrefix(b, []byte(format.magic)) {
			continue
		}
		config, err := format.config(stopping{ctx, bytes.NewReader(b)})
		if err != nil {
			return nil, 0, err
		}
		var about jpegHeader
		if format.magic == magicJPEG {
			about = readJPEGHeader(bytes.NewReader(b))
		}
		width, height := int64(config.Width), int64(config.Height)
		if width < 1 || height < 1 || width > maxPixels/height || width*height*pixelCost(config.ColorModel, about.progressive) > maxDecoded {
			return nil, 0, fmt.Errorf("%d x %d pixels", width, height)
		}
		if about.progressive && bytes.Count(b, []byte{0xff, 0xda}) > maxScans {
			return nil, 0, fmt.Errorf("more than %d scans", maxScans)
		}
		picture, err = format.decode(stopping{ctx, bytes.NewReader(b)})
		return picture, about.orientation, err
	}
	return nil, 0, errors.New("of no format that is known")
}

// pixelCost tells how many bytes of memory a pixel takes while it is decoded.
func pixelCost(m color.Model, progressive bool) int64 {
	if progressive { // all coefficients, of 4 bytes, and then the picture
		return 4 * (4 + 1)
	}
	switch m {
	case color.YCbCrModel, color.GrayModel:
		return 4
	case color.RGBA64Model, color.NRGBA64Model: // an interlaced one is put together of others
		return 16
	}
	return 8 // two bytes a colour, or two pictures of four colours, of which one is made into the other
}

// encodeThumbnail writes the picture as large and as good as a thumbnail may be.
func encodeThumbnail(picture image.Image, orientation int) ([]byte, error) {
	for side := file.MaxThumbnailSide; side > 0; side /= 2 {
		small := turn(shrink(picture, side), orientation)
		for _, quality := range []int{80, 50, 25} {
			var b bytes.Buffer
			if err := jpeg.Encode(&b, small, &jpeg.Options{Quality: quality}); err != nil {
				return nil, fmt.Errorf("encode a thumbnail: %w", err)
			}
			if b.Len() <= file.MaxThumbnail {
				return b.Bytes(), nil
			}
		}
	}
	return nil, fmt.Errorf("%w: it does not fit in %d bytes", ErrNoPicture, file.MaxThumbnail)
}

// shrink makes a picture of at most side x side pixels, in the same proportions, on
// white. A small picture keeps its size.
func shrink(picture image.Image, side int) *image.RGBA {
	from := picture.Bounds()
	width, height := from.Dx(), from.Dy()
	if longest := max(width, height); longest > side {
		width, height = max(width*side/longest, 1), max(height*side/longest, 1)
	}
	small := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			area := image.Rect(x*from.Dx()/width, y*from.Dy()/height, (x+1)*from.Dx()/width, (y+1)*from.Dy()/height)
			small.SetRGBA(x, y, average(picture, area.Add(from.Min)))
		}
	}
	return small
}

// samples is how many pixels in a row stand for an area at most, which bounds the work.
const samples = 8

// average returns the colour of an area, which is not empty, on white.
func average(picture image.Image, area image.Rectangle) color.RGBA {
	stepX, stepY := (area.Dx()+samples-1)/samples, (area.Dy()+samples-1)/samples
	var red, green, blue, n uint32
	for y := area.Min.Y; y < area.Max.Y; y += stepY {
		for x := area.Min.X; x < area.Max.X; x += stepX {
			r, g, b, alpha := picture.At(x, y).RGBA()
			white := 0xffff - alpha
			red, green, blue, n = red+r+white, green+g+white, blue+b+white, n+1
		}
	}
	return color.RGBA{uint8(red / n >> 8), uint8(green / n >> 8), uint8(blue / n >> 8), 0xff}
}

// turn shows a picture upright that was taken in an orientation of EXIF, 1 to 8: from 5
// on with its sides exchanged.
func turn(from *image.RGBA, orientation int) *image.RGBA {
	width, height := from.Rect.Dx(), from.Rect.Dy()
	right, bottom := width-1, height-1
	var where func(x, y int) (int, int)
	switch orientation {
	case 2:
		where = func(x, y int) (int, int) { return right - x, y }
	case 3:
		where = func(x, y int) (int, int) { return right - x, bottom - y }
	case 4:
		where = func(x, y int) (int, int) { return x, bottom - y }
	case 5:
		where = func(x, y int) (int, int) { return y, x }
	case 6:
		where = func(x, y int) (int, int) { return y, bottom - x }
	case 7:
		where = func(x, y int) (int, int) { return right - y, bottom - x }
	case 8:
		where = func(x, y int) (int, int) { return right - y, x }
	default:
		return from
	}
	if orientation >= 5 {
		width, height = height, width
	}
	upright := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			upright.SetRGBA(x, y, from.RGBAAt(where(x, y)))
		}
	}
	return upright
}
