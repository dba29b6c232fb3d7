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

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parley-chat/parley/protocol"
)

var (
	// ErrFrameTooLarge is returned for a frame over protocol.MaxFrame, before
	// anything is allocated for it.
	ErrFrameTooLarge = errors.New("frame too large")

	// ErrMalformed is returned for a frame that does not decode.
	ErrMalformed = errors.New("malformed frame")

	// ErrTooManyFields, always within an ErrMalformed, is returned for a frame of more than maxFields fields,
	// before it is decoded: two bytes on the wire can cost a hundred in memory.
	ErrTooManyFields = errors.New("too many fields in a frame")
)

// maxFields leaves room for the largest frame that is sent: the heads of
// protocol.MaxContacts chains, three fields each.
const maxFields = 16384

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
	left := maxFields
	if err := countFields(buf, m.ProtoReflect().Descriptor(), &left); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := proto.Unmarshal(buf, m); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// countFields takes the fields of an encoded message, and of those in it, off
// left. The schema has no recursion, so neither has this without end.
func countFields(b []byte, d protoreflect.MessageDescriptor, left *int) error {
	for len(b) > 0 {
		if *left--; *left < 0 {
			return ErrTooManyFields
		}
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		value := b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, value); n < 0 {
			return protowire.ParseError(n)
		}
		b = value[n:]
		field := d.Fields().ByNumber(number)
		if field == nil || field.Message() == nil || kind != protowire.BytesType {
			continue
		}
		inner, _ := protowire.ConsumeBytes(value)
		if err := countFields(inner, field.Message(), left); err != nil {
			return err
		}
	}
	return nil
}
