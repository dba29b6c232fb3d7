// Package chain is the sealed side of room messages: the chain of keys with
// which one device writes to a room (sender keys, in Signal's words), how it is
// given to the others, and opening what they wrote.
//
// A chain belongs to one device and one epoch of the room's log. Its owner makes
// it with Start and gives its Distribution to every device that may read, over
// the pairwise sessions and in no other way. Who joins gets new chains only and
// reads nothing older; who left gets none and reads nothing newer. The chain's
// id is a hash of what all its keys come from, so everybody who opens a message
// opens the same text.
//
// Sender and Receiver are values. Their methods return the next one, which the
// caller stores before anything leaves the device or is shown; after an error
// the old one is unchanged and still good. The package does no I/O, reads no
// clock and keeps nothing between calls.
package chain

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

const (
	labelID  = "group chain"
	labelKey = "group key"
)

// idOf is the id of the chain that grows from seed: a commitment to all its keys
// and to whose and where it is.
func idOf(seed, room [32]byte, epoch uint64, device protocol.DeviceID, first uint64) [32]byte {
	var numbers [16]byte
	binary.BigEndian.PutUint64(numbers[:8], epoch)
	binary.BigEndian.PutUint64(numbers[8:], first)
	return key.Hash(labelID, seed[:], room[:], numbers[:8], device[:], numbers[8:])
}

// firstKey is the chain key of message 0.
func firstKey(seed, id [32]byte) [32]byte {
	out, err := hkdf.Key(sha256.New, seed[:], nil, key.Label(labelKey)+string(id[:]), 32)
	if err != nil {
		panic(err) // HKDF always has 32 bytes for 32 bytes
	}
	defer clear(out)
	return [32]byte(out)
}
