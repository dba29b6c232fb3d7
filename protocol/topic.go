package protocol

import (
	"encoding/hex"
	"strings"
)

// roomTopics is what the names of all rooms' topics begin with.
const roomTopics = "/parley/room/1/"

// RoomTopic is the name of a room's topic on gossipsub (SPEC "Rooms at the rendezvous").
func RoomTopic(id RoomID) string { return roomTopics + hex.EncodeToString(id[:]) }

// RoomOfTopic tells of which room a topic is; false: of none.
func RoomOfTopic(topic string) (id RoomID, ok bool) {
	b, err := hex.DecodeString(strings.TrimPrefix(topic, roomTopics))
	if err != nil || len(b) != len(id) || RoomTopic(RoomID(b)) != topic {
		return RoomID{}, false
	}
	return RoomID(b), true
}
