package token

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// source is an issuer that tests change.
type source struct {
	t        testing.TB
	identity Key

	mu      sync.Mutex
	set     *Set
	down    error
	takes   time.Duration // how long a fetch takes
	always  bool          // never says "unchanged"
	fetches int
}

func newSource(t testing.TB, keys ...Key) *source {
	return &source{t: t, identity: testKey(99), set: mustSet(t, issuerName, 1, keys...)}
}

func (s *source) fetch(ctx context.Context, etag string) ([]byte, error) {
	s.mu.Lock()
	set, down, takes := s.set, s.down, s.takes
	s.fetches++
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if down != nil {
		return nil, down
	}
	if etag == set.ETag() && !s.always {
		return nil, nil
	}
	return set.JSON(), nil
}

// change makes the next set and returns the event about it.
func (s *source) change(keys ...Key) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = mustSet(s.t, issuerName, s.set.Number+1, keys...)
	return s.event(s.set)
}

func (s *source) event(set *Set) []byte {
	b, err := EventOf(set).Sign(func(b []byte) ([]byte, error) { return ed25519.Sign(s.identity.private(), b), nil })
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// show makes fetches get this set from now on, whatever they say they know.
func (s *source) show(set *Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set, s.always = set, true
}

func (s *source) slow(takes time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes = takes
}

func (s *source) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
}

// follow runs a follower of s until the test ends. Only inside synctest.
func follow(t *testing.T, s *source, change func(*FollowerConfig)) (*Follower, *alarms) {
	a := &alarms{}
	cfg := FollowerConfig{Issuer: issuerName, Fetch: s.fetch, Identity: s.identity.Public(), Alarm: a.add}
	if change != nil {
		change(&cfg)
	}
	f := NewFollower(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	synctest.Wait()
	return f, a
}

type alarms struct {
	mu   sync.Mutex
	errs []error
}

func (a *alarms) add(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.errs = append(a.errs, err)
}

func (a *alarms) all() []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.errs)
}

// relayed makes a token of now, signed by k.
func relayed(t testing.TB, k Key) string {
	c := testClaims()
	c.Issued = time.Now().Truncate(time.Second)
	c.Expires = c.Issued.Add(MaxLife)
	return mustSign(t, c, k)
}

func verifierOf(f *Follower) *Verifier {
	v := NewVerifier("relay")
	v.Trust(f)
	return v
}

func check(t testing.TB, v *Verifier, text string, want error) {
	t.Helper()
	if _, err := v.Verify(t.Context(), text); !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// TestJWK03_PollReplaces: who only polls refuses a revoked key within MaxAge:
// what was read replaces what was known.
func TestJWK03_PollReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testKey(1), testKey(2)
		s := newSource(t, a)
		f, _ := follow(t, s, nil)
		v := verifierOf(f)
		byA := relayed(t, a)
		check(t, v, byA, nil)
		s.change(b)
		time.Sleep(MaxAge)
		synctest.Wait()
		check(t, v, byA, ErrUnknownKey)
		check(t, v, relayed(t, b), nil)
		if got := f.State(); !slices.Equal(got.IDs, []string{KeyID(b.Public())}) || got.Number != 2 {
			t.Errorf("state %+v", got)
		}
	})
}

// TestJWK03_PushRefusesAtOnce: who got the event refuses the revoked key in the
// same moment, also while the set cannot be read.
func TestJWK03_PushRefusesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testKey(1), testKey(2)
		s := newSource(t, a, b)
		f, _ := follow(t, s, nil)
		v := verifierOf(f)
		byA, byB := relayed(t, a), relayed(t, b)
		s.fail(errors.New("away"))
		if err := f.Push(s.change(b)); err != nil {
			t.Fatal(err)
		}
		check(t, v, byA, ErrUnknownKey)
		check(t, v, byB, nil)
	})
}

// TestJWK04_UnknownIDFlood: 10,000 invented ids in 10 s cause at most 10 reads,
// and honest tokens pass meanwhile.
func TestJWK04_UnknownIDFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testKey(1)
		s := newSource(t, a)
		s.takes = 20 * time.Millisecond
		f, _ := follow(t, s, nil)
		time.Sleep(s.takes)
		v := verifierOf(f)
		before := s.count()
		var wg sync.WaitGroup
		for i := range 10_000 {
			time.Sleep(time.Millisecond)
			wg.Go(func() {
				invented := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
				if _, err := f.Key(t.Context(), text64.EncodeToString(invented[:])); !errors.Is(err, ErrUnknownKey) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		check(t, v, relayed(t, a), nil)
		if n := s.count() - before; n > 10 || n == 0 {
			t.Errorf("%d reads", n)
		}
		if len(f.unknown) > maxUnknown {
			t.Errorf("%d ids remembered", len(f.unknown))
		}
	})
}

