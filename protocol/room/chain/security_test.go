package chain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/room/message"
)

// holdsKey tells whether any 32 bytes of what a thief has, used as a message key,
// a chain key or a seed, open one of the messages.
func holdsKey(t tester, stolen []byte, messages ...[]byte) bool {
	t.Helper()
	for i := range len(stolen) - 31 {
		candidate := [32]byte(stolen[i:])
		for _, b := range messages {
			m, err := message.Parse(b)
			check(t, err)
			if opensUnder(candidate, m, 8) || opensUnder(firstKey(candidate, m.Chain), m, 8) {
				return true
			}
		}
	}
	return false
}

// opensUnder tells whether k, or a chain key up to steps after it, opens m.
func opensUnder(k [32]byte, m message.Message, steps int) bool {
	raw, sealed := m.Sealed()
	mk := k
	for range steps {
		if _, err := kdfchain.AEAD(mk).Open(nil, nil, sealed, raw); err == nil {
			return true
		}
		mk, k = kdfchain.Step(k)
	}
	return false
}

// Who copies a store cannot open what was read before, or written, with any key
// in it.
func TestForwardSecrecy(t *testing.T) {
	s, d := startChain(t, start, Sender{}, view(1))
	r := accept(t, start, NewReceiver(room, alice), d)
	later, all := seals(t, s, view(1), 4)
	for name, stolen := range map[string][]byte{"sender": s.Marshal(), "receiver": r.Marshal(), "distribution": d.Marshal()} {
		if !holdsKey(t, stolen, all[3]) {
			t.Fatalf("the search for keys does not work: %s", name)
		}
	}
	if holdsKey(t, later.Marshal(), all...) {
		t.Error("a sender keeps the keys of what it wrote")
	}
	for _, i := range []int{2, 0} {
		r = opens(t, start, r, all[i], "text")
	}
	if holdsKey(t, r.Marshal(), all[0], all[2]) {
		t.Error("a receiver keeps the keys of what it read")
	}
	if !holdsKey(t, r.Marshal(), all[1]) || !holdsKey(t, r.Marshal(), all[3]) {
		t.Error("a receiver has lost the key of what is to come")
	}
	r = opens(t, start, r, all[1], "text")
	r = opens(t, start, r, all[3], "text")
	r = accept(t, start, r, d) // the distribution comes again
	if holdsKey(t, r.Marshal(), all...) {
		t.Error("a chain that comes again brings its keys back")
	}
	later, d2 := startChain(t, start, later, view(2))
	_, b := seal(t, start, later, view(2), "text")
	r = opens(t, start, accept(t, start, r, d2), b, "text")
	r = accept(t, start, r, d) // and again after it was forgotten
	if holdsKey(t, r.Marshal(), append(all, b)...) {
		t.Error("a chain that was forgotten brings its keys back")
	}
}

// What is given up, or too old, leaves no key.
func TestGivenUpKeysAreDestroyed(t *testing.T) {
	s, r := begin(t)
	_, all := seals(t, s, view(1), 3)
	r = opens(t, start, r, all[2], "text")
	givenUp := r.GiveUp(start, Gap{First: 1, Last: 1})
	if holdsKey(t, givenUp.Marshal(), all[0]) || !holdsKey(t, givenUp.Marshal(), all[1]) {
		t.Error("giving up one message destroys other keys than its own")
	}
	if swept, changed := r.Sweep(start.Add(gapTTL)); changed || !holdsKey(t, swept.Marshal(), all[0]) {
		t.Error("expired too early")
	}
	swept, changed := r.Sweep(start.Add(gapTTL + 1e9))
	if !changed || holdsKey(t, swept.Marshal(), all...) || len(swept.Gaps()) != 0 {
		t.Error("a key outlives its time")
	}
	refuses(t, start, swept, all[0], ErrReplay)
	opens(t, start.Add(gapTTL), r, all[0], "text")
	refuses(t, start.Add(gapTTL+1e9), r, all[0], ErrReplay)
}

// Who joins reads nothing older, who left nothing newer, with all they have.
func TestOnlyTheOwnEpochs(t *testing.T) {
	s, d1 := startChain(t, start, Sender{}, view(1))
	s, first := seals(t, s, view(1), 3)
	s, d2 := startChain(t, start, s, view(2))
	_, second := seals(t, s, view(2), 3)

	newcomer := accept(t, start, NewReceiver(room, alice), d2)
	has := append(newcomer.Marshal(), d2.Marshal()...)
	if holdsKey(t, has, first...) || !holdsKey(t, has, second...) {
		t.Error("a newcomer reads what was before")
	}
	gone := accept(t, start, NewReceiver(room, alice), d1)
	has = append(gone.Marshal(), d1.Marshal()...)
	if holdsKey(t, has, second...) || !holdsKey(t, has, first...) {
		t.Error("who left reads on")
	}
	for _, b := range first {
		refuses(t, start, newcomer, b, ErrNoChain)
	}
	for _, b := range second {
		refuses(t, start, gone, b, ErrNoChain)
	}
}

