package token

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	fetchTimeout = 10 * time.Second
	retryEvery   = 5 * time.Second // after a fetch that failed

	// unknownEvery is how often, at most, key ids that are not in the set make
	// it be read: anybody can invent ids.
	unknownEvery = 2 * time.Second
	unknownFor   = 10 * time.Second // an id that was not there is not looked for again so soon
	maxUnknown   = 1024             // ids remembered for that
)

// Why a follower does not take over what it was given.
var (
	ErrOlder  = errors.New("the key set is older than one that was there before")
	ErrForked = errors.New("two key sets have the same number")
)

// Fetch reads an issuer's key set, at most MaxSet bytes. It returns nil when
// the set is still the one with this entity tag; an empty tag asks for the set
// in any case.
type Fetch func(ctx context.Context, etag string) ([]byte, error)

// FollowerConfig says whom to follow and how. Issuer and Fetch are required.
type FollowerConfig struct {
	Issuer   string
	Fetch    Fetch
	Identity ed25519.PublicKey // that signs the issuer's events; nil: Push takes none

	// HardExpiry is how long a set is used that can no longer be read again;
	// after it every token is refused. Default 1 h.
	HardExpiry time.Duration

	// Alarm is told once per trouble what a person must look at: half of
	// HardExpiry is over, or the issuer shows a set that it must not show. It
	// must not block. Nil: nobody.
	Alarm func(error)

	Now func() time.Time // nil: time.Now
}

// Follower knows the key set of one issuer. It replaces what it knows by what
// it reads and never merges, and never goes back to an older set. Run reads
// the set; it is the only one that does, so there is one fetch at a time.
type Follower struct {
	cfg   FollowerConfig
	asked chan struct{} // capacity 1: read now

	mu       sync.Mutex
	set      *Set      // nil: none was read yet
	read     time.Time // when set was last known to be the issuer's
	tag      string    // of the document that set was made of; empty: read all of it
	newest   uint64    // the highest number in a set or an event
	hash     [sha256.Size]byte
	round    chan struct{}        // closed when the read that was asked for has ended; nil: none was
	reading  chan struct{}        // the same of the read that is going on
	searched time.Time            // when an unknown id last asked for a read
	unknown  map[string]time.Time // ids that were not there, until when to believe it
	trouble  error                // of the last read; nil: it went well
	alarmed  bool
	ended    bool
}

// NewFollower makes a follower that knows nothing until Run.
func NewFollower(cfg FollowerConfig) *Follower {
	cfg.HardExpiry = cmp.Or(cfg.HardExpiry, time.Hour)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Alarm == nil {
		cfg.Alarm = func(error) {}
	}
	return &Follower{cfg: cfg, asked: make(chan struct{}, 1), unknown: map[string]time.Time{}}
}

// Run reads the set at once, before each MaxAge is over, and when it is asked
// to, until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	defer f.end()
	for {
		pause := time.NewTimer(f.readOnce(ctx))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-f.asked:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// end lets go who waits for a read.
func (f *Follower) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	if f.round != nil {
		close(f.round)
		f.round = nil
	}
}

// readOnce reads the set and returns when to do it again.
func (f *Follower) readOnce(ctx context.Context) time.Duration {
	f.mu.Lock()
	tag, newest := f.tag, f.newest
	if f.round == nil {
		f.round = make(chan struct{})
	}
	f.reading, f.round = f.round, nil
	select {
	case <-f.asked: // this read is the answer
	default:
	}
	f.mu.Unlock()

	began := f.cfg.Now()
	err := f.fetch(ctx, tag, began)
	if errors.Is(err, ErrOlder) && f.State().Number > newest { // an event came while it was read
		err = fmt.Errorf("overtaken by an event, to be read again: %s", err)
	}
	f.finish(ctx, err)
	if err != nil {
		return retryEvery
	}
	return MaxAge - rand.N(MaxAge/8) // not all verifiers at once
}

// fetch reads the set and takes it over. Its age counts from before the
// question, as the answer may be from then.
func (f *Follower) fetch(ctx context.Context, tag string, began time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	doc, err := f.cfg.Fetch(ctx, tag)
	if err != nil {
		return fmt.Errorf("read key set of %s: %w", f.cfg.Issuer, err)
	}
	if doc == nil {
		return f.confirm(tag, began)
	}
	set, err := ParseSet(doc, f.cfg.Issuer)
	if err != nil {
		return err
	}
	return f.replace(set, began)
}

// confirm notes that the set is still the issuer's.
func (f *Follower) confirm(tag string, began time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if tag == "" || f.tag != tag { // it is not what we have
		return fmt.Errorf("%w: unchanged, but change %d is known", ErrOlder, f.newest)
	}
	f.read = began
	return nil
}

