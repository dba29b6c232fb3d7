package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// tokenKey is the n-th key, in this state; n minutes younger than the first.
func tokenKey(n int, state store.KeyState) store.SigningKey {
	public := hash("public %d", n)
	return store.SigningKey{
		ID: fmt.Sprint("key ", n), Public: public[:], Seed: hash("seed %d", n), State: state,
		Published: start.Add(time.Duration(n) * time.Minute),
	}
}

// signingKeysAre checks the keys, "1 signing, 2 published", and the number of
// the last change.
func signingKeysAre(t testing.TB, r store.Rendezvous, number uint64, want string) {
	t.Helper()
	keys, n, err := r.SigningKeys(ctx)
	ok(t, err)
	var got []string
	for _, k := range keys {
		got = append(got, strings.TrimPrefix(k.ID, "key ")+" "+k.State.String())
	}
	equal(t, "keys", strings.Join(got, ", "), want)
	equal(t, "number", n, number)
}

func testSigningKeys(t *testing.T, r store.Rendezvous) {
	signingKeysAre(t, r, 0, "")
	first := tokenKey(1, store.KeySigning)
	first.Signing = start.Add(time.Hour)
	ok(t, r.ChangeSigningKeys(ctx, 0, []store.SigningKey{first}, store.KeyDue, start))
	keys, _, err := r.SigningKeys(ctx)
	ok(t, err)
	equal(t, "keys", keys, []store.SigningKey{first})
	if keys[0].Seed != first.Seed {
		t.Error("another seed came back")
	}

	// Keys in one change, then one change that overlooks it.
	ok(t, r.ChangeSigningKeys(ctx, 1, []store.SigningKey{tokenKey(3, store.KeyPublished), tokenKey(2, store.KeyPublished)}, store.KeyDue, start))
	signingKeysAre(t, r, 2, "1 signing, 2 published, 3 published")
	for _, after := range []uint64{0, 1, 3} {
		err := r.ChangeSigningKeys(ctx, after, []store.SigningKey{tokenKey(4, store.KeyPublished)}, store.KeyDue, start)
		if !errors.Is(err, store.ErrOvertaken) {
			t.Fatalf("after %d: %v", after, err)
		}
	}
	// A rotation, taken back, and done again.
	rotate := []store.SigningKey{tokenKey(1, store.KeyRetiring), tokenKey(2, store.KeySigning)}
	ok(t, r.ChangeSigningKeys(ctx, 2, rotate, store.KeyDue, start.Add(time.Hour)))
	signingKeysAre(t, r, 3, "1 retiring, 2 signing, 3 published")
	ok(t, r.ChangeSigningKeys(ctx, 3, []store.SigningKey{tokenKey(1, store.KeySigning), tokenKey(2, store.KeyGone)}, store.KeyDue, start))
	signingKeysAre(t, r, 4, "1 signing, 3 published")

	changes, err := r.KeyChanges(ctx, 1, 2)
	ok(t, err)
	equal(t, "changes", changes, []store.KeyChange{
		{Number: 2, At: start, Steps: []store.KeyStep{{ID: "key 3", State: store.KeyPublished}, {ID: "key 2", State: store.KeyPublished}}},
		{Number: 3, At: start.Add(time.Hour), Steps: []store.KeyStep{{ID: "key 1", State: store.KeyRetiring}, {ID: "key 2", State: store.KeySigning}}},
	})
	changes, err = r.KeyChanges(ctx, 4, 10)
	ok(t, err)
	equal(t, "changes after the last", len(changes), 0)

	js, err := json.Marshal(first)
	ok(t, err)
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("key", "key", first, "seed", first.Seed)
	shown := fmt.Sprintf("%v %+v %#v %x %s %s", first, first, first, first.Seed, js, logged.String())
	for _, secret := range []string{fmt.Sprintf("%x", first.Seed[:]), fmt.Sprint(first.Seed[:]), fmt.Sprintf("%#v", [32]byte(first.Seed))} {
		if strings.Contains(shown, strings.Trim(secret, "[]")) {
			t.Errorf("the seed shows in %s", shown)
		}
	}
}

