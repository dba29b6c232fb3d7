package rendezvous

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/rendezvous/token"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/embedded"
	"github.com/parley-chat/parley/store/memory"
)

// newTestIssuer makes an issuer over a store in memory, with its first key.
func newTestIssuer(t rapid.TB, c *clock) *issuer {
	t.Helper()
	s, err := embedded.New(context.Background(), memory.New())
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{name: "parley/test", store: s, now: c.Now, log: slog.New(slog.DiscardHandler)}
	i.fetch = func(ctx context.Context) ([]byte, error) {
		set, err := i.set(ctx)
		if err != nil {
			return nil, err
		}
		return set.JSON(), nil
	}
	if err := i.tend(context.Background()); err != nil {
		t.Fatal(err)
	}
	return i
}

// states lists the keys as "signing, published".
func states(t rapid.TB, i *issuer) string {
	t.Helper()
	keys, _, err := i.store.SigningKeys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, k := range keys {
		all = append(all, k.State.String())
	}
	return strings.Join(all, ", ")
}

func signer(t rapid.TB, i *issuer) store.SigningKey {
	t.Helper()
	keys, _, err := i.store.SigningKeys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	k, ok := inState(keys, store.KeySigning)
	if !ok {
		t.Fatal("no key signs")
	}
	return k
}

func mustIssue(t rapid.TB, i *issuer) string {
	t.Helper()
	text, _, err := i.issue(context.Background(), token.Claims{Account: protocol.AccountID{1}, Peer: "peer", Audience: "relay", Scope: token.ScopeMember})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mustSet(t rapid.TB, i *issuer) *token.Set {
	t.Helper()
	set, err := i.set(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func mustDo(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestJWK02_PublishedBeforeSigning: a new key is in the set for more than one
// cache life before it signs, and tokens by the old one pass until they end.
func TestJWK02_PublishedBeforeSigning(t *testing.T) {
	c := newClock()
	i := newTestIssuer(t, c)
	first := signer(t, i)
	c.add(time.Hour)
	known := mustSet(t, i) // what a verifier knows that read last before the rotation
	rotated := c.Now()
	mustDo(t, i.rotate(t.Context()))
	mustDo(t, i.rotate(t.Context())) // a repetition
	if got := states(t, i); got != "signing, published" {
		t.Fatalf("keys %s", got)
	}
	for range publishFor/time.Second - 1 {
		c.add(time.Second)
		mustDo(t, i.tend(t.Context()))
		if signer(t, i).ID != first.ID {
			t.Fatalf("the new key signs after %v", c.Now().Sub(rotated))
		}
		if c.Now().Sub(rotated) < token.MaxAge {
			if _, err := known.Verify(mustIssue(t, i), "relay", c.Now()); err != nil {
				t.Fatalf("a verifier within its max-age refuses: %v", err)
			}
		}
	}
	last := mustIssue(t, i)
	known = mustSet(t, i) // read just before the new key signs
	c.add(time.Second)
	mustDo(t, i.tend(t.Context()))
	if got := states(t, i); got != "retiring, signing" {
		t.Fatalf("keys %s", got)
	}
	if _, err := known.Verify(mustIssue(t, i), "relay", c.Now()); err != nil {
		t.Errorf("the first token by the new key: %v", err)
	}
	c.add(token.MaxLife + token.Leeway - 2*time.Second)
	mustDo(t, i.tend(t.Context()))
	if _, err := mustSet(t, i).Verify(last, "relay", c.Now()); err != nil {
		t.Errorf("the last token by the old key, at its end: %v", err)
	}
	c.add(retireFor)
	mustDo(t, i.tend(t.Context()))
	if got := states(t, i); got != "signing" || mustSet(t, i).Has(first.ID) {
		t.Errorf("keys %s", got)
	}
}

// Nobody has to rotate: every 30 days another key signs.
func TestKeysRotateByThemselves(t *testing.T) {
	c := newClock()
	i := newTestIssuer(t, c)
	var signers []string
	begin := c.Now()
	for c.Now().Sub(begin) < 100*24*time.Hour {
		if id := signer(t, i).ID; !slices.Contains(signers, id) {
			signers = append(signers, id)
		}
		c.add(time.Hour)
		mustDo(t, i.tend(t.Context()))
	}
	if len(signers) != 4 {
		t.Errorf("%d keys signed in 100 days", len(signers))
	}
	changes, err := i.store.KeyChanges(t.Context(), 0, 100)
	if err != nil || len(changes) != 1+3*3 {
		t.Errorf("%d changes, %v", len(changes), err)
	}
}

// TestJWK02_AnyOrder: whatever happens in whatever order, a verifier that reads
// once in a max-age takes every token by a key that was not revoked, unless
// that key had to sign before it could be known; and none by a key that was
// revoked before it read last.
func TestJWK02_AnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		i := newTestIssuer(t, c)
		known, read := mustSet(t, i), c.Now()
		type issued struct {
			text, id string
			ends     time.Time
		}
		var tokens []issued
		revoked, hasty := map[string]bool{}, map[string]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0:
				mustDo(t, i.rotate(t.Context()))
			case 1:
				ids := mustSet(t, i).IDs()
				id := rapid.SampledFrom(ids).Draw(t, "revoked")
				mustDo(t, i.revoke(t.Context(), id))
				revoked[id] = true
				if k := signer(t, i); k.Signing.Sub(k.Published) < publishFor {
					hasty[k.ID] = true
				}
				if mustSet(t, i).Has(id) {
					t.Fatal("a revoked key is in the set")
				}
			default:
				c.add(time.Duration(rapid.IntRange(1, 300).Draw(t, "seconds")) * time.Second)
			}
			mustDo(t, i.tend(t.Context()))
			if c.Now().Sub(read) >= token.MaxAge {
				known, read = mustSet(t, i), c.Now()
			}
			tokens = append(tokens[max(0, len(tokens)-9):], issued{mustIssue(t, i), signer(t, i).ID, c.Now().Add(token.MaxLife)})
			for range 3 {
				k := rapid.SampledFrom(tokens).Draw(t, "token")
				_, err := known.Verify(k.text, "relay", c.Now())
				switch {
				case err != nil && c.Now().Before(k.ends) && !revoked[k.id] && !hasty[k.id]:
					t.Fatalf("refused: %v", err)
				case err == nil && revoked[k.id] && known.Number == mustSet(t, i).Number:
					t.Fatal("a revoked key's token passes")
				}
			}
		}
	})
}

