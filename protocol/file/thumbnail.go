package file

import (
	"bytes"
	"fmt"
	"image/jpeg"
)

// A thumbnail is a JPEG of at most so many bytes, and pixels a side.
const (
	MaxThumbnail     = 8 << 10
	MaxThumbnailSide = 160
)

// CheckThumbnail tells whether b is a thumbnail: a whole JPEG within the limits, and
// nothing behind it. It decodes nothing that is larger.
func CheckThumbnail(b []byte) error {
	if len(b) > MaxThumbnail {
		return fmt.Errorf("%w: thumbnail of %d bytes", ErrMalformed, len(b))
	}
	size, err := jpeg.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("%w: thumbnail: %w", ErrMalformed, err)
	}
	if size.Width < 1 || size.Height < 1 || size.Width > MaxThumbnailSide || size.Height > MaxThumbnailSide {
		return fmt.Errorf("%w: thumbnail of %d x %d pixels", ErrMalformed, size.Width, size.Height)
	}
	if _, err := jpeg.Decode(bytes.NewReader(b)); err != nil {
		return fmt.Errorf("%w: thumbnail: %w", ErrMalformed, err)
	}
	if !bytes.HasSuffix(b, []byte{0xff, 0xd9}) {
		return fmt.Errorf("%w: thumbnail does not end with its image", ErrMalformed)
	}
	return nil
}
