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
			if got := all.take(t.Context(), step.who); (got != nil) != step.gets {
				t.Errorf("step %d: %v", i, got)
			}
		}
	})
}

// Who has read slowly for long makes room for others when it has its piece, or within one that
// takes too long.
func TestSlowReadersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := protocol.AccountID{1}
		all := newTurns(protocol.AccountID{9})
		var taken []*turn
		for range maxAccountGiving {
			taken = append(taken, all.take(t.Context(), slow))
		}
		dripping := taken[0]
		all.waited(dripping, turnKept)
		if all.take(t.Context(), slow) != nil || !all.next(dripping) {
			t.Error("a turn ended too early")
		}
		go func() {
			time.Sleep(givingWait / 2) // another waits already
			all.waited(dripping, time.Second)
			time.Sleep(2 * turnsLooked)
			if !all.waited(dripping, pieceKept-time.Second) {
				t.Error("it does not get its piece")
			}
			if all.waited(dripping, time.Millisecond) {
				t.Error("it gets a piece that takes for ever")
			}
			if all.next(dripping) {
				t.Error("it gets another piece")
			}
			all.end(dripping)
		}()
		if all.take(t.Context(), slow) == nil {
			t.Error("the slow one keeps its turn")
		}
		for _, o := range taken[1:] {
			if !all.next(o) {
				t.Error("who waited less leaves")
			}
		}
	})
}

// Only who is in the way of others makes room for them.
func TestWhoMakesRoom(t *testing.T) {
	self, a, b, c := protocol.AccountID{9}, protocol.AccountID{1}, protocol.AccountID{2}, protocol.AccountID{3}
	for i, step := range []struct {
		taken  []protocol.AccountID
		asks   protocol.AccountID
		leaves []bool
	}{
		{[]protocol.AccountID{a, a, a, self}, a, []bool{true, true, true, false}},
		{[]protocol.AccountID{a, a, a, b, b, self}, c, []bool{true, true, true, true, true, false}},
		{[]protocol.AccountID{a, a, a, b, b, self}, b, []bool{true, true, true, true, true, false}},
		{[]protocol.AccountID{a, a, a, b, b, self}, self, []bool{true, true, true, true, true, true}},
		{[]protocol.AccountID{a, a, b, self, self, self}, self, []bool{false, false, false, true, true, true}},
		{[]protocol.AccountID{a, a, b, self, self, self}, c, []bool{true, true, true, true, true, true}},
		{[]protocol.AccountID{a, a, b}, b, []bool{false, false, false}},
	} {
		synctest.Test(t, func(t *testing.T) {
			all := newTurns(self)
			var taken []*turn
			for _, who := range step.taken {
				mine := all.take(t.Context(), who)
				all.waited(mine, turnKept+time.Second)
				taken = append(taken, mine)
			}
			all.take(t.Context(), step.asks)
			for k, mine := range taken {
				if leaves := !all.next(mine); leaves != step.leaves[k] {
					t.Errorf("case %d: turn %d leaves: %v", i, k, leaves)
				}
			}
		})
	}
}

// However many devices an account has, its requests leave room for those of others.
func TestRequestsOfOneAccount(t *testing.T) {
	all, a, b := newTurns(protocol.AccountID{9}), protocol.AccountID{1}, protocol.AccountID{2}
	for range maxAccountAsking {
		if !all.begin(a) {
			t.Fatal("refused too early")
		}
	}
	if all.begin(a) || !all.begin(b) {
		t.Error("not who asks too much is refused")
	}
	for range maxAccountAsking {
		all.done(a)
	}
	if !all.begin(a) || len(all.asking) != 2 {
		t.Errorf("counted are %v", all.asking)
	}
}

// Who asks without end is answered no faster than asksPerSecond, and nobody else waits for
// that. What is known of him is forgotten.
func TestAskingHasAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, began := newTurns(protocol.AccountID{9}), time.Now()
		ask := func(who protocol.AccountID) {
			mine := all.take(t.Context(), who)
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
