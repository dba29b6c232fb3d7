package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// readFrame is wire.ReadMsg with what it allocates booked with libp2p's
// resource manager first: one peer can hold only so much of our memory.
func readFrame(s network.Stream, m proto.Message) error {
	var head [4]byte
	if _, err := io.ReadFull(s, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > protocol.MaxFrame {
		return fmt.Errorf("frame of %d bytes: %w", size, wire.ErrFrameTooLarge)
	}
	if err := s.Scope().ReserveMemory(int(size), network.ReservationPriorityMedium); err != nil {
		return fmt.Errorf("book memory for a frame: %w", err)
	}
	defer s.Scope().ReleaseMemory(int(size))
	return wire.ReadMsg(io.MultiReader(bytes.NewReader(head[:]), s), m)
}

func errIsEOF(err error) bool { return errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) }
