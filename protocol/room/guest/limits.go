package guest

import (
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// How many wrong passwords are taken, by one device of a member in one room.
const (
	keyTries    = 5 // of one key
	keyWindow   = 10 * time.Minute
	placeTries  = 10 // of all keys at one place that were never in the room
	placeWindow = time.Hour
	roomTries   = 30 // of all keys that were never in the room
	roomWindow  = time.Hour
)

// Limits counts the wrong passwords in one room. It is made so that who guesses does
// not lock others out: one place has a third of what strangers have together, and who
// was in the room before is counted by its key alone. The zero value counts nothing
// yet. Safe for concurrent use.
type Limits struct {
	mu    sync.Mutex
	tries []*try // within the last hour, oldest first: at most roomTries of strangers, and few of each key
}

// try is a guess that was wrong, or is being checked.
type try struct {
	who
	at time.Time
}

// who is whose guess it is.
type who struct {
	device protocol.DeviceID
	from   string // place; empty: one place like any other
	known  bool   // was in the room before
}

// take counts a guess, or returns how long to wait until it may be made.
func (l *Limits) take(now time.Time, w who) (t *try, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(now)
	wait = l.wait(now, keyTries, keyWindow, func(t *try) bool { return t.device == w.device })
	if !w.known {
		wait = max(wait,
			l.wait(now, placeTries, placeWindow, func(t *try) bool { return !t.known && t.from == w.from }),
			l.wait(now, roomTries, roomWindow, func(t *try) bool { return !t.known }))
	}
	if wait > 0 {
		return nil, wait
	}
	t = &try{w, now}
	l.tries = append(l.tries, t)
	return t, 0
}

// giveBack forgets a guess that was right.
func (l *Limits) giveBack(t *try) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries = slices.DeleteFunc(l.tries, func(other *try) bool { return other == t })
}

// wait is the time until fewer than n guesses of a kind lie in the window.
func (l *Limits) wait(now time.Time, n int, window time.Duration, counts func(*try) bool) time.Duration {
	var ends []time.Duration
	for _, t := range l.tries {
		if left := t.at.Add(window).Sub(now); left > 0 && counts(t) {
			ends = append(ends, left)
		}
	}
	if len(ends) < n {
		return 0
	}
	return ends[len(ends)-n]
}

// forget drops what is too old to count. After a clock that was set back, what it
// counted before counts as made now.
func (l *Limits) forget(now time.Time) {
	l.tries = slices.DeleteFunc(l.tries, func(t *try) bool { return now.Sub(t.at) >= roomWindow })
	for _, t := range l.tries {
		if t.at.After(now) {
			t.at = now
		}
	}
}