// No key meets the same nonce twice, not even when the sender is set back to an
// earlier state and goes on from there.
func TestNoNonceReuseAfterRollback(t *testing.T) {
	repeated := 0
	rapid.Check(t, func(t *rapid.T) {
		s, _ := startChain(t, start, Sender{}, view(1))
		history := []Sender{s}
		seen, keys := map[[44]byte]bool{}, map[[32]byte]bool{}
		for range rapid.IntRange(2, 20).Draw(t, "messages") {
			s = rapid.SampledFrom(history).Draw(t, "goes on from")
			mk := keyAfter(s, 0)
			next, b := seal(t, start, s, view(1), "text")
			m, err := message.Parse(b)
			check(t, err)
			_, sealed := m.Sealed()
			used := [44]byte(append(mk[:], sealed[:kdfchain.NonceSize]...))
			if seen[used] {
				t.Fatal("a key met a nonce twice")
			}
			if keys[mk] {
				repeated++
			}
			seen[used], keys[mk] = true, true
			history = append(history, next)
		}
	})
	if repeated == 0 {
		t.Error("no run repeated a key: nothing was tested")
	}
}

// Every chain has keys of its own, also two that begin with the same number.
func TestChainsShareNothing(t *testing.T) {
	ids, keys := map[[32]byte]bool{}, map[[32]byte]bool{}
	for range 50 {
		s, _ := startChain(t, start, Sender{}, view(1))
		ids[s.s().id], keys[s.s().key] = true, true
	}
	if len(ids) != 50 || len(keys) != 50 {
		t.Error("two chains are the same")
	}
}

// One seed makes another chain in another room, epoch, device and place.
func TestChainIsBoundToItsPlace(t *testing.T) {
	seed := [32]byte{1}
	ids := map[[32]byte]bool{}
	for _, id := range [][32]byte{
		idOf(seed, room, 1, alice, 1),
		idOf([32]byte{2}, room, 1, alice, 1),
		idOf(seed, [32]byte{2}, 1, alice, 1),
		idOf(seed, room, 2, alice, 1),
		idOf(seed, room, 1, bob, 1),
		idOf(seed, room, 1, alice, 2),
		idOf(seed, room, 2, alice, 2),
	} {
		if ids[id] || ids[firstKey(seed, id)] {
			t.Error("two places, one chain")
		}
		ids[id], ids[firstKey(seed, id)] = true, true
	}
}

// Secrets print as "redacted" everywhere, and inside other structs too.
func TestNoSecretPrinted(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 7)
	s, d := startChain(t, start, Sender{}, view(1))
	r := accept(t, start, NewReceiver(room, alice), d)
	secret := d.seed()
	chainKey := s.s().key
	for _, v := range []any{s, d, r, &s, &d, &r, struct {
		S Sender
		D Distribution
		R Receiver
	}{s, d, r}} {
		asJSON, err := json.Marshal(v)
		check(t, err)
		for _, out := range []string{fmt.Sprint(v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), fmt.Sprintf("%x", v), string(asJSON)} {
			for _, k := range [][]byte{secret[:], chainKey[:]} {
				for _, leak := range []string{fmt.Sprintf("%x", k[:8]), strings.Trim(fmt.Sprint(k[:8]), "[]"), string(k[:8])} {
					if strings.Contains(out, leak) {
						t.Errorf("printed: %s", out)
					}
				}
			}
		}
	}
	if fmt.Sprint(s) != "redacted" || fmt.Sprint(d) != "redacted" || fmt.Sprint(r) != "redacted" {
		t.Error("prints something")
	}
}

// The lengths of messages show only their padded lengths.
func TestLengthIsPadded(t *testing.T) {
	s, _ := begin(t)
	for n, padded := range map[int]int{0: 256, 1: 256, 255: 256, 256: 272, 1000: 1024} {
		if _, b := seal(t, start, s, view(1), strings.Repeat("x", n)); len(b) != message.Overhead+padded {
			t.Errorf("%d bytes: message of %d", n, len(b))
		}
	}
}

// What a Receiver was parsed from may be written over.
func TestNothingIsKeptOfTheInput(t *testing.T) {
	_, d := startChain(t, start, Sender{}, view(1))
	b := d.Marshal()
	parsed, err := ParseDistribution(alice, b)
	check(t, err)
	clear(b)
	if !bytes.Equal(parsed.Marshal(), d.Marshal()) {
		t.Error("a distribution is a view")
	}
}
