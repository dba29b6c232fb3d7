package rendezvous

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/rendezvous/token"
	"github.com/parley-chat/parley/store"
)

// The life of a signing key: published for publishFor, then it signs until the
// next one takes over, then it retires for retireFor, then it is gone.
const (
	rotateEvery = 30 * 24 * time.Hour
	publishFor  = 2 * token.MaxAge // every verifier has read the set since
	retireFor   = token.MaxLife + token.Leeway + 2*token.MaxAge

	keysEvery       = 5 * time.Second // between looks at what is due
	rotateRetry     = time.Hour       // after a rotation that was taken back
	selfTestTimeout = 20 * time.Second
)

// errSelfTest is a key set that, as others see it, does not do what it must.
var errSelfTest = errors.New("self-test of the signing keys failed")

// issuer signs access tokens and looks after the keys. What it knows is in the
// store and read there each time, so that all that share a store agree.
type issuer struct {
	name  string
	store store.SigningKeys
	now   func() time.Time
	log   *slog.Logger

	// fetch reads the key set the way that others do, for the self-test.
	fetch func(context.Context) ([]byte, error)

	mu      sync.Mutex // held while keys change
	alarm   string     // what went wrong last; empty: nothing
	retryAt time.Time  // no rotation by itself before
}

// signingKey is the private key, for the time of one call.
func signingKey(k store.SigningKey) token.Key { return token.KeyOf(k.Seed) }

// newSigningKey makes a key that is new to everybody.
func newSigningKey(state store.KeyState, now time.Time) store.SigningKey {
	k := token.NewKey()
	for token.KeyID(k.Public())[0] == '-' { // the operator's command would take it for a flag
		k = token.NewKey()
	}
	made := store.SigningKey{ID: token.KeyID(k.Public()), Public: k.Public(), Seed: k.Seed(), State: state, Published: now}
	if state == store.KeySigning {
		made.Signing = now
	}
	return made
}

// inState returns the first key in this state.
func inState(keys []store.SigningKey, state store.KeyState) (store.SigningKey, bool) {
	i := slices.IndexFunc(keys, func(k store.SigningKey) bool { return k.State == state })
	if i < 0 {
		return store.SigningKey{}, false
	}
	return keys[i], true
}

// due is what has to happen to the keys by now.
func due(keys []store.SigningKey, now time.Time) (changed []store.SigningKey) {
	signing, any := inState(keys, store.KeySigning)
	next, waits := inState(keys, store.KeyPublished)
	switch {
	case !any: // the first start: no verifier knows another set
		changed = append(changed, newSigningKey(store.KeySigning, now))
	case waits && !now.Before(next.Published.Add(publishFor)):
		changed = append(changed, handOver(signing, next, now)...)
	case !waits && !now.Before(signing.Signing.Add(rotateEvery-publishFor)):
		changed = append(changed, newSigningKey(store.KeyPublished, now))
	}
	for _, k := range keys {
		if k.State == store.KeyRetiring && !now.Before(k.Retiring.Add(retireFor)) {
			k.State = store.KeyGone
			changed = append(changed, k)
		}
	}
	return changed
}

// handOver retires one key and lets the other sign.
func handOver(signing, next store.SigningKey, now time.Time) []store.SigningKey {
	signing.State, signing.Retiring = store.KeyRetiring, now
	next.State, next.Signing = store.KeySigning, now
	return []store.SigningKey{signing, next}
}

// tend does what is due.
func (i *issuer) tend(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.now().Before(i.retryAt) {
		return nil
	}
	return i.changeLocked(ctx, store.KeyDue, func(keys []store.SigningKey, now time.Time) ([]store.SigningKey, error) {
		return due(keys, now), nil
	})
}

// rotate publishes the next key, which signs as soon as every verifier has had
// the time to learn of it. A key that is published already is the next one.
func (i *issuer) rotate(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.retryAt = time.Time{}
	return i.changeLocked(ctx, store.KeyAsked, func(keys []store.SigningKey, now time.Time) ([]store.SigningKey, error) {
		if _, waits := inState(keys, store.KeyPublished); waits {
			return nil, nil
		}
		return []store.SigningKey{newSigningKey(store.KeyPublished, now)}, nil
	})
}

