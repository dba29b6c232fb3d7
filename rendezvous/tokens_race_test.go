package rendezvous

import (
	"context"
	"crypto/ed25519"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/rendezvous/token"
	"github.com/parley-chat/parley/store"
)

// rotations is how often TestJWK10 rotates; `make soak` does 10,000.
func rotations(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("PARLEY_KEY_ROTATIONS"))
	if err != nil {
		return 60
	}
	return n
}

// followed is an issuer and a verifier that follows it.
type followed struct {
	*issuer
	clock    *clock
	identity token.Key
	follower *token.Follower
	verifier *token.Verifier
	ended    chan struct{}
}

// follow starts a verifier, which ends with ctx.
func follow(ctx context.Context, t rapid.TB) *followed {
	t.Helper()
	c := newClock()
	f := &followed{issuer: newTestIssuer(t, c), clock: c, identity: token.NewKey(), ended: make(chan struct{})}
	f.follower = token.NewFollower(token.FollowerConfig{
		Issuer: f.name, Identity: f.identity.Public(), Now: c.Now,
		Fetch: func(ctx context.Context, _ string) ([]byte, error) { return f.fetch(ctx) },
	})
	f.verifier = token.NewVerifier("relay")
	f.verifier.Trust(f.follower)
	go func() { defer close(f.ended); f.follower.Run(ctx) }()
	return f
}

// announce pushes the newest event and waits until the verifier has read the
// set. It returns the ids of the keys.
func (f *followed) announce(ctx context.Context, t rapid.TB) []string {
	t.Helper()
	set := mustSet(t, f.issuer)
	event, err := token.EventOf(set).Sign(signWith(f.identity))
	mustDo(t, err)
	mustDo(t, f.follower.Push(event))
	for _, id := range set.IDs() {
		if _, err := f.follower.Key(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	return set.IDs()
}

// TestJWK10_ReadersAndRotations: eight verifications at a time while keys
// rotate and are revoked. No token by a revoked key passes once the event was
// pushed; no token that has not ended is refused whose key was announced.
func TestJWK10_ReadersAndRotations(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	f := follow(ctx, t)
	var readers sync.WaitGroup
	defer func() { stop(); <-f.ended; readers.Wait() }()

	var announced, revoking, revoked sync.Map // key ids
	announce := func() {
		for _, id := range f.announce(ctx, t) {
			announced.Store(id, true)
		}
	}
	announce()
	turns := make(chan struct{}, 64) // readers keep pace, they would starve the rotator
	defer close(turns)
	for range 8 {
		readers.Go(func() {
			for range turns {
				k := signer(t, f.issuer)
				text, ends := tokenBy(t, f, k)
				_, known := announced.Load(k.ID)
				_, out := revoked.Load(k.ID)
				_, err := f.verifier.Verify(ctx, text)
				_, going := revoking.Load(k.ID)
				if err == nil && out {
					t.Error("stale accept")
				}
				if err != nil && ctx.Err() == nil && known && !going && f.clock.Now().Before(ends) {
					t.Errorf("false reject: %v", err)
				}
			}
		})
	}
	more := func() {
		for range cap(turns) / 4 {
			select {
			case turns <- struct{}{}:
			default:
			}
		}
	}
	for n := range rotations(t) {
		more()
		mustDo(t, f.rotate(ctx))
		announce()
		more()
		f.clock.add(publishFor)
		mustDo(t, f.tend(ctx))
		announce()
		if n%5 == 4 {
			id := signer(t, f.issuer).ID
			more()
			revoking.Store(id, true)
			mustDo(t, f.revoke(ctx, id))
			announce()
			revoked.Store(id, true)
		}
	}
}

// BenchmarkChecksDuringRotations is what a check of a token costs while keys
// rotate ten times a second; a false answer fails it.
func BenchmarkChecksDuringRotations(b *testing.B) {
	ctx, stop := context.WithCancel(b.Context())
	f := follow(ctx, b)
	f.announce(ctx, b)
	type held struct {
		text string
		ends time.Time
	}
	var current atomic.Pointer[held]
	renew := func() {
		text, ends := tokenBy(b, f, signer(b, f.issuer))
		current.Store(&held{text, ends})
	}
	renew()
	var rotated atomic.Int64
	var rotator sync.WaitGroup
	enough := make(chan struct{})
	rotator.Go(func() {
		for tick := time.Tick(100 * time.Millisecond); ; <-tick {
			select {
			case <-enough:
				return
			default:
			}
			mustDo(b, f.rotate(ctx))
			f.announce(ctx, b)
			f.clock.add(publishFor)
			mustDo(b, f.tend(ctx))
			f.announce(ctx, b)
			renew()
			rotated.Add(1)
		}
	})
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h := current.Load()
			if _, err := f.verifier.Verify(ctx, h.text); err != nil && f.clock.Now().Before(h.ends) {
				b.Errorf("false reject: %v", err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checks/s")
	b.ReportMetric(float64(rotated.Load()), "rotations")
	close(enough)
	rotator.Wait()
	stop()
	<-f.ended
}

func signWith(k token.Key) func([]byte) ([]byte, error) {
	seed := k.Seed()
	return func(b []byte) ([]byte, error) { return ed25519.Sign(ed25519.NewKeyFromSeed(seed[:]), b), nil }
}

// tokenBy is a token by the key, which a moment later may have been revoked.
func tokenBy(t testing.TB, f *followed, k store.SigningKey) (text string, ends time.Time) {
	claims := selfTestClaims()
	claims.Issuer, claims.Audience, claims.Issued = f.name, "relay", f.clock.Now()
	claims.Expires = claims.Issued.Add(token.MaxLife)
	text, err := claims.Sign(signingKey(k))
	if err != nil {
		t.Error(err)
	}
	return text, claims.Expires
}
