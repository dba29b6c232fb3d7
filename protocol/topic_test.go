package protocol

import (
	"strings"
	"testing"
)

func TestRoomTopic(t *testing.T) {
	id := RoomID{0xab, 31: 1}
	topic := RoomTopic(id)
	if topic != "/parley/room/1/ab"+strings.Repeat("0", 60)+"01" {
		t.Errorf("topic %s", topic)
	}
	if got, ok := RoomOfTopic(topic); !ok || got != id {
		t.Errorf("room %v %v of %s", got, ok, topic)
	}
	for _, other := range []string{"", "/parley/kt/1/x", topic[:len(topic)-1], topic + "0", strings.Replace(topic, "ab", "AB", 1), strings.Replace(topic, "ab", "xy", 1)} {
		if id, ok := RoomOfTopic(other); ok {
			t.Errorf("%q is the topic of %v", other, id)
		}
	}
}
