package chain

import (
	"slices"
	"time"
)

// maxGaps is how many gaps are remembered of one device; over that the oldest
// are given up.
const maxGaps = 2000

// maxJump is how far from the known numbers of a device a chain of it may begin: more
// than anybody writes before one of his chains comes.
const maxJump = 1 << 20

// Gap is a run of messages that did not come, though later ones did or are known
// to exist.
type Gap struct {
	First, Last uint64 // their numbers
	Since       time.Time
}

// numbers tells which of a device's messages in a room are awaited: those in a
// gap, and those from next on. Every other one was opened, given up, or is older
// than what this device was ever to read.
type numbers struct {
	lowest uint64 // the first that this device was given a chain for; 0: none yet
	next   uint64 // above every number known to exist
	gaps   []Gap  // ascending, not overlapping; never written to
}

func (s *numbers) awaits(number uint64) bool {
	if number >= s.next {
		return true
	}
	_, in := s.gapOf(number)
	return in
}

// gapOf returns the gap that holds number.
func (s *numbers) gapOf(number uint64) (i int, in bool) {
	return slices.BinarySearchFunc(s.gaps, number, func(g Gap, number uint64) int {
		switch {
		case g.Last < number:
			return -1
		case g.First > number:
			return 1
		}
		return 0
	})
}

// far tells that a chain cannot begin with first: it would make up missing messages.
func (s *numbers) far(first uint64) bool {
	return s.lowest > 0 && (first > s.next && first-s.next > maxJump || first < s.lowest && s.lowest-first > maxJump)
}

// begin notes that a chain begins with first: what is before exists.
func (s *numbers) begin(now time.Time, first uint64) {
	switch {
	case s.lowest == 0:
		s.lowest, s.next = first, first
	case first > s.next:
		s.reach(now, first)
	case first < s.lowest:
		s.gaps = slices.Concat([]Gap{gap(now, first, s.lowest-1)}, s.gaps)
		s.lowest = first
	}
}

// reach notes that every number below next exists.
func (s *numbers) reach(now time.Time, next uint64) {
	if next > s.next {
		s.gaps = append(slices.Clip(s.gaps), gap(now, s.next, next-1))
		s.next = next
	}
}

func gap(now time.Time, first, last uint64) Gap {
	return Gap{First: first, Last: last, Since: time.Unix(now.Unix(), 0).UTC()}
}

// take notes that an awaited message was opened.
func (s *numbers) take(now time.Time, number uint64) {
	if number >= s.next {
		s.reach(now, number)
		s.next = number + 1
		return
	}
	s.drop(number, number)
}

// drop makes first to last awaited no more.
func (s *numbers) drop(first, last uint64) {
	var left []Gap
	for _, g := range s.gaps {
		if g.Last < first || g.First > last {
			left = append(left, g)
			continue
		}
		if g.First < first {
			left = append(left, Gap{g.First, first - 1, g.Since})
		}
		if g.Last > last {
			left = append(left, Gap{last + 1, g.Last, g.Since})
		}
	}
	s.gaps = left
}

// forget gives up what has been missing since before oldest, and the oldest gaps
// over maxGaps.
func (s *numbers) forget(oldest time.Time) {
	old := func(g Gap) bool { return g.Since.Before(oldest) }
	if slices.ContainsFunc(s.gaps, old) {
		s.gaps = slices.DeleteFunc(slices.Clone(s.gaps), old)
	}
	s.gaps = s.gaps[max(0, len(s.gaps)-maxGaps):]
}
