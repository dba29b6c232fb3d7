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
)

// rotations is how often TestJWK10 rotates; `make soak` does 10,000.
func rotations(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("PARLEY_KEY_ROTATIONS"))
	if err != nil {
		return 20
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

// push gives the verifier the newest event.
func (f *followed) push(t rapid.TB) *token.Set {
	t.Helper()
	set := mustSet(t, f.issuer)
	event, err := token.EventOf(set).Sign(signWith(f.identity))
	mustDo(t, err)
	mustDo(t, f.follower.Push(event))
	return set
}

// announce pushes the newest event and waits until the verifier has read the
// set. It returns the ids of the keys.
func (f *followed) announce(ctx context.Context, t rapid.TB) []string {
	t.Helper()
	set := f.push(t)
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
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	f := follow(ctx, t)
	var readers sync.WaitGroup
	defer func() { stop(); <-f.ended; readers.Wait() }()

	var announced, revoking sync.Map     // key ids
	var withdrawn atomic.Pointer[string] // a token by a key that was revoked
	announce := func() {
		for _, id := range f.announce(ctx, t) {
			announced.Store(id, true)
		}
	}
	announce()
	refuseWithdrawn := func() {
		text := withdrawn.Load()
		if text == nil {
			return
		}
		if _, err := f.verifier.Verify(ctx, *text); err == nil {
			t.Error("stale accept")
		}
	}
	turns := make(chan struct{}, 64) // readers keep pace, they would starve the rotator
	defer close(turns)
	for range 8 {
		readers.Go(func() {
			for range turns {
				text, id, ends := f.issueOne(t)
				_, known := announced.Load(id)
				_, err := f.verifier.Verify(ctx, text)
				_, going := revoking.Load(id)
				if err != nil && ctx.Err() == nil && known && !going && f.clock.Now().Before(ends) {
					t.Errorf("false reject: %v", err)
				}
				refuseWithdrawn()
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
			text, id, _ := f.issueOne(t)
			more()
			revoking.Store(id, true)
			mustDo(t, f.revoke(ctx, id))
			f.push(t)
			withdrawn.Store(&text)
			refuseWithdrawn()
			announce()
		}
	}
}

// witness is a token, and what becomes of the key that signed it.
type witness struct {
	text, id          string
	ends              time.Time
	revoking, revoked atomic.Bool // begun; done, and the event pushed
}

// handOver rotates, lets the new key sign, and returns a token by it.
func (f *followed) handOver(ctx context.Context, t testing.TB) *witness {
	t.Helper()
	mustDo(t, f.rotate(ctx))
	f.announce(ctx, t)
	f.clock.add(publishFor)
	mustDo(t, f.tend(ctx))
	f.announce(ctx, t)
	text, id, ends := f.issueOne(t)
	return &witness{text: text, id: id, ends: ends}
}

// BenchmarkChecksDuringRotations is what a check of a token costs while keys
// rotate and are revoked ten times a second: of one by the key that signs, one by
// the key that retires, and one by a key that is or will soon be revoked, in turn.
// A false answer fails it.
func BenchmarkChecksDuringRotations(b *testing.B) {
	ctx, stop := context.WithCancel(b.Context())
	f := follow(ctx, b)
	var tokens atomic.Pointer[[3]*witness]
	first, second := f.handOver(ctx, b), f.handOver(ctx, b)
	tokens.Store(&[3]*witness{f.handOver(ctx, b), second, first})
	var rotator sync.WaitGroup
	rotations, enough := 0, make(chan struct{})
	rotator.Go(func() {
		for tick := time.Tick(100 * time.Millisecond); ; <-tick {
			select {
			case <-enough:
				return
			default:
			}
			last := tokens.Load()
			withdrawn := last[1]
			tokens.Store(&[3]*witness{f.handOver(ctx, b), last[0], withdrawn})
			withdrawn.revoking.Store(true)
			mustDo(b, f.revoke(ctx, withdrawn.id))
			f.push(b)
			withdrawn.revoked.Store(true)
			rotations++
		}
	})
	var accepts, rejects, refused atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			w := tokens.Load()[n%3]
			revoked := w.revoked.Load()
			_, err := f.verifier.Verify(ctx, w.text)
			if err == nil && revoked {
				accepts.Add(1)
			}
			if err != nil && !w.revoking.Load() && f.clock.Now().Before(w.ends) {
				rejects.Add(1)
			}
			if err != nil {
				refused.Add(1)
			}
		}
	})
	b.StopTimer()
	close(enough)
	rotator.Wait()
	stop()
	<-f.ended
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checks/s")
	b.ReportMetric(float64(rotations), "rotations")
	b.ReportMetric(float64(refused.Load()), "refused")
	b.ReportMetric(float64(accepts.Load()), "false_accepts")
	b.ReportMetric(float64(rejects.Load()), "false_rejects")
	if accepts.Load()+rejects.Load() > 0 {
		b.Error("false answers")
	}
}

func signWith(k token.Key) func([]byte) ([]byte, error) {
	seed := k.Seed()
	return func(b []byte) ([]byte, error) { return ed25519.Sign(ed25519.NewKeyFromSeed(seed[:]), b), nil }
}

// issueOne returns a token by the key that signs, which a moment later may retire or
// be revoked, and the key's id. The clock is read first: however long a goroutine
// then has to wait, the key has not retired before the token was issued.
func (f *followed) issueOne(t testing.TB) (text, id string, ends time.Time) {
	t.Helper()
	claims := selfTestClaims()
	claims.Issuer, claims.Audience, claims.Issued = f.name, "relay", f.clock.Now()
	claims.Expires = claims.Issued.Add(token.MaxLife)
	k := signer(t, f.issuer)
	text, err := claims.Sign(signingKey(k))
	if err != nil {
		t.Error(err)
	}
	return text, k.ID, claims.Expires
}
