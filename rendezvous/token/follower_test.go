package token

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
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

// TestJWK05_EventsOutOfOrder: an old event or an old set never brings a key
// back, and a missed event does not matter.
func TestJWK05_EventsOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := testKey(1), testKey(2), testKey(3)
		s := newSource(t, a)
		f, alarmed := follow(t, s, nil)
		v := verifierOf(f)
		old := s.set
		second := s.change(a, b)
		s.change(b) // its event is lost
		fourth := s.change(b, c)
		for _, event := range [][]byte{fourth, second, s.event(old), fourth} {
			if err := f.Push(event); err != nil {
				t.Fatal(err)
			}
			check(t, v, relayed(t, a), ErrUnknownKey)
		}
		synctest.Wait()
		check(t, v, relayed(t, c), nil) // of the change that was missed as well
		check(t, v, relayed(t, b), nil)

		// The issuer, or a cache before it, shows what was there before.
		newest := s.set
		s.show(old)
		time.Sleep(MaxAge)
		synctest.Wait()
		check(t, v, relayed(t, a), ErrUnknownKey)
		check(t, v, relayed(t, c), nil)
		if errs := alarmed.all(); len(errs) != 1 || !errors.Is(errs[0], ErrOlder) {
			t.Errorf("alarms %v", errs)
		}
		// Another set under the same number.
		other := mustSet(t, issuerName, newest.Number, a)
		s.show(other)
		time.Sleep(MaxAge)
		synctest.Wait()
		if err := f.State().Trouble; !errors.Is(err, ErrForked) {
			t.Errorf("trouble %v", err)
		}
		if err := f.Push(s.event(other)); !errors.Is(err, ErrForked) {
			t.Errorf("pushed: %v", err)
		}
		check(t, v, relayed(t, a), ErrUnknownKey)
	})
}

// A forged event changes nothing.
func TestJWK05_ForgedEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testKey(1)
		s := newSource(t, a)
		f, _ := follow(t, s, nil)
		forger := newSource(t, testKey(2))
		forger.identity = testKey(98)
		before := f.State().Number
		if err := f.Push(forger.change()); !errors.Is(err, ErrBadEvent) {
			t.Errorf("got %v", err)
		}
		check(t, verifierOf(f), relayed(t, a), nil)
		if f.State().Number != before {
			t.Error("the number moved")
		}
	})
}

// TestJWK07_KeysBelongToIssuers: the same id from two issuers resolves by
// issuer, and an issuer that is not trusted any more never answers.
func TestJWK07_KeysBelongToIssuers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const second = "parley/12D3KooWSecond"
		shared, own := testKey(1), testKey(2)
		s := newSource(t, shared, own)
		f, _ := follow(t, s, nil)
		s2 := newSource(t)
		s2.set = mustSet(t, second, 1, shared)
		f2, _ := follow(t, s2, func(c *FollowerConfig) { c.Issuer = second })
		v := verifierOf(f)
		v.Trust(f2)

		of := func(issuer string, k Key) string {
			c := testClaims()
			c.Issuer, c.Issued = issuer, time.Now().Truncate(time.Second)
			c.Expires = c.Issued.Add(MaxLife)
			return mustSign(t, c, k)
		}
		for _, issuer := range []string{issuerName, second} {
			got, err := v.Verify(t.Context(), of(issuer, shared))
			if err != nil || got.Issuer != issuer {
				t.Errorf("of %s: %+v, %v", issuer, got, err)
			}
		}
		check(t, v, of(second, own), ErrUnknownKey) // a key of the first
		check(t, v, of("parley/12D3KooWThird", shared), ErrIssuer)
		before := s2.count()
		v.Distrust(second)
		check(t, v, of(second, shared), ErrIssuer)
		check(t, v, of(second, testKey(3)), ErrIssuer)
		if s2.count() != before {
			t.Error("it was asked")
		}
		check(t, v, of(issuerName, shared), nil)
	})
}

// TestJWK09_UnreachableSource: the last good set is used until its hard expiry,
// an alarm comes well before, and after it nothing passes until the source is
// back.
func TestJWK09_UnreachableSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testKey(1)
		s := newSource(t, a)
		f, alarmed := follow(t, s, nil)
		v := verifierOf(f)
		s.fail(errors.New("no route"))
		time.Sleep(29 * time.Minute)
		check(t, v, relayed(t, a), nil)
		if errs := alarmed.all(); len(errs) != 0 {
			t.Errorf("early alarms %v", errs)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		check(t, v, relayed(t, a), nil)
		if errs := alarmed.all(); len(errs) != 1 {
			t.Errorf("alarms %v", errs)
		}
		time.Sleep(28 * time.Minute)
		check(t, v, relayed(t, a), nil)
		time.Sleep(2 * time.Minute)
		check(t, v, relayed(t, a), ErrNoSet)
		if f.State().Usable {
			t.Error("the state says usable")
		}
		s.fail(nil)
		time.Sleep(retryEvery)
		synctest.Wait()
		check(t, v, relayed(t, a), nil)
		if errs := alarmed.all(); len(errs) != 1 {
			t.Errorf("alarms %v", errs)
		}
	})
}

// A document that is no key set is an alarm, and changes nothing.
func TestJWK09_BadDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testKey(1)
		s := newSource(t, a)
		f, alarmed := follow(t, s, nil)
		s.show(mustSet(t, "parley/evil", 9, testKey(2)))
		time.Sleep(MaxAge)
		synctest.Wait()
		check(t, verifierOf(f), relayed(t, a), nil)
		if errs := alarmed.all(); len(errs) != 1 || !errors.Is(errs[0], ErrBadSet) {
			t.Errorf("alarms %v", errs)
		}
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
