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
	maxAccountAsking = 16               // requests of one account that are answered or wait for their turn
	ownGiving        = 1                // of maxGiving, which only devices of this account get
	givingWait       = 10 * time.Second // for one's turn
	turnKept         = time.Minute      // of waiting for a slow reader, after which others come first when it has its piece
	pieceKept        = 3 * time.Minute  // of waiting for it to take that, after which they do within it
	turnsLooked      = time.Second      // how often who waits looks for slow readers
	asksPerSecond    = 50               // of one account, and so many at once
)

// turns says whose request for pieces is answered next.
type turns struct {
	self protocol.AccountID

	mu     sync.Mutex
	taken  map[*turn]bool
	free   chan struct{}              // closed when one has ended
	asking map[protocol.AccountID]int // requests
	paces  map[protocol.AccountID]*rate.Limiter
}

// turn is a request that is being answered. What turns notes of it is guarded by turns.mu.
type turn struct {
	account protocol.AccountID
	waited  time.Duration // for its reader
	piece   time.Duration // of that for the piece that is being written
	leave   bool          // others come first: the rest is asked for again
}

func newTurns(self protocol.AccountID) *turns {
	return &turns{
		self: self, taken: map[*turn]bool{}, free: make(chan struct{}),
		asking: map[protocol.AccountID]int{}, paces: map[protocol.AccountID]*rate.Limiter{},
	}
}

// begin counts a request, until done; false: its account has too many.
func (t *turns) begin(account protocol.AccountID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asking[account] == maxAccountAsking {
		return false
	}
	t.asking[account]++
	return true
}

func (t *turns) done(account protocol.AccountID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asking[account]--; t.asking[account] == 0 {
		delete(t.asking, account)
	}
}

// take waits for a turn; nil if that takes too long. A turn that a slow reader has had for
// long ends for it, so that nobody can keep all others from their files.
func (t *turns) take(ctx context.Context, account protocol.AccountID) *turn {
	ctx, cancel := context.WithTimeout(ctx, givingWait)
	defer cancel()
	if t.pace(account).Wait(ctx) != nil {
		return nil
	}
	look := time.NewTicker(turnsLooked)
	defer look.Stop()
	mine := &turn{account: account}
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
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// enterLocked takes a turn if there is one, and else has the slow ones in the way leave.
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
	keptForOwn := mine.account != t.self && others >= maxGiving-ownGiving
	if same < maxAccountGiving && len(t.taken) < maxGiving && !keptForOwn {
		t.taken[mine] = true
		return true
	}
	for o := range t.taken {
		inTheWay := !keptForOwn || o.account != t.self
		if same >= maxAccountGiving {
			inTheWay = o.account == mine.account
		}
		o.leave = o.leave || inTheWay && o.waited > turnKept
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

// waited notes how long a turn has waited for its reader, and tells whether it goes on within
// its piece.
func (t *turns) waited(mine *turn, d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine.waited += d
	mine.piece += d
	return !mine.leave || mine.piece <= pieceKept
}

// next tells whether a turn that has written a piece goes on with another.
func (t *turns) next(mine *turn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine.piece = 0
	return !mine.leave
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
