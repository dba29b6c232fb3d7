package token

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

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
		if err := f.Push(s.event(old)); err != nil {
			t.Fatal(err)
		}
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

// TestJWK05_MissedEvent: an event has the whole set read at once, also what the
// events before it would have told.
func TestJWK05_MissedEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := testKey(1), testKey(2), testKey(3)
		s := newSource(t, a)
		f, _ := follow(t, s, nil)
		s.change(a, b) // its event is lost
		if err := f.Push(s.change(b, c)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := f.State(); got.Number != 3 || !slices.Equal(got.IDs, s.set.IDs()) {
			t.Errorf("state %+v", got)
		}
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

// An event that comes while the set is read makes it be read again, and is no
// alarm.
func TestJWK05_EventDuringRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testKey(1), testKey(2)
		s := newSource(t, a)
		f, alarmed := follow(t, s, nil)
		for _, known := range []bool{true, false} { // "unchanged", or the old set itself
			old := s.set
			s.slow(2 * time.Second)
			if !known {
				s.show(old)
			}
			time.Sleep(MaxAge - time.Second) // a read is going on
			for before := s.count(); s.count() == before; {
				time.Sleep(time.Second)
			}
			event := s.change(b)
			if err := f.Push(event); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			check(t, verifierOf(f), relayed(t, b), nil)
			check(t, verifierOf(f), relayed(t, a), ErrUnknownKey)
			if errs := alarmed.all(); len(errs) != 0 || f.State().Trouble != nil {
				t.Errorf("alarms %v, trouble %v", errs, f.State().Trouble)
			}
			s.slow(0)
		}
	})
}

// TestJWK08_SilentSource: a source that never answers is given up, and asked again
// later; nobody waits for it longer than that.
func TestJWK08_SilentSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(t, testKey(1))
		s.slow(24 * time.Hour)
		f, _ := follow(t, s, nil)
		began := time.Now()
		check(t, verifierOf(f), relayed(t, testKey(1)), ErrNoSet)
		if waited := time.Since(began); waited > 2*fetchTimeout+retryEvery {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(time.Minute)
		if n := s.count(); n < 3 {
			t.Errorf("asked %d times in a minute", n)
		}
	})
}

// What was let in can be looked at again without asking the issuer: it holds
// while its key is in the set, the set is fresh and the issuer is trusted.
func TestHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testKey(1), testKey(2)
		s := newSource(t, a)
		f, _ := follow(t, s, nil)
		v := verifierOf(f)
		passed, err := v.Verify(t.Context(), relayed(t, a))
		if err != nil {
			t.Fatal(err)
		}
		holds := func(want bool) {
			t.Helper()
			before := s.count()
			if v.Holds(passed.Issuer, passed.KeyID) != want || v.Holds(passed.Issuer, "") || v.Holds("parley/other", passed.KeyID) {
				t.Errorf("want %v", want)
			}
			if s.count() != before {
				t.Error("the issuer was asked")
			}
		}
		holds(true)
		v.Distrust(issuerName)
		holds(false)
		v.Trust(f)
		holds(true)
		s.fail(errors.New("away"))
		time.Sleep(time.Hour)
		holds(false)
		s.fail(nil)
		time.Sleep(retryEvery)
		synctest.Wait()
		holds(true)
		if err := f.Push(s.change(b)); err != nil {
			t.Fatal(err)
		}
		if v.Holds(passed.Issuer, passed.KeyID) { // which asks nobody, but the event has the set read
			t.Error("the key that is gone holds")
		}
	})
}
