package message

import "time"

const (
	// InFlight is how long after its end an epoch's messages are still taken from
	// those who may go on sending.
	InFlight = 60 * time.Second

	maxEnded = 64 // epochs remembered that ended just now
)

// Epochs is which epochs of a room count: the one in force and those that ended
// within InFlight. It is a value; the zero value is a room with nothing but its
// first entry. After a restart it begins anew with the epoch in force: what is
// still in flight then comes from the room's mailbox.
type Epochs struct {
	current uint64
	ended   []ended // oldest first; never written to once it is in an Epochs
}

type ended struct {
	epoch uint64
	at    time.Time
}

// EpochsAt is what counts while epoch is in force and none ended just now.
func EpochsAt(epoch uint64) Epochs { return Epochs{current: epoch} }

// Current is the epoch in force.
func (e Epochs) Current() uint64 { return e.current }

// Advance is what counts once the log was found, at now, to have come to epoch.
// An epoch that is not above the current one changes nothing.
func (e Epochs) Advance(now time.Time, epoch uint64) Epochs {
	if epoch <= e.current {
		return e
	}
	next := Epochs{current: epoch}
	for _, old := range e.ended[max(0, len(e.ended)-maxEnded+1):] {
		if old.inFlight(now) {
			next.ended = append(next.ended, old)
		}
	}
	next.ended = append(next.ended, ended{e.current, now})
	return next
}

func (e ended) inFlight(now time.Time) bool {
	passed := now.Sub(e.at)
	return passed >= 0 && passed <= InFlight
}

// past tells of an epoch before the current one that it is over, for good or, where it
// is ending, but for what was in flight.
func (e Epochs) past(now time.Time, epoch uint64) (over, ending bool) {
	if epoch >= e.current {
		return false, false
	}
	for _, old := range e.ended {
		if old.epoch == epoch && old.inFlight(now) {
			return false, true
		}
	}
	return true, false
}