// testSigningKeyRules: a change against the rules changes nothing.
func testSigningKeyRules(t *testing.T, r store.Rendezvous) {
	refuse := func(want protocol.Code, keys ...store.SigningKey) {
		t.Helper()
		before, number, err := r.SigningKeys(ctx)
		ok(t, err)
		refused(t, r.ChangeSigningKeys(ctx, number, keys, store.KeyDue, start), want)
		after, again, err := r.SigningKeys(ctx)
		ok(t, err)
		equal(t, "keys", after, before)
		equal(t, "number", again, number)
	}
	refuse(protocol.BadRequest, tokenKey(1, store.KeyRetiring))
	refuse(protocol.BadRequest, tokenKey(1, store.KeyGone))
	refuse(protocol.BadRequest, tokenKey(1, store.KeySigning), tokenKey(2, store.KeySigning))
	nameless, short := tokenKey(1, store.KeySigning), tokenKey(1, store.KeySigning)
	nameless.ID, short.Public = "", short.Public[1:]
	refuse(protocol.BadRequest, nameless)
	refuse(protocol.BadRequest, short)

	ok(t, r.ChangeSigningKeys(ctx, 0, []store.SigningKey{tokenKey(1, store.KeySigning), tokenKey(2, store.KeyPublished)}, store.KeyDue, start))
	refuse(protocol.BadRequest, tokenKey(1, store.KeyRetiring)) // nobody would sign
	refuse(protocol.BadRequest, tokenKey(1, store.KeyGone))
	refuse(protocol.BadRequest, tokenKey(2, store.KeySigning)) // two would
	refuse(protocol.BadRequest, tokenKey(2, store.KeyRetiring))
	refuse(protocol.BadRequest, tokenKey(1, store.KeyPublished), tokenKey(2, store.KeySigning))
	other, seed := tokenKey(2, store.KeySigning), tokenKey(2, store.KeySigning)
	other.Public, seed.Seed[0] = tokenKey(3, 0).Public, seed.Seed[0]+1
	refuse(protocol.KeyConflict, tokenKey(1, store.KeyRetiring), other)
	refuse(protocol.KeyConflict, tokenKey(1, store.KeyRetiring), seed)

	ok(t, r.ChangeSigningKeys(ctx, 1, []store.SigningKey{tokenKey(2, store.KeyGone)}, store.KeyDue, start))
	for _, state := range []store.KeyState{store.KeyPublished, store.KeySigning, store.KeyRetiring, store.KeyGone} {
		refuse(protocol.KeyConflict, tokenKey(2, state)) // gone is for ever
	}
}

// testSigningKeyRace: of many changes made on top of the same one, one wins,
// and no reader sees a moment in which not exactly one key signs.
func testSigningKeyRace(t *testing.T, r store.Rendezvous) {
	ok(t, r.ChangeSigningKeys(ctx, 0, []store.SigningKey{tokenKey(0, store.KeySigning)}, store.KeyDue, start))
	const rounds, racers = 20, 4
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				keys, _, err := r.SigningKeys(ctx)
				signs := slices.DeleteFunc(keys, func(k store.SigningKey) bool { return k.State != store.KeySigning })
				if err != nil || len(signs) != 1 {
					t.Errorf("%d keys sign, %v", len(signs), err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for round := range rounds {
		keys, number, err := r.SigningKeys(ctx)
		ok(t, err)
		old := keys[0]
		old.State = store.KeyGone
		var wins [racers]bool
		var wg sync.WaitGroup
		for i := range racers {
			wg.Go(func() {
				next := tokenKey(1+round*racers+i, store.KeySigning)
				err := r.ChangeSigningKeys(ctx, number, []store.SigningKey{next, old}, store.KeyDue, start)
				wins[i] = err == nil
				if err != nil && !errors.Is(err, store.ErrOvertaken) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n := 0
		for _, won := range wins {
			if won {
				n++
			}
		}
		equal(t, "winners", n, 1)
	}
	close(done)
	readers.Wait()
	changes, err := r.KeyChanges(ctx, 0, 1000)
	ok(t, err)
	for i, c := range changes {
		equal(t, "number", c.Number, uint64(i+1))
	}
	equal(t, "changes", len(changes), rounds+1)
}

// testSigningKeyModel: random changes do what the rules say, and the changes
// told, one after the other, lead to what is there.
func testSigningKeyModel(t *testing.T, r store.Rendezvous) {
	states := map[string]store.KeyState{}
	var number uint64
	for range 300 {
		next := map[string]store.KeyState{}
		var keys []store.SigningKey
		legal := true
		for _, n := range rand.Perm(6)[:1+rand.IntN(2)] {
			k := tokenKey(n, store.KeyState(1+rand.IntN(4)))
			old, known := states[k.ID]
			legal = legal && (known && old.MayBecome(k.State) || !known && k.State <= store.KeySigning)
			next[k.ID] = k.State
			keys = append(keys, k)
		}
		signed, signs := 0, 0
		for n := range 6 {
			id := tokenKey(n, 0).ID
			state, changed := next[id]
			if !changed {
				state = states[id]
			}
			if state == store.KeySigning {
				signs++
			}
			if states[id] == store.KeySigning {
				signed++
			}
		}
		legal = legal && signs <= 1 && signs >= signed
		err := r.ChangeSigningKeys(ctx, number, keys, store.KeyDue, start)
		if (err == nil) != legal {
			t.Fatalf("%v to %v: %v", states, next, err)
		}
		if err == nil {
			number++
			for id, state := range next {
				states[id] = state
			}
		}
	}
	told := map[string]store.KeyState{}
	changes, err := r.KeyChanges(ctx, 0, 1000)
	ok(t, err)
	for _, c := range changes {
		for _, s := range c.Steps {
			told[s.ID] = s.State
		}
	}
	equal(t, "told", told, states)
}