// wrongly makes fetches answer something else than the key set that is.
func (i *issuer) wrongly(doc []byte, err error) {
	i.fetch = func(context.Context) ([]byte, error) { return doc, err }
}

// TestJWK11_FailedSelfTestIsTakenBack: a rotation that does not look to others
// as it must is withdrawn, the old key goes on, and the operator is told until
// one goes well. That holds for publishing as for the hand-over.
func TestJWK11_FailedSelfTestIsTakenBack(t *testing.T) {
	c := newClock()
	i := newTestIssuer(t, c)
	first, right := signer(t, i), i.fetch
	c.add(time.Hour)
	witness, issuedAt := mustIssue(t, i), c.Now()
	check := func(want string, alarmed bool) {
		t.Helper()
		if got := states(t, i); got != want || signer(t, i).ID != first.ID {
			t.Errorf("keys %s, signed by %s", got, signer(t, i).ID)
		}
		if _, err := mustSet(t, i).Verify(witness, "relay", issuedAt); err != nil {
			t.Errorf("a token of before: %v", err)
		}
		if (i.trouble() != "") != alarmed {
			t.Errorf("alarm %q", i.trouble())
		}
	}
	stranger := token.NewKey().Public()
	strange, err := token.NewSet(i.name, mustSet(t, i).Number+3, []ed25519.PublicKey{stranger})
	mustDo(t, err)
	for _, wrong := range []struct {
		doc []byte
		err error
	}{
		{mustSet(t, i).JSON(), nil}, // a cache
		{strange.JSON(), nil},
		{[]byte("<html>"), nil},
		{nil, errors.New("not reachable")},
	} {
		i.wrongly(wrong.doc, wrong.err)
		if err := i.rotate(t.Context()); !errors.Is(err, errSelfTest) {
			t.Fatalf("rotated: %v", err)
		}
		check("signing", true)
	}
	i.fetch = right
	mustDo(t, i.rotate(t.Context()))
	check("signing, published", false)

	i.wrongly(mustSet(t, i).JSON(), nil)
	c.add(publishFor)
	if err := i.tend(t.Context()); !errors.Is(err, errSelfTest) {
		t.Fatalf("handed over: %v", err)
	}
	check("signing", true)
	// By itself it tries again later, not all the time.
	c.add(rotateEvery)
	number := func() uint64 { return mustSet(t, i).Number }
	begun := number()
	for _, step := range []struct {
		after time.Duration
		tries uint64
	}{{0, 1}, {0, 1}, {rotateRetry - time.Second, 1}, {time.Second, 2}} {
		c.add(step.after)
		i.tend(t.Context())
		if n := number(); n != begun+2*step.tries { // each try is two changes
			t.Errorf("%d changes, want %d", n-begun, 2*step.tries)
		}
	}
}

