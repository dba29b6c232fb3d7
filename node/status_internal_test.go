package node

import (
	"strings"
	"testing"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
)

// What to type about a room never has the room's name in it: others choose that, and a
// shell would do what it says.
func TestFixOfAForkNamesTheRoomByItsID(t *testing.T) {
	var s api.Status
	id := protocol.RoomID{1, 2, 3}
	addRoomProblems(&s, []engine.Room{{ID: id, Name: "$(touch x)`y`", Forked: true}})
	if len(s.Problems) != 1 || s.Problems[0].Fix != "parley room fork "+id.String()[:8] || !strings.Contains(s.Problems[0].Text, "$(touch x)") {
		t.Errorf("%+v", s.Problems)
	}
}
