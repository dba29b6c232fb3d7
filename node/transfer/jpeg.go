package transfer

import (
	"bytes"
	"encoding/binary"
	"io"
)

// jpegHeader is what a thumbnail needs to know of a JPEG before it is decoded.
type jpegHeader struct {
	orientation int  // of EXIF, 1 to 8; 0: not told
	progressive bool // or not known
}

const maxSegments = 1000 // before the picture itself; pictures have some ten

// readJPEGHeader walks the segments of a JPEG (ITU-T T.81, Annex B) up to the one that
// begins the picture.
func readJPEGHeader(r io.ReaderAt) jpegHeader {
	h := jpegHeader{progressive: true}
	at := int64(2)
	for range maxSegments {
		var head [4]byte // 0xff, marker, length of the rest with itself
		if _, err := r.ReadAt(head[:], at); err != nil || head[0] != 0xff {
			return h
		}
		length := int64(binary.BigEndian.Uint16(head[2:]))
		switch marker := head[1]; {
		case marker == 0xff: // a fill byte
			at++
			continue
		case marker < 0xc0 || marker >= 0xd0 && marker <= 0xd9: // without a length
			return h
		case marker == 0xc0 || marker == 0xc1:
			h.progressive = false
			return h
		case marker == 0xe1 && h.orientation == 0:
			exif := make([]byte, max(length-2, 0))
			n, _ := r.ReadAt(exif, at+4)
			h.orientation = exifOrientation(exif[:n])
		}
		at += 2 + length
	}
	return h
}

// exifOrientation finds the tag Orientation in the first directory of an EXIF segment
// (CIPA DC-008, 4.6). 0: it is not there, or no number from 1 to 8.
func exifOrientation(exif []byte) int {
	tiff, ok := bytes.CutPrefix(exif, []byte("Exif\x00\x00"))
	if !ok || len(tiff) < 8 {
		return 0
	}
	var order binary.ByteOrder = binary.BigEndian
	if tiff[0] == 'I' {
		order = binary.LittleEndian
	}
	directory := uint64(order.Uint32(tiff[4:]))
	if directory+2 > uint64(len(tiff)) {
		return 0
	}
	entries := tiff[directory:]
	count := int(order.Uint16(entries))
	entries = entries[2:]
	for ; count > 0 && len(entries) >= 12; count, entries = count-1, entries[12:] { // tag 2, type 2, count 4, value 4
		const tagOrientation, typeShort = 0x0112, 3
		if order.Uint16(entries) == tagOrientation && order.Uint16(entries[2:]) == typeShort {
			if value := int(order.Uint16(entries[8:])); value <= 8 {
				return value
			}
		}
	}
	return 0
}
