package engine

import (
	"sync"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// limits bound the work that openings cause. Accepting one costs 5 ms, so the
// total is held to a tenth of a core, whoever sends; and one device or account
// may open only so many sessions. The latter are charged after an opening was
// proven to be theirs: else anybody could use up somebody else's share with
// forgeries that carry their certificate. Forgeries are charged to whoever is at
// the other end of the connection, or to the mailbox as a whole, so that nobody
// can use up the share of all.
type limits struct {
	all     *bucket
	device  *buckets[protocol.DeviceID]
	account *buckets[protocol.AccountID]
	forged  *buckets[protocol.DeviceID] // by connection
	mailbox *bucket                     // forgeries that came through it
	given   *buckets[protocol.DeviceID] // prekeys that a device is given
	refused *buckets[protocol.DeviceID] // sessions given up because a device refused them
	asked   *buckets[protocol.DeviceID] // times that a device is told, or asked, how a room's log goes
	logs    *buckets[protocol.DeviceID] // pieces of logs that a device is sent

	branches *buckets[protocol.DeviceID] // and that it sends: each is folded
}

func newLimits() limits {
	return limits{
		all:     &bucket{rate: 20, burst: 40},
		device:  &buckets[protocol.DeviceID]{rate: 6.0 / 3600, burst: 6},
		account: &buckets[protocol.AccountID]{rate: 20.0 / 3600, burst: 20},
		forged:  &buckets[protocol.DeviceID]{rate: 10.0 / 3600, burst: 10},
		mailbox: &bucket{rate: 1, burst: 20},
		given:   &buckets[protocol.DeviceID]{rate: 6.0 / 3600, burst: 6},
		refused: &buckets[protocol.DeviceID]{rate: 6.0 / (24 * 3600), burst: 6},
		asked:   &buckets[protocol.DeviceID]{rate: 20.0 / 3600, burst: 20},
		logs:    &buckets[protocol.DeviceID]{rate: 20.0 / 3600, burst: 20},

		branches: &buckets[protocol.DeviceID]{rate: 20.0 / 3600, burst: 20},
	}
}

// admit takes from the share of everybody, unless the sender's own is used up,
// or that of the device at the other end (zero: the mailbox).
func (l *limits) admit(now time.Time, from, d protocol.DeviceID, a protocol.AccountID) bool {
	honest := from == (protocol.DeviceID{}) && l.mailbox.left(now) || from != (protocol.DeviceID{}) && l.forged.left(now, from)
	return honest && l.device.left(now, d) && l.account.left(now, a) && l.all.take(now)
}

// blame charges an opening that proved to be a forgery.
func (l *limits) blame(now time.Time, from protocol.DeviceID) {
	if from == (protocol.DeviceID{}) {
		l.mailbox.take(now)
		return
	}
	l.forged.take(now, from)
}

// charge takes from the sender's share.
func (l *limits) charge(now time.Time, d protocol.DeviceID, a protocol.AccountID) {
	l.device.take(now, d)
	l.account.take(now, a)
}

// bucket is a token bucket: burst at once, then rate a second.
type bucket struct {
	rate, burst float64

	mu   sync.Mutex
	fill fill
}

// fill is what is used of a bucket at a time.
type fill struct {
	used float64
	at   time.Time
}

// usedAt is what is still used at now. A clock that went back gives nothing.
func (f fill) usedAt(now time.Time, rate float64) float64 {
	return max(0, f.used-rate*max(0, now.Sub(f.at).Seconds()))
}

// left tells whether take would still find something.
func (b *bucket) left(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fill.usedAt(now, b.rate) <= b.burst-1
}

func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	used := b.fill.usedAt(now, b.rate)
	if used > b.burst-1 {
		return false
	}
	b.fill = fill{used + 1, now}
	return true
}

// maxBuckets bounds a map keyed by whoever sends. When it is full, those that
// are empty again are dropped; if none is, nobody new is admitted.
const maxBuckets = 4096

// buckets is one bucket per key.
type buckets[K comparable] struct {
	rate, burst float64

	mu    sync.Mutex
	fills map[K]fill
}

// left tells whether take would still find something.
func (b *buckets[K]) left(now time.Time, k K) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, ok := b.fills[k]
	if !ok {
		return b.room(now)
	}
	return f.usedAt(now, b.rate) <= b.burst-1
}

func (b *buckets[K]) take(now time.Time, k K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fills == nil {
		b.fills = make(map[K]fill)
	}
	b.fills[k] = fill{b.fills[k].usedAt(now, b.rate) + 1, now}
}

func (b *buckets[K]) room(now time.Time) bool {
	if len(b.fills) < maxBuckets {
		return true
	}
	for k, f := range b.fills {
		if f.usedAt(now, b.rate) == 0 {
			delete(b.fills, k)
		}
	}
	return len(b.fills) < maxBuckets
}
