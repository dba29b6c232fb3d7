package rendezvous

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/protocol"
)

// buckets keeps one value per key for keys that come from the network, so it
// is bounded: when the young generation is full it becomes the old one, and
// the old one is forgotten. A key in use stays; one that has been idle while
// cap others came starts afresh.
type buckets[K comparable, V any] struct {
	cap  int
	make func() V

	mu         sync.Mutex
	young, old map[K]V
}

func newBuckets[K comparable, V any](cap int, make func() V) *buckets[K, V] {
	return &buckets[K, V]{cap: cap, make: make, young: map[K]V{}}
}

// get returns the value of key, made now if there is none.
func (b *buckets[K, V]) get(key K) V {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v, ok := b.young[key]; ok {
		return v
	}
	v, ok := b.old[key]
	if !ok {
		v = b.make()
	}
	if len(b.young) >= b.cap {
		b.young, b.old = map[K]V{}, b.young
	}
	b.young[key] = v
	return v
}

// limiters are token buckets, one per key.
type limiters[K comparable] = buckets[K, *rate.Limiter]

// newLimiters allows, per key, burst at once and n in each period.
func newLimiters[K comparable](n int, period time.Duration, burst int) *limiters[K] {
	const keys = 16384
	every := rate.Every(period / time.Duration(n))
	return newBuckets[K](keys, func() *rate.Limiter { return rate.NewLimiter(every, burst) })
}

// take takes n tokens out of every bucket, or none at all and refuses with the
// time after which it would work.
func take(now time.Time, n int, what string, from ...*rate.Limiter) error {
	taken := make([]*rate.Reservation, 0, len(from))
	for _, l := range from {
		r := l.ReserveN(now, min(n, l.Burst()))
		taken = append(taken, r)
		wait := r.DelayFrom(now)
		if wait == 0 {
			continue
		}
		for _, r := range taken {
			r.CancelAt(now)
		}
		e := protocol.Refuse(protocol.RateLimited, "too many %s", what)
		e.RetryAfter = wait
		return e
	}
	return nil
}

// rates are the limits on what one peer may ask for.
type rates struct {
	calls     *limiters[protocol.DeviceID]
	links     *limiters[protocol.DeviceID] // begun with a hello that the device signed
	hellos    *limiters[netip.Prefix]      // that begin links, whoever signed them
	uploads   *limiters[protocol.DeviceID]
	resets    *limiters[protocol.DeviceID] // of one-time prekeys: the ids dropped are remembered
	contacts  *limiters[protocol.DeviceID] // changes of the contact list
	copies    *limiters[protocol.DeviceID] // readings of a mailbox by refused copies of its device's store
	strangers *limiters[netip.Prefix]      // calls of peers that said no hello that was welcomed

	chains  *limiters[chainBucket]  // statements of longer chains; each chain is told to all contacts
	fetches *limiters[netip.Prefix] // of chains by proof: each may be a guess

	logPages *limiters[protocol.DeviceID] // each is large
	tokens   *limiters[protocol.DeviceID] // each is noted for ever
	warnings *limiters[warning]           // the same

	roomsMade   *limiters[protocol.AccountID] // their logs stay
	roomEntries *limiters[inRoom]
	roomPuts    *limiters[inRoom]            // messages
	roomPages   *limiters[protocol.DeviceID] // each is large
	roomHeard   *limiters[protocol.DeviceID] // messages on topics, that nobody said before

	blobPuts *limiters[protocol.DeviceID]
	blobGets *limiters[protocol.DeviceID] // parts of blobs
	blobOut  *limiters[protocol.DeviceID] // the same, in chunks

	follows *limiters[peer.ID] // streams and announcements of relays

	pairOpens *limiters[protocol.DeviceID]
	pairJoins *limiters[netip.Prefix] // each may be a guess

	knocks     *limiters[netip.Prefix] // each wakes somebody's device
	roomKnocks *limiters[knockPlace]   // the same; each may be a guess

	requestsHour *limiters[protocol.AccountID] // contact requests sent
	requestsDay  *limiters[protocol.AccountID]
	invites      *limiters[protocol.AccountID]

	// One-time prekeys are scarce, and whoever drains a device's stock weakens
	// the openings of others: each claimer gets few, and each device gives a
	// bounded number to all. See claim.
	claims       *buckets[claimPair, *claimBucket]
	claimsTarget *limiters[protocol.DeviceID]
}

