package file

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image/jpeg"
)

// A thumbnail is a JPEG of at most so many bytes, and pixels a side.
const (
	MaxThumbnail     = 8 << 10
	MaxThumbnailSide = 160
)

// CheckThumbnail tells whether b is a thumbnail: a whole JPEG within the limits, with one
// scan and nothing but the picture. It decodes nothing else.
func CheckThumbnail(b []byte) error {
	if len(b) > MaxThumbnail {
		return fmt.Errorf("%w: thumbnail of %d bytes", ErrMalformed, len(b))
	}
	if !onlyPicture(b) {
		return fmt.Errorf("%w: thumbnail with more than a picture of one scan", ErrMalformed)
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
	return nil
}

// onlyPicture tells whether b has the segments of a baseline JPEG that any picture needs
// (ITU-T T.81, Annex B), one scan, and nothing behind it. It keeps out what would say more
// than the picture, and what takes long: each scan may go through the whole picture.
func onlyPicture(b []byte) bool {
	const (
		frame, huffman, begin, end, scan, quantization = 0xc0, 0xc4, 0xd8, 0xd9, 0xda, 0xdb
	)
	b, ok := bytes.CutPrefix(b, []byte{0xff, begin})
	for ok && len(b) >= 4 && b[0] == 0xff {
		marker, length := b[1], 2+int(binary.BigEndian.Uint16(b[2:]))
		if length < 4 || length > len(b) {
			return false
		}
		b = b[length:]
		switch marker {
		case frame, huffman, quantization:
		case scan:
			coded, ok := bytes.CutSuffix(b, []byte{0xff, end})
			return ok && bytes.Count(coded, []byte{0xff}) == bytes.Count(coded, []byte{0xff, 0})
		default:
			return false
		}
	}
	return false
}