// TestJWK04_SingleFlight: tokens by a key that is new to the verifier cause one
// read between them, and then all pass.
func TestJWK04_SingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testKey(1), testKey(2)
		s := newSource(t, a)
		f, _ := follow(t, s, nil)
		v := verifierOf(f)
		s.change(a, b)
		s.slow(time.Second)
		before := s.count()
		var wg sync.WaitGroup
		text := relayed(t, b)
		for range 100 {
			wg.Go(func() { check(t, v, text, nil) })
		}
		wg.Wait()
		if n := s.count() - before; n != 1 {
			t.Errorf("%d reads", n)
		}
	})
}

// Who asks before the first read waits for it: a read that was asked for is as
// good as one that is going on.
func TestJWK04_OneReadForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(t, testKey(1))
		f := NewFollower(FollowerConfig{Issuer: issuerName, Fetch: s.fetch})
		v, text := verifierOf(f), relayed(t, testKey(1))
		ctx, stop := context.WithCancel(t.Context())
		var waiting, running sync.WaitGroup
		for range 100 {
			waiting.Go(func() { check(t, v, text, nil) })
		}
		synctest.Wait()
		running.Go(func() { f.Run(ctx) })
		waiting.Wait()
		if n := s.count(); n != 1 {
			t.Errorf("%d reads", n)
		}
		stop()
		running.Wait()
	})
}

// However many ids are invented, as slowly as it takes to look for each, few are
// remembered.
func TestJWK04_MemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(t, testKey(1))
		f, _ := follow(t, s, nil)
		for i := range 2*maxUnknown + 1 {
			time.Sleep(unknownEvery)
			if _, err := f.Key(t.Context(), KeyID(binary.BigEndian.AppendUint32(nil, uint32(i)))); !errors.Is(err, ErrUnknownKey) {
				t.Fatal(err)
			}
			if len(f.unknown) > maxUnknown {
				t.Fatalf("%d ids remembered", len(f.unknown))
			}
		}
	})
}

// An id that was not there is not asked for again for a while, even slowly; and
// what cannot be an id at all is never asked for.
func TestJWK04_NegativeCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(t, testKey(1))
		f, _ := follow(t, s, nil)
		v := verifierOf(f)
		text := relayed(t, testKey(2))
		check(t, v, text, ErrUnknownKey)
		before := s.count()
		for range 3 {
			time.Sleep(unknownEvery)
			check(t, v, text, ErrUnknownKey)
			if _, err := f.Key(t.Context(), "no id"); !errors.Is(err, ErrUnknownKey) {
				t.Error(err)
			}
		}
		if n := s.count() - before; n != 0 {
			t.Errorf("%d more reads", n)
		}
		time.Sleep(unknownFor)
		s.change(testKey(1), testKey(2))
		check(t, v, text, nil)
	})
}

// Who waits for a read ends with the context, and with the follower.
func TestFollowerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(t, testKey(1))
		s.takes = time.Hour
		f := NewFollower(FollowerConfig{Issuer: issuerName, Fetch: s.fetch})
		v := verifierOf(f)
		text := relayed(t, testKey(1))

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := v.Verify(short, text); !errors.Is(err, ErrNoSet) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before the start: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { f.Run(ctx) })
		for range 3 {
			wg.Go(func() { check(t, v, text, ErrNoSet) })
		}
		synctest.Wait()
		stop()
		wg.Wait()
		check(t, v, text, ErrNoSet)
	})
}

// BenchmarkVerify is what a relay pays for a token by a key it knows.
func BenchmarkVerify(b *testing.B) {
	s := newSource(b, testKey(1))
	f := NewFollower(FollowerConfig{Issuer: issuerName, Fetch: s.fetch})
	if err := f.fetch(b.Context(), "", time.Now()); err != nil {
		b.Fatal(err)
	}
	v, text := verifierOf(f), relayed(b, testKey(1))
	for b.Loop() {
		if _, err := v.Verify(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleIssuer() {
	fmt.Println(Issuer("12D3KooW"))
	// Output: parley/12D3KooW
}
