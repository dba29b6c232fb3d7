package rendezvous

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
)

const (
	pairWait    = 2 * time.Minute // to be joined
	pairLife    = 5 * time.Minute // from then on
	maxPairings = 1024            // at a time; more are told to come back
	pairDigits  = 4               // of a number, and more when many wait
	pairCrowd   = 500             // waiting pairings that numbers of pairDigits are enough for
)

// broker finds the other side of a pairing by its number. It is held in memory
// only, and a number is good for one join.
type broker struct {
	mu         sync.Mutex // guards what follows
	wait, life time.Duration
	ended      bool
	waiting    map[string]*pairing            // by number
	owners     map[protocol.DeviceID]*pairing // waiting, by who opened; one each
	all        map[*pairing]struct{}          // waiting or joined
}

func newBroker() *broker {
	return &broker{
		wait: pairWait, life: pairLife,
		waiting: map[string]*pairing{},
		owners:  map[protocol.DeviceID]*pairing{},
		all:     map[*pairing]struct{}{},
	}
}

// open begins a pairing. One that the same device began before, and that still
// waits, is over.
func (b *broker) open(stream network.Stream, owner protocol.DeviceID) (*pairing, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return nil, protocol.Refuse(protocol.Draining, "the rendezvous is shutting down")
	}
	if old := b.owners[owner]; old != nil {
		b.takeLocked(old)
		old.opener.SetReadDeadline(time.Unix(1, 0)) // wakes its handler
	}
	if len(b.all) >= maxPairings {
		e := protocol.Refuse(protocol.Unavailable, "too many pairings at a time")
		e.RetryAfter = b.wait
		return nil, e
	}
	p := &pairing{
		number: b.numberLocked(), owner: owner, opener: stream,
		told: make(chan struct{}), joined: make(chan struct{}),
	}
	b.waiting[p.number], b.owners[owner], b.all[p] = p, p, struct{}{}
	return p, nil
}

// numberLocked is a random number that nobody waits under. At most one in
// twenty numbers of its length is taken, so few attempts are lost.
func (b *broker) numberLocked() string {
	digits, size := pairDigits, 10_000
	for crowd := pairCrowd; len(b.waiting) >= crowd; crowd *= 10 {
		digits, size = digits+1, size*10
	}
	for {
		number := fmt.Sprintf("%0*d", digits, rand.IntN(size))
		if b.waiting[number] == nil {
			return number
		}
	}
}

// await begins the time in which the pairing can be joined, now that its opener
// knows the number.
func (b *broker) await(p *pairing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owners[p.owner] == p {
		p.opener.SetReadDeadline(time.Now().Add(b.wait))
	}
	close(p.told)
}

// join takes the pairing that waits under number, or refuses with PairingOver.
func (b *broker) join(stream network.Stream, number string) (*pairing, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.waiting[number]
	if p == nil {
		return nil, pairingOver()
	}
	b.takeLocked(p)
	p.joiner = stream
	return p, nil
}

// forget ends a pairing. It tells whether nobody had joined it.
func (b *broker) forget(p *pairing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.takeLocked(p)
	delete(b.all, p)
	return p.joiner == nil
}

// takeLocked makes a pairing wait no more.
func (b *broker) takeLocked(p *pairing) {
	if b.waiting[p.number] == p {
		delete(b.waiting, p.number)
	}
	if b.owners[p.owner] == p {
		delete(b.owners, p.owner)
	}
}

// endAll cuts off all pairings and lets no more begin.
func (b *broker) endAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for p := range b.all {
		p.opener.Reset()
		if p.joiner != nil {
			p.joiner.Reset()
		}
	}
	clear(b.waiting)
	clear(b.owners)
	clear(b.all)
}

// times are how long a pairing waits and how long it then lasts.
func (b *broker) times() (wait, life time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wait, b.life
}
