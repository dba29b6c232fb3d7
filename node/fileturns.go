package node

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/protocol"
)

const (
	maxGiving        = 6                // requests for pieces that are answered at a time; each holds a piece in memory
	maxAccountGiving = 3                // of one account
	ownGiving        = 1                // of maxGiving, which only devices of this account get
	givingWait       = 10 * time.Second // for one's turn
	turnKept         = time.Minute      // of waiting for a slow reader, after which others come first
	asksPerSecond    = 50               // of one account, and so many at once
)

// turns says whose request for pieces is answered next.
type turns struct {
	self protocol.AccountID

	mu    sync.Mutex
	taken map[*turn]bool
	free  chan struct{} // closed when one has ended
	paces map[protocol.AccountID]*rate.Limiter
}

// turn is a request that is being answered.
type turn struct {
	account protocol.AccountID
	end     func()        // breaks the answer off: the rest of it is asked for again
	waited  time.Duration // for its reader; guarded by turns.mu
}

func newTurns(self protocol.AccountID) *turns {
	return &turns{self: self, taken: map[*turn]bool{}, free: make(chan struct{}), paces: map[protocol.AccountID]*rate.Limiter{}}
}

// take waits for a turn; nil if that takes too long. A turn that a slow reader has had for
// long ends for it, so that nobody can keep all others from their files.
func (t *turns) take(ctx context.Context, account protocol.AccountID, end func()) *turn {
	ctx, cancel := context.WithTimeout(ctx, givingWait)
	defer cancel()
	if t.pace(account).Wait(ctx) != nil {
		return nil
	}
	mine := &turn{account: account, end: end}
	for {
		t.mu.Lock()
		if t.enterLocked(mine) {
			t.mu.Unlock()
			return mine
		}
		free := t.free
		t.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return nil
		}
	}
}

// enterLocked takes a turn if there is one, and else ends the slowest of those in the way.
func (t *turns) enterLocked(mine *turn) bool {
	same, others := 0, 0
	for o := range t.taken {
		if o.account == mine.account {
			same++
		}
		if o.account != t.self {
			others++
		}
	}
	if same < maxAccountGiving && len(t.taken) < maxGiving && (mine.account == t.self || others < maxGiving-ownGiving) {
		t.taken[mine] = true
		return true
	}
	var slow *turn
	for o := range t.taken {
		inTheWay := same < maxAccountGiving || o.account == mine.account
		if inTheWay && o.waited > turnKept && (slow == nil || o.waited > slow.waited) {
			slow = o
		}
	}
	if slow != nil {
		slow.end()
	}
	return false
}

// end gives a turn back.
func (t *turns) end(mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.taken, mine)
	close(t.free)
	t.free = make(chan struct{})
}

// waited notes how long a turn has waited for its reader.
func (t *turns) waited(mine *turn, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine.waited += d
}

func (t *turns) pace(account protocol.AccountID) *rate.Limiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paces[account] == nil {
		t.paces[account] = rate.NewLimiter(asksPerSecond, asksPerSecond)
	}
	return t.paces[account]
}

// sweep forgets who has not asked lately.
func (t *turns) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for a, l := range t.paces {
		if l.Tokens() >= asksPerSecond {
			delete(t.paces, a)
		}
	}
}
