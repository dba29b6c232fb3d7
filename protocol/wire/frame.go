// Package wire holds the messages of Parley's streams (wire.proto) and the
// frames that carry them. It interprets nothing: what a field means is the
// business of the packages that use it.
package wire

//go:generate protoc --go_out=. --go_opt=paths=source_relative wire.proto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
)

// ErrFrameTooLarge is returned for a frame over protocol.MaxFrame, before
// anything is allocated for it.
var ErrFrameTooLarge = errors.New("frame too large")

const frameHeader = 4 // uint32 big-endian length of what follows

// WriteMsg writes m as one frame, in one Write.
func WriteMsg(w io.Writer, m proto.Message) error {
	size := proto.Size(m)
	if size > protocol.MaxFrame {
		return fmt.Errorf("write frame of %d bytes: %w", size, ErrFrameTooLarge)
	}
	buf := make([]byte, frameHeader, frameHeader+size)
	buf, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(buf, m)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	binary.BigEndian.PutUint32(buf, uint32(len(buf)-frameHeader))
	if _, err := w.Write(buf); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// ReadMsg reads one frame into m. At the clean end of the stream it returns
// io.EOF; a frame cut short is io.ErrUnexpectedEOF.
func ReadMsg(r io.Reader, m proto.Message) error {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF {
			return io.EOF
		}
		return fmt.Errorf("read frame header: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > protocol.MaxFrame {
		return fmt.Errorf("read frame of %d bytes: %w", n, ErrFrameTooLarge)
	}
	buf := make([]byte, n)
	if _, err := io.ReadFull(r, buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read frame: %w", err)
	}
	if err := proto.Unmarshal(buf, m); err != nil {
		return fmt.Errorf("decode frame: %w", err)
	}
	return nil
}
