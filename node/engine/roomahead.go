package engine

import (
	"sync"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/wire"
)

// Keys of an epoch that the log here does not have yet stay with whoever brings them
// until the log was read. Nobody can make up an epoch that keeps them there for ever.

// maxAheadTime is how long after such an epoch was first named the log is read for it:
// time for the rendezvous to show it, and for who named it to give its log.
const maxAheadTime = 10 * time.Minute

// aheads are the devices that named epochs which the logs here do not have, and when
// logs were last read to their end. What is lost with it begins its time again.
type aheads struct {
	mu    sync.Mutex
	named map[roomDevice]namedEpoch
	read  map[protocol.RoomID]time.Time
}

type roomDevice struct {
	room   protocol.RoomID
	device protocol.DeviceID
}

// namedEpoch is what one device named since the log had all that it named before.
type namedEpoch struct {
	epoch uint64 // the newest
	since time.Time
	asks  time.Time // when the device is asked for its log
}

// name notes that a device named an epoch and returns what it named in all. The log here
// is at epoch have.
func (l *aheads) name(now time.Time, k roomDevice, have, epoch uint64) namedEpoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.named[k]
	if !ok || a.epoch <= have {
		a = namedEpoch{since: now}
	}
	a.epoch = max(a.epoch, epoch)
	l.named = putBounded(l.named, k, a)
	return a
}

// askAt notes when a device is asked for its log. False: it is asked before that anyway.
func (l *aheads) askAt(now, at time.Time, k roomDevice) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.named[k]
	if a.asks.After(now) {
		return false
	}
	a.asks = at
	l.named[k] = a
	return true
}

func (l *aheads) newest(k roomDevice) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.named[k].epoch
}

// readToEnd notes that the rendezvous showed the whole log of a room.
func (l *aheads) readToEnd(now time.Time, id protocol.RoomID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read = putBounded(l.read, id, now)
}

// inVain tells whether the log was read long enough for what a device named.
func (l *aheads) inVain(id protocol.RoomID, a namedEpoch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	read, ok := l.read[id]
	return ok && read.Sub(a.since) >= maxAheadTime
}

// putBounded puts a value into a map that is keyed by remote data. When it is full any
// other one makes room.
func putBounded[K comparable, V any](m map[K]V, k K, v V) map[K]V {
	if m == nil {
		m = map[K]V{}
	}
	if _, have := m[k]; !have && len(m) >= maxBuckets {
		for other := range m {
			delete(m, other)
			break
		}
	}
	m[k] = v
	return m
}

// aheadOf is the newest epoch of the chains that a device gives, if the log here does
// not have it; else 0.
func (r *openRoom) aheadOf(from protocol.DeviceID, keys *wire.RoomKeys) (epoch uint64) {
	for _, b := range keys.GetDistributions() {
		d, err := chain.ParseDistribution(from, b)
		if err == nil && d.View.Room == r.id && d.View.Epoch > r.state.Epoch() {
			epoch = max(epoch, d.View.Epoch)
		}
	}
	return epoch
}

// waitForEpoch tells whether a device is to bring keys of an epoch again, when the log
// was read. Else they are of an epoch that does not come.
func (w *work) waitForEpoch(r *openRoom, in *incoming, epoch uint64) (bool, error) {
	a := w.e.aheads.name(w.now, roomDevice{r.id, in.from}, r.state.Epoch(), epoch)
	if w.e.aheads.inVain(r.id, a) {
		return false, nil
	}
	w.hintRoom(r.id)
	if _, member := r.state.Member(in.d.account); !member { // the log may tell that it came
		return true, nil
	}
	return true, w.askIfItDoesNotCome(r, in.from, epoch)
}