// replace takes over a set, unless it is older than what is known or differs
// from it under the same number.
func (f *Follower) replace(set *Set, began time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case set.Number < f.newest:
		return fmt.Errorf("%w: number %d after %d", ErrOlder, set.Number, f.newest)
	case set.Number == f.newest && f.newest > 0 && set.hash != f.hash:
		return fmt.Errorf("%w: %d", ErrForked, set.Number)
	case set.Number > f.newest:
		clear(f.unknown)
	}
	f.set, f.tag, f.read = set, set.ETag(), began
	f.newest, f.hash = set.Number, set.hash
	return nil
}

// finish lets go who waited for the read, remembers how it went, and raises the
// alarm when it is time to.
func (f *Follower) finish(ctx context.Context, err error) {
	f.mu.Lock()
	close(f.reading)
	f.reading = nil
	if ctx.Err() != nil {
		f.mu.Unlock()
		return
	}
	f.trouble = err
	age := f.cfg.Now().Sub(f.read)
	bad := errors.Is(err, ErrOlder) || errors.Is(err, ErrForked) || errors.Is(err, ErrBadSet)
	alarm := err != nil && !f.alarmed && (bad || age >= f.cfg.HardExpiry/2)
	f.alarmed = err != nil && (f.alarmed || alarm)
	f.mu.Unlock()
	if alarm {
		f.cfg.Alarm(err)
	}
}

// Push takes an event of the issuer, from wherever it came. An older one than
// what is known changes nothing. A newer one takes away at once the keys that
// are gone, and has the whole set read again, so that missed events do not
// matter.
func (f *Follower) Push(event []byte) error {
	e, err := ParseEvent(event, f.cfg.Issuer, f.cfg.Identity)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Number == f.newest && e.Number > 0 && e.Hash != f.hash {
		return fmt.Errorf("%w: %d", ErrForked, e.Number)
	}
	if e.Number <= f.newest {
		return nil
	}
	if f.set != nil {
		f.set = f.set.without(e.IDs)
	}
	f.newest, f.hash, f.tag = e.Number, e.Hash, ""
	clear(f.unknown)
	f.askLocked()
	return nil
}

// askLocked has the set read and returns what is closed after it.
func (f *Follower) askLocked() <-chan struct{} {
	if f.round == nil {
		f.round = make(chan struct{})
	}
	select {
	case f.asked <- struct{}{}:
	default: // it was asked already
	}
	return f.round
}

// Key returns the public key with this id. For an id that is not in the set it
// has the set read once more, and then decides; ctx bounds the wait. Errors
// wrap ErrUnknownKey or ErrNoSet.
func (f *Follower) Key(ctx context.Context, id string) (ed25519.PublicKey, error) {
	now := f.cfg.Now()
	f.mu.Lock()
	public, err := f.lookLocked(id, now)
	var read <-chan struct{}
	if err != nil {
		read = f.searchLocked(id, now)
	}
	f.mu.Unlock()
	if read == nil {
		return public, err
	}
	select {
	case <-read:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", err, ctx.Err())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	public, err = f.lookLocked(id, f.cfg.Now())
	if errors.Is(err, ErrUnknownKey) && !f.read.Before(now) { // it was read since
		f.rememberUnknownLocked(id, now)
	}
	return public, err
}

// lookLocked returns the key if it is known, and the set may still be used.
func (f *Follower) lookLocked(id string, now time.Time) (ed25519.PublicKey, error) {
	if f.set == nil || !now.Before(f.read.Add(f.cfg.HardExpiry)) {
		return nil, fmt.Errorf("%w: %s", ErrNoSet, f.cfg.Issuer)
	}
	if public, ok := f.set.keys[id]; ok {
		return public, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknownKey, id)
}

// holds tells whether the key is known and may be used, and asks for nothing.
func (f *Follower) holds(id string) bool {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.lookLocked(id, now)
	return err == nil
}

// searchLocked returns what to wait for before believing that there is no such
// key; nil: it is to be believed now.
func (f *Follower) searchLocked(id string, now time.Time) <-chan struct{} {
	switch {
	case f.ended || !isKeyID(id) || now.Before(f.unknown[id]):
		return nil
	case f.round != nil:
		return f.round
	case now.Before(f.searched.Add(unknownEvery)):
		return f.reading
	}
	f.searched = now
	return f.askLocked()
}

func (f *Follower) rememberUnknownLocked(id string, now time.Time) {
	if len(f.unknown) >= maxUnknown {
		clear(f.unknown)
	}
	f.unknown[id] = now.Add(unknownFor)
}

// State is what a follower knows now.
type State struct {
	Number  uint64    // of the newest change that it knows of
	IDs     []string  // keys it takes
	Read    time.Time // when the set was last known to be the issuer's; zero: never
	Usable  bool      // false: every token is refused
	Trouble error     // of the last read; nil: it went well
}

// State tells how following goes.
func (f *Follower) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := State{Number: f.newest, Read: f.read, Trouble: f.trouble}
	if f.set != nil {
		s.IDs = f.set.IDs()
		s.Usable = f.cfg.Now().Before(f.read.Add(f.cfg.HardExpiry))
	}
	return s
}