// inRoom is a device in a room that it may know of: nobody makes these keys at will.
type inRoom struct {
	device protocol.DeviceID
	room   protocol.RoomID
}

// chainBucket is what changes of chains are counted by. A thief of a device may
// make as many as there are statements in a chain, so nothing that he can use
// up may be what the owner needs to be rid of him: every device has buckets of
// its own, one of them for what ends devices and keys; machines that are no
// member yet share those of an account; and what the recovery key signed is
// apart. An account's changes are bounded by the size of its chain.
type chainBucket struct {
	account protocol.AccountID
	device  protocol.DeviceID // zero: a machine that is no member yet, or a recovery
	kind    chainKind
}

type chainKind uint8

const (
	chainGrows     chainKind = iota // devices are added and renewed
	chainSecured                    // a device or a key ends
	chainRecovered                  // the recovery key signed
)

func newRates(l Limits) *rates {
	return &rates{
		calls:        newLimiters[protocol.DeviceID](l.Calls, time.Second, 5*l.Calls),
		links:        newLimiters[protocol.DeviceID](60, time.Minute, linksBurst),
		hellos:       newLimiters[netip.Prefix](l.ConnsPerAddress, time.Minute, l.ConnsPerAddress), // an office comes back at once
		uploads:      newLimiters[protocol.DeviceID](60, time.Hour, 30),
		resets:       newLimiters[protocol.DeviceID](5, 24*time.Hour, 5),
		contacts:     newLimiters[protocol.DeviceID](120, time.Hour, 30),
		copies:       newLimiters[protocol.DeviceID](5, 24*time.Hour, 5),
		strangers:    newLimiters[netip.Prefix](l.Strangers, time.Minute, l.Strangers),
		chains:       newLimiters[chainBucket](60, time.Hour, 20),
		fetches:      newLimiters[netip.Prefix](60, time.Hour, 20),
		logPages:     newLimiters[protocol.DeviceID](120, time.Minute, 60),
		tokens:       newLimiters[protocol.DeviceID](60, time.Hour, 30), // one lives 15 minutes
		warnings:     newLimiters[warning](1, 24*time.Hour, 1),
		roomsMade:    newLimiters[protocol.AccountID](50, 24*time.Hour, 50),
		roomEntries:  newLimiters[inRoom](3600, time.Hour, 300),
		roomPuts:     newLimiters[inRoom](50, time.Second, 2000),
		roomPages:    newLimiters[protocol.DeviceID](600, time.Minute, 300),
		roomHeard:    newLimiters[protocol.DeviceID](100, time.Second, 2000),
		blobPuts:     newLimiters[protocol.DeviceID](600, time.Hour, 100),
		blobGets:     newLimiters[protocol.DeviceID](1200, time.Minute, 300),
		blobOut:      newLimiters[protocol.DeviceID](blobOutChunks, time.Hour, blobOutChunks),
		follows:      newLimiters[peer.ID](12, time.Minute, 6),
		pairOpens:    newLimiters[protocol.DeviceID](12, time.Hour, 6),
		pairJoins:    newLimiters[netip.Prefix](30, time.Hour, 10),
		knocks:       newLimiters[netip.Prefix](240, time.Hour, 60),
		roomKnocks:   newLimiters[knockPlace](60, time.Hour, 20), // several guests in one office
		requestsHour: newLimiters[protocol.AccountID](10, time.Hour, 10),
		requestsDay:  newLimiters[protocol.AccountID](30, 24*time.Hour, 30),
		invites:      newLimiters[protocol.AccountID](10, 24*time.Hour, 10),
		claims:       newBuckets[claimPair](16384, newClaimBucket),
		claimsTarget: newLimiters[protocol.DeviceID](60, time.Hour, 60),
	}
}
