package transfer

import (
	"slices"
	"sync"
)

// queue says which pieces are to be asked for next: those that nobody was asked for,
// in order, and in the end those that another source is slow with.
type queue struct {
	part *Part

	mu      sync.Mutex
	open    []bool // pieces that are missing and that nobody is asked for
	low     int    // all before it are not open
	running []*request
	changed chan struct{} // closed when there is something new to take
}

// request is a run of pieces that one source is asked for.
type request struct {
	first, count int // as it is asked
	by           *supply

	end    int  // of what is still wanted of it; not in it; guarded by queue.mu
	shared bool // its last piece is asked for elsewhere too; guarded by queue.mu
}

func newQueue(p *Part) *queue {
	q := &queue{part: p, open: make([]bool, len(p.have)), changed: make(chan struct{})}
	for k := range q.open {
		q.open[k] = !p.Has(k)
	}
	return q
}

// take waits until there is something to ask a source for. It returns nil when the
// source is of no use any more.
func (q *queue) take(s *supply) *request {
	for s.ctx.Err() == nil {
		q.mu.Lock()
		r := q.nextLocked(s)
		changed := q.changed
		q.mu.Unlock()
		if r != nil {
			return r
		}
		select {
		case <-s.ctx.Done():
		case <-changed:
		}
	}
	return nil
}

func (q *queue) nextLocked(s *supply) *request {
	for q.low < len(q.open) && !q.open[q.low] {
		q.low++
	}
	r := &request{first: q.low, end: q.low, by: s}
	for r.end < len(q.open) && q.open[r.end] && r.end-r.first < MaxRequest {
		q.open[r.end] = false
		r.end++
	}
	if r.first == r.end && !q.shareLocked(r) {
		return nil
	}
	r.count = r.end - r.first
	q.running = append(q.running, r)
	return r
}

// shareLocked gives r the second half of what another source has most left of; if that
// is a single piece, both are asked for it.
func (q *queue) shareLocked(r *request) bool {
	var slow *request
	most := 0
	for _, o := range q.running {
		if left := q.leftLocked(o, o.first); o.by != r.by && left > most && !o.shared {
			slow, most = o, left
		}
	}
	if slow == nil {
		return false
	}
	r.end, r.first = slow.end, slow.end-(most+1)/2
	if most == 1 {
		slow.shared, r.shared = true, true
	} else {
		slow.end = r.first
	}
	return true
}

// leftLocked tells how many pieces of a request are missing, from piece k on.
func (q *queue) leftLocked(r *request, k int) (n int) {
	for ; k < r.end; k++ {
		if !q.part.Has(k) {
			n++
		}
	}
	return n
}

// wants tells whether piece k of a request is still to be read: it or one behind it is
// missing.
func (q *queue) wants(r *request, k int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.leftLocked(r, k) > 0
}

// release takes a request back that has ended. What it did not bring is open again.
func (q *queue) release(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running = slices.DeleteFunc(q.running, func(o *request) bool { return o == r })
	for k := r.first; k < r.end; k++ {
		if !q.part.Has(k) {
			q.open[k], q.low = true, min(q.low, k)
		}
	}
	close(q.changed)
	q.changed = make(chan struct{})
}