// TestJWK11_SelfTestSeesWhatIsWrong: a set with the right number is refused if it
// lacks the new key or the old one, or still has a revoked one.
func TestJWK11_SelfTestSeesWhatIsWrong(t *testing.T) {
	const lacks, passes = "the issuer has no such key", "is gone and still passes"
	for name, c := range map[string]struct {
		change func(context.Context, *issuer, string) error
		shown  func(now []ed25519.PublicKey, first ed25519.PublicKey) []ed25519.PublicKey
		says   string
	}{
		"the new key is missing": {rotateKeys, func(_ []ed25519.PublicKey, first ed25519.PublicKey) []ed25519.PublicKey {
			return []ed25519.PublicKey{first}
		}, lacks},
		"the old key is missing": {rotateKeys, func(now []ed25519.PublicKey, first ed25519.PublicKey) []ed25519.PublicKey {
			return slices.DeleteFunc(now, func(k ed25519.PublicKey) bool { return k.Equal(first) })
		}, lacks},
		"a revoked key is there": {revokeKey, func(now []ed25519.PublicKey, first ed25519.PublicKey) []ed25519.PublicKey {
			return append(now, first)
		}, passes},
	} {
		i := newTestIssuer(t, newClock())
		first := signer(t, i)
		i.fetch = func(ctx context.Context) ([]byte, error) {
			keys, number, err := i.store.SigningKeys(ctx)
			if err != nil {
				return nil, err
			}
			var now []ed25519.PublicKey
			for _, k := range keys {
				now = append(now, k.Public)
			}
			set, err := token.NewSet(i.name, number, c.shown(now, first.Public))
			return set.JSON(), err
		}
		if err := c.change(t.Context(), i, first.ID); !errors.Is(err, errSelfTest) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(i.trouble(), c.says) {
			t.Errorf("%s: alarm %q", name, i.trouble())
		}
	}
}

func rotateKeys(ctx context.Context, i *issuer, _ string) error { return i.rotate(ctx) }
func revokeKey(ctx context.Context, i *issuer, id string) error { return i.revoke(ctx, id) }

// An operator who hangs up in the middle leaves neither an alarm nor half of a
// rotation.
func TestJWK11_AskerGoesAway(t *testing.T) {
	i := newTestIssuer(t, newClock())
	ctx, cancel := context.WithCancel(t.Context())
	right := i.fetch
	i.fetch = func(ctx context.Context) ([]byte, error) {
		cancel()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return right(ctx)
	}
	mustDo(t, i.rotate(ctx))
	if got := states(t, i); got != "signing, published" || i.trouble() != "" {
		t.Errorf("keys %s, alarm %q", got, i.trouble())
	}
}

// TestJWK11_RevocationIsNeverTakenBack: not by a self-test that fails either.
func TestJWK11_RevocationIsNeverTakenBack(t *testing.T) {
	c := newClock()
	i := newTestIssuer(t, c)
	first := signer(t, i)
	witness := mustIssue(t, i)
	i.wrongly(mustSet(t, i).JSON(), nil) // where the key still is
	if err := i.revoke(t.Context(), first.ID); !errors.Is(err, errSelfTest) {
		t.Fatalf("revoked: %v", err)
	}
	if i.trouble() == "" || states(t, i) != "signing" || signer(t, i).ID == first.ID {
		t.Errorf("alarm %q, keys %s", i.trouble(), states(t, i))
	}
	if _, err := mustSet(t, i).Verify(witness, "relay", c.Now()); !errors.Is(err, token.ErrUnknownKey) {
		t.Errorf("a token by the revoked key: %v", err)
	}
	if err := i.revoke(t.Context(), first.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: %v", err)
	}
}

// unsureStore does what it is asked and then says that it failed, once armed.
type unsureStore struct {
	store.Rendezvous
	armed bool
}

func (s *unsureStore) ChangeSigningKeys(ctx context.Context, after uint64, keys []store.SigningKey, why store.KeyCause, now time.Time) error {
	err := s.Rendezvous.ChangeSigningKeys(ctx, after, keys, why, now)
	if s.armed {
		return errors.Join(err, store.ErrFailed)
	}
	return err
}

// A change that failed although it was stored may be asked for again: a rotation
// does not happen twice, and a revoked key stays revoked.
func TestKeyChangeStoredButFailed(t *testing.T) {
	c := newClock()
	i := newTestIssuer(t, c)
	c.add(time.Hour)
	s := &unsureStore{Rendezvous: i.store.(store.Rendezvous), armed: true}
	i.store = s
	first := signer(t, i)
	if err := i.rotate(t.Context()); !errors.Is(err, store.ErrFailed) {
		t.Errorf("rotated: %v", err)
	}
	s.armed = false
	mustDo(t, i.rotate(t.Context()))
	if got := states(t, i); got != "signing, published" {
		t.Errorf("keys %s", got)
	}
	s.armed = true
	if err := i.revoke(t.Context(), first.ID); !errors.Is(err, store.ErrFailed) {
		t.Errorf("revoked: %v", err)
	}
	s.armed = false
	if err := i.revoke(t.Context(), first.ID); !errors.Is(err, ErrNotFound) || mustSet(t, i).Has(first.ID) {
		t.Errorf("again: %v", err)
	}
	if got := states(t, i); got != "signing" {
		t.Errorf("keys %s", got)
	}
}
