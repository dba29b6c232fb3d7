package rendezvous

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/parley-chat/parley/protocol"
)

// maxGossip is how many bytes one message of gossipsub may have: a message for a room,
// and what a node says with it, or the topics of all rooms of an account.
const maxGossip = 256 << 10

// The fields of gossipsub's messages that are read and written here (libp2p-pubsub,
// rpc.proto).
const (
	rpcSubscription = 1
	rpcPublished    = 2

	subscriptionOn    = 1
	subscriptionTopic = 2

	publishedData  = 2
	publishedTopic = 4
)

var errGossip = errors.New("no message of gossipsub that is taken")

// gossip is what one message of gossipsub says about rooms. All else is passed over,
// and nothing is kept of it.
type gossip struct {
	joined    []protocol.RoomID // the peer wants to hear of
	published map[protocol.RoomID][][]byte
}

// readGossip reads one message: a length and so many bytes, which are booked with
// libp2p's resource manager until they are read.
func readGossip(stream network.Stream, r *bufio.Reader) (gossip, error) {
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return gossip{}, fmt.Errorf("read length: %w", err)
	}
	if size > maxGossip {
		return gossip{}, fmt.Errorf("%w: it has %d bytes", errGossip, size)
	}
	if err := stream.Scope().ReserveMemory(int(size), network.ReservationPriorityMedium); err != nil {
		return gossip{}, fmt.Errorf("book memory: %w", err)
	}
	defer stream.Scope().ReleaseMemory(int(size))
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return gossip{}, fmt.Errorf("read %d bytes: %w", size, err)
	}
	return parseGossip(b)
}

// parseGossip finds what is said about rooms, as views into b.
func parseGossip(b []byte) (g gossip, err error) {
	g.published = map[protocol.RoomID][][]byte{}
	count := 0
	rpc := fields{rest: b}
	for rpc.next() && count <= maxPutItems {
		var topic, data []byte
		on := false
		inner := fields{rest: rpc.bytes}
		for inner.next() {
			switch {
			case rpc.number == rpcSubscription && inner.number == subscriptionOn:
				on = inner.varint != 0
			case rpc.number == rpcSubscription && inner.number == subscriptionTopic,
				rpc.number == rpcPublished && inner.number == publishedTopic:
				topic = inner.bytes
			case rpc.number == rpcPublished && inner.number == publishedData:
				data = inner.bytes
			}
		}
		id, ofRoom := protocol.RoomOfTopic(string(topic))
		switch {
		case inner.malformed:
			rpc.malformed = true
		case ofRoom && on:
			g.joined = append(g.joined, id)
		case ofRoom && data != nil:
			g.published[id] = append(g.published[id], data)
			count++
		}
	}
	if rpc.malformed || count > maxPutItems {
		return gossip{}, errGossip
	}
	return g, nil
}

// fields reads the fields of a protobuf message one after the other, and allocates
// nothing.
type fields struct {
	rest      []byte
	malformed bool

	number protowire.Number
	bytes  []byte // of the field, if it has some
	varint uint64 // the same
}

func (f *fields) next() bool {
	if len(f.rest) == 0 || f.malformed {
		return false
	}
	number, kind, n := protowire.ConsumeTag(f.rest)
	if f.malformed = n < 0; f.malformed {
		return false
	}
	f.rest = f.rest[n:]
	f.number, f.bytes, f.varint = number, nil, 0
	switch kind {
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(f.rest)
	case protowire.VarintType:
		f.varint, n = protowire.ConsumeVarint(f.rest)
	default:
		n = protowire.ConsumeFieldValue(number, kind, f.rest)
	}
	if f.malformed = n < 0; f.malformed {
		return false
	}
	f.rest = f.rest[n:]
	return true
}

// publication is the message of gossipsub that says a message to a room.
func publication(id protocol.RoomID, message []byte) []byte {
	var m []byte
	m = protowire.AppendTag(m, publishedData, protowire.BytesType)
	m = protowire.AppendBytes(m, message)
	m = protowire.AppendTag(m, publishedTopic, protowire.BytesType)
	m = protowire.AppendString(m, protocol.RoomTopic(id))
	return gossipFrame(rpcPublished, m)
}

// subscription is the message of gossipsub that says that we hear, or not any more,
// what is said to a room.
func subscription(id protocol.RoomID, on bool) []byte {
	var m []byte
	m = protowire.AppendTag(m, subscriptionOn, protowire.VarintType)
	m = protowire.AppendVarint(m, protowire.EncodeBool(on))
	m = protowire.AppendTag(m, subscriptionTopic, protowire.BytesType)
	m = protowire.AppendString(m, protocol.RoomTopic(id))
	return gossipFrame(rpcSubscription, m)
}

// gossipFrame is a message of gossipsub with one field, as it travels.
func gossipFrame(field protowire.Number, value []byte) []byte {
	size := protowire.SizeTag(field) + protowire.SizeBytes(len(value))
	b := protowire.AppendVarint(nil, uint64(size))
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendBytes(b, value)
}
