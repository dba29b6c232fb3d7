package session

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func repaired(t tester, r Repair) Repair {
	t.Helper()
	back, err := ParseRepair(r.Marshal())
	check(t, err)
	if back != r {
		t.Fatalf("%+v came back as %+v", r, back)
	}
	return back
}

func due(r Repair, now time.Time) bool {
	at, ok := r.Due()
	return ok && !now.Before(at)
}

func TestRepairWanted(t *testing.T) {
	var r Repair
	if due(r, start) {
		t.Error("nothing happened")
	}
	if !due(r.UnknownSession(), start) {
		t.Error("unknown session")
	}
	for i, want := range []bool{false, false, true, true} {
		r = repaired(t, r.Failed(start, fmt.Errorf("receive: %w", ErrDecrypt)))
		if due(r, start) != want {
			t.Errorf("%d bad messages: %v", i+1, !want)
		}
	}
	if due(r.Opened(), start) {
		t.Error("a message was opened since")
	}
	for _, err := range []error{nil, ErrReplay, ErrMalformed, ErrTooLarge, ErrNotReady} {
		var r Repair
		for range 10 {
			r = r.Failed(start, err)
		}
		if due(r, start) {
			t.Errorf("%v counts", err)
		}
	}
	var slow Repair
	for i := range 10 {
		slow = slow.Failed(start.Add(time.Duration(i)*badWindow/2), ErrSkip)
	}
	if due(slow, start) {
		t.Error("bad messages far apart count together")
	}
}

// Delays double from 10 minutes to a day and start over after two quiet days.
func TestRepairDelays(t *testing.T) {
	var r Repair
	now := start
	for i, want := range []time.Duration{
		10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 80 * time.Minute, 160 * time.Minute,
		320 * time.Minute, 640 * time.Minute, 1280 * time.Minute, lastDelay, lastDelay,
	} {
		r = repaired(t, r.UnknownSession())
		if !due(r, now) {
			t.Fatalf("repair %d is not due", i)
		}
		r = r.Repaired(now)
		if _, ok := r.Due(); ok {
			t.Error("wanted although just made")
		}
		r = r.UnknownSession()
		if due(r, now.Add(want-time.Second)) || !due(r, now.Add(want)) {
			t.Errorf("repair %d: delay is not %v", i, want)
		}
		now = now.Add(want)
	}
	now = now.Add(2 * lastDelay)
	r = r.Repaired(now).UnknownSession()
	if !due(r, now.Add(firstDelay)) {
		t.Error("the delay does not start over")
	}
}

// Whatever arrives, repairs to one device stay few: at most one in ten
// minutes and a dozen in a day.
func TestRepairIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Repair
		now := start
		var made []time.Time
		for range rapid.IntRange(0, 300).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3600).Draw(t, "pass")) * time.Second)
			switch rapid.IntRange(0, 2).Draw(t, "event") {
			case 0:
				r = r.UnknownSession()
			case 1:
				r = r.Failed(now, ErrDecrypt)
			case 2:
				r = r.Opened()
			}
			if r = repaired(t, r); due(r, now) {
				r = r.Repaired(now)
				made = append(made, now)
			}
		}
		for i, at := range made {
			if i > 0 && at.Sub(made[i-1]) < firstDelay {
				t.Fatal("two repairs within ten minutes")
			}
			if i >= 12 && at.Sub(made[i-12]) < 24*time.Hour {
				t.Fatal("more than a dozen repairs in a day")
			}
		}
	})
}

func TestParseRepairRefuses(t *testing.T) {
	good := Repair{}.Marshal()
	for _, b := range [][]byte{nil, good[1:], append(good, 0), append([]byte{9}, good[1:]...), append([]byte{1, 2}, good[2:]...)} {
		if _, err := ParseRepair(b); err != ErrMalformed {
			t.Errorf("%x parses", b)
		}
	}
}
