package engine

import (
	"time"

	"github.com/parley-chat/parley/store"
)

// The clock of a device may be wrong for a while: far ahead until it is set, or
// far back. What was put off by it must not be put off for years, and what lies
// in the past only by it must not be destroyed.

const (
	clockEvery  = 10 * time.Minute // how exactly the time of the last tick is kept
	clockBack   = time.Hour        // a clock that went back so far was ahead before
	clockJump   = 24 * time.Hour   // one that went on so far is not believed at once,
	clockSettle = time.Hour        // but when it went on so long from there
)

// clockRow is what the clock showed.
type clockRow struct {
	last         time.Time // at the last tick
	destroyAfter time.Time // no sweep runs before this
}

func (r *clockRow) encode() []byte {
	e := newRow(20)
	e.time(r.last)
	e.time(r.destroyAfter)
	return e.b
}

func (r *clockRow) decode(b []byte) error {
	d := readRow(b)
	r.last, r.destroyAfter = d.time(), d.time()
	return d.end("clock")
}

// watchClock compares the time with that of the last tick, and returns when
// sweeps may run.
func (w *work) watchClock() (destroyAfter time.Time, err error) {
	key := store.Key(tableClock)
	r, ok, err := load[clockRow](w.tx, key)
	if err != nil {
		return time.Time{}, err
	}
	passed := w.now.Sub(r.last)
	switch {
	case !ok, passed < -clockBack:
		r.destroyAfter = time.Time{}
		w.hint.Prekeys = ok // those that the clock made in the future are replaced
		if err := w.restartSweeps(); err != nil {
			return time.Time{}, err
		}
	case passed > clockJump:
		r.destroyAfter = w.now.Add(clockSettle)
	case passed < clockEvery:
		return r.destroyAfter, nil
	}
	r.last = w.now
	return r.destroyAfter, w.put(key, &r)
}

// restartSweeps brings back the timers of sweeps that a clock which was ahead
// has set for a time far off. Those that are due sooner stay.
func (w *work) restartSweeps() error {
	missing := make(map[timer]bool, len(sweeps))
	for kind := range sweeps {
		missing[kind] = true
	}
	err := all(w.tx, []byte{tableTimer}, func(pair store.Pair) (bool, error) {
		kind, at := timer(pair.Key[9]), timerTime(pair.Key)
		switch {
		case sweeps[kind] == 0:
		case at.After(w.now.Add(sweeps[kind])):
			return true, w.delete(pair.Key)
		case len(pair.Key) == 10:
			missing[kind] = false
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	for kind := range missing {
		if !missing[kind] {
			continue
		}
		if err := w.at(w.now.Add(sweeps[kind]), kind, nil); err != nil {
			return err
		}
	}
	return nil
}

// waits tells whether a time is yet to come. One further ahead than anything is
// put off was set by a clock that was wrong.
func waits(now, at time.Time, longest time.Duration) bool {
	left := at.Sub(now)
	return left > 0 && left <= longest
}
