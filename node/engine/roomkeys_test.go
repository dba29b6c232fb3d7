package engine

import (
	"testing"

	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Who gives many keys that no entry names keeps out nobody's key that comes before its
// entry.
func TestJunkKeysKeepNobodysOut(t *testing.T) {
	w, id, a, b, c := trio(t)
	before := len(a.rows(tableRoomKey))
	give := func(from *node, count int) {
		keys := &wire.RoomKeys{Room: id[:]}
		for range count {
			keys.StateKeys = append(keys.StateKeys, room.NewStateKey().Bytes())
		}
		w.check(a.update(func(tx store.Tx) (Hint, error) { return Hint{}, a.takeKeys(tx, from, keys) }))
	}
	for range 10 {
		give(b, maxRoomGive)
	}
	if got := len(a.rows(tableRoomKey)) - before; got != maxKeysOfOne {
		t.Errorf("%d keys of one are kept", got)
	}
	give(c, 1)
	if got := len(a.rows(tableRoomKey)) - before; got != maxKeysOfOne+1 {
		t.Errorf("%d keys are kept with another's", got)
	}
}
