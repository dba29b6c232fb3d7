package node

import "sync"

// bell wakes everyone who waits for something to change. Take the channel
// before looking at what may have changed: then no change is missed.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// nudge is a hint to one goroutine that there may be work. Hints that come
// before it looks count as one.
type nudge chan struct{}

func newNudge() nudge { return make(nudge, 1) }

func (n nudge) push() {
	select {
	case n <- struct{}{}:
	default:
	}
}
