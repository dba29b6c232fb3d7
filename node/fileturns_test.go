package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// One account does not get all turns, and all others together leave one for the devices of
// this account.
func TestTurnsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		self, a, b, c := protocol.AccountID{9}, protocol.AccountID{1}, protocol.AccountID{2}, protocol.AccountID{3}
		all := newTurns(self)
		for i, step := range []struct {
			who  protocol.AccountID
			gets bool
		}{{a, true}, {a, true}, {a, true}, {a, false}, {b, true}, {b, true}, {b, false}, {c, false}, {self, true}, {self, false}} {
			if got := all.take(t.Context(), step.who, func() { t.Error("a turn is ended") }); (got != nil) != step.gets {
				t.Errorf("step %d: %v", i, got)
			}
		}
	})
}

// Who has read slowly for long makes room for others.
func TestSlowReadersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, other := protocol.AccountID{1}, protocol.AccountID{2}
		all := newTurns(protocol.AccountID{9})
		var dripping, last *turn
		dripping = all.take(t.Context(), slow, func() { go all.end(dripping) })
		for range maxAccountGiving - 1 {
			all.take(t.Context(), slow, func() { t.Error("who waited less ends first") })
		}
		all.waited(dripping, turnKept)
		if all.take(t.Context(), slow, nil) != nil {
			t.Error("a turn ended too early")
		}
		all.waited(dripping, time.Second)
		if last = all.take(t.Context(), slow, func() { go all.end(last) }); last == nil {
			t.Error("the slow one keeps its turn")
		}
		for range maxGiving - ownGiving - maxAccountGiving {
			all.take(t.Context(), other, func() { t.Error("who waited less ends first") })
		}
		all.waited(last, 2*turnKept)
		if all.take(t.Context(), other, nil) == nil {
			t.Error("a slow one of somebody else keeps its turn")
		}
	})
}

// Who asks without end is answered no faster than asksPerSecond, and nobody else waits for
// that. What is known of him is forgotten.
func TestAskingHasAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, began := newTurns(protocol.AccountID{9}), time.Now()
		ask := func(who protocol.AccountID) {
			mine := all.take(t.Context(), who, nil)
			if mine == nil {
				t.Fatal("no turn")
			}
			all.end(mine)
		}
		for range 3 * asksPerSecond {
			ask(protocol.AccountID{1})
		}
		if took := time.Since(began); took < 1900*time.Millisecond || took > 2*time.Second {
			t.Errorf("150 asks took %v", took)
		}
		began = time.Now()
		if ask(protocol.AccountID{2}); time.Since(began) > 0 {
			t.Error("another waits")
		}
		time.Sleep(2 * time.Second)
		if all.sweep(); len(all.paces) > 0 {
			t.Errorf("%d are remembered", len(all.paces))
		}
	})
}