// revoke takes a key away at once. If it is the one that signs, the published
// one takes its place, or a fresh one, although not every verifier knows it
// yet: they read the set when they meet it. Nothing brings a revoked key back,
// not even a self-test that fails. ErrNotFound if there is none with this id.
func (i *issuer) revoke(ctx context.Context, id string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changeLocked(ctx, store.KeyRevoked, func(keys []store.SigningKey, now time.Time) ([]store.SigningKey, error) {
		at := slices.IndexFunc(keys, func(k store.SigningKey) bool { return k.ID == id })
		if at < 0 {
			return nil, fmt.Errorf("signing key %q: %w", id, ErrNotFound)
		}
		gone := keys[at]
		signed := gone.State == store.KeySigning
		gone.State = store.KeyGone
		if !signed {
			return []store.SigningKey{gone}, nil
		}
		next, waits := inState(keys, store.KeyPublished)
		if !waits {
			return []store.SigningKey{gone, newSigningKey(store.KeySigning, now)}, nil
		}
		next.State, next.Signing = store.KeySigning, now
		return []store.SigningKey{gone, next}, nil
	})
}

// changeLocked commits what plan says, looks whether others see it, and if not
// raises the alarm and, unless it revokes a key, takes it back.
func (i *issuer) changeLocked(ctx context.Context, why store.KeyCause, plan func([]store.SigningKey, time.Time) ([]store.SigningKey, error)) error {
	before, number, err := i.store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("read signing keys: %w", err)
	}
	now := i.now()
	changed, err := plan(before, now)
	if err != nil || len(changed) == 0 {
		return err
	}
	err = i.store.ChangeSigningKeys(ctx, number, changed, why, now)
	if errors.Is(err, store.ErrOvertaken) { // by another rendezvous on this store
		return i.changeLocked(ctx, why, plan)
	}
	if err != nil {
		return fmt.Errorf("change signing keys: %w", err)
	}
	// Who asked may have gone: what has begun is brought to its end all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), selfTestTimeout)
	defer cancel()
	for _, k := range changed {
		i.log.Info("signing key", "id", k.ID, "state", k.State.String(), "change", number+1)
	}
	err = i.selfTest(ctx, before, number+1)
	if err == nil {
		i.alarm = ""
		return nil
	}
	undo := why != store.KeyRevoked
	if undo {
		i.retryAt = now.Add(rotateRetry)
		err = errors.Join(err, i.takeBack(ctx, before, changed, number+1))
	}
	i.alarm = err.Error()
	i.log.Error("ALARM: the signing keys are not as they should be", "err", err, "taken_back", undo)
	return err
}

// takeBack undoes a rotation: keys that it brought are gone, the one that it
// retired signs again. Keys that it let go stay gone.
func (i *issuer) takeBack(ctx context.Context, before, changed []store.SigningKey, number uint64) error {
	var back []store.SigningKey
	for _, k := range changed {
		at := slices.IndexFunc(before, func(old store.SigningKey) bool { return old.ID == k.ID })
		switch {
		case k.State == store.KeyRetiring:
			back = append(back, before[at])
		case at >= 0 && k.State == store.KeySigning, at < 0 && len(before) > 0: // the first key of all stays
			k.State = store.KeyGone
			back = append(back, k)
		}
	}
	if len(back) == 0 {
		return nil
	}
	if err := i.store.ChangeSigningKeys(ctx, number, back, store.KeyTakenBack, i.now()); err != nil {
		return fmt.Errorf("take back a rotation of signing keys: %w", err)
	}
	return nil
}

// set renders the key set from the store.
func (i *issuer) set(ctx context.Context) (*token.Set, error) {
	keys, number, err := i.store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read signing keys: %w", err)
	}
	if number == 0 {
		return nil, errNoKeys
	}
	public := make([]ed25519.PublicKey, len(keys))
	for n, k := range keys {
		public[n] = k.Public
	}
	return token.NewSet(i.name, number, public)
}

// errNoKeys: the store could not take the first key yet.
var errNoKeys = errors.New("there are no signing keys yet")

// issue signs what the claims say, for the longest life there is from now on.
func (i *issuer) issue(ctx context.Context, c token.Claims) (text string, expires time.Time, err error) {
	k, err := i.signer(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	return i.issueBy(k, c)
}

// signer is the key that signs now.
func (i *issuer) signer(ctx context.Context) (store.SigningKey, error) {
	keys, _, err := i.store.SigningKeys(ctx)
	if err != nil {
		return store.SigningKey{}, fmt.Errorf("read signing keys: %w", err)
	}
	k, ok := inState(keys, store.KeySigning)
	if !ok {
		return store.SigningKey{}, errNoKeys
	}
	return k, nil
}

func (i *issuer) issueBy(k store.SigningKey, c token.Claims) (text string, expires time.Time, err error) {
	now := i.now()
	c.Issuer, c.Issued, c.Expires = i.name, now, now.Add(token.MaxLife)
	text, err = c.Sign(signingKey(k))
	return text, c.Expires, err
}
