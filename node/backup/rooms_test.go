package backup

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/wire"
)

// roomSample is a room that alice is in, one that she left, and what was said in one.
func roomSample(t *testing.T) []proto.Message {
	t.Helper()
	in, out := keytest.Seed("in", 32), keytest.Seed("out", 32)
	said := past(protocol.AccountID(in), 9, 2)
	said.Room = true
	return []proto.Message{
		&wire.RoomState{Room: in, Stage: 2, Name: "Climbing", Home: []byte{1}, Keys: [][]byte{keytest.Seed("key", 32)}},
		&wire.RoomState{Room: out, Stage: 3, Name: "Diving"},
		&wire.RoomLog{Room: out, Entries: [][]byte{{1}, {2}}},
		said,
	}
}

func writeRooms(t *testing.T, records ...proto.Message) ([]byte, error) {
	t.Helper()
	h, _ := sample(t)
	var file bytes.Buffer
	w, err := Create(&file, secret(t), h)
	for _, record := range records {
		if err != nil {
			break
		}
		switch m := record.(type) {
		case *wire.RoomState:
			err = w.Room(m)
		case *wire.RoomLog:
			err = w.Log(m)
		case *wire.Past:
			err = w.Past(m)
		}
	}
	if err == nil {
		err = w.Close()
	}
	return file.Bytes(), err
}

func TestRoomsRoundTrip(t *testing.T) {
	want := roomSample(t)
	file, err := writeRooms(t, want...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := open(file, secret(t))
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for got, err := range b.records() {
		if err != nil || i >= len(want) || !proto.Equal(got, want[i]) {
			t.Fatalf("record %d is %v, %v", i, got, err)
		}
		i++
	}
	if i != len(want) || b.Conversations != 1 || b.Messages != 2 {
		t.Errorf("%d records, %d conversations, %d messages", i, b.Conversations, b.Messages)
	}
}

// Rooms in a wrong place, or that cannot be, are refused, by who writes or who reads.
func TestMisplacedRooms(t *testing.T) {
	r := roomSample(t)
	stranger := &wire.Past{With: keytest.Seed("nobody", 32), Room: true, Messages: r[3].(*wire.Past).Messages}
	for name, records := range map[string][]proto.Message{
		"a room twice":          {r[0], r[0]},
		"a log of no room":      {r[2]},
		"a log of another":      {r[1], r[0], r[2]},
		"a room after texts":    {r[0], r[3], r[1]},
		"a log after texts":     {r[0], r[1], r[3], r[2]},
		"texts in no room":      {r[0], stranger},
		"texts with a room":     {r[0], &wire.Past{With: r[0].(*wire.RoomState).Room, Messages: stranger.Messages}},
		"a room of bad stage":   {&wire.RoomState{Room: make([]byte, 32), Stage: 7}},
		"a log without entries": {r[1], &wire.RoomLog{Room: r[1].(*wire.RoomState).Room}},
	} {
		file, err := writeRooms(t, records...)
		if err == nil {
			_, err = open(file, secret(t))
		}
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
