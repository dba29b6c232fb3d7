package node

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// Wrong passwords in a room count together, and are forgotten when nobody has knocked
// there for an hour: rooms come and go.
func TestGuessesAreForgotten(t *testing.T) {
	k, now := newKnocks(), time.Unix(1_700_000_000, 0)
	one, other := protocol.RoomID{1}, protocol.RoomID{2}
	first := k.limits(now, one)
	if k.limits(now.Add(guessMemory-1), one) != first {
		t.Error("a knock within the hour is counted anew")
	}
	if k.limits(now.Add(guessMemory), one) != first {
		t.Error("the hour does not begin with the last knock")
	}
	k.limits(now.Add(2*guessMemory), other)
	if len(k.guesses) != 1 || k.guesses[other] == nil {
		t.Errorf("%d rooms are remembered", len(k.guesses))
	}
}
