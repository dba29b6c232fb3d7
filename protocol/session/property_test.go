package session

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
)

// letter is a message of the property tests on its way.
type letter struct {
	to     int
	env    []byte
	text   []byte
	pub    [32]byte // its chain
	opened bool
}

// world is two devices and what flies between them. Every state goes through
// its stored form, as on a device.
type world struct {
	t       *rapid.T
	now     time.Time
	states  [2]State
	letters []*letter
	sent    int
}

func stored(t tester, s State) State {
	t.Helper()
	b := s.Marshal()
	back, err := ParseState(b)
	check(t, err)
	if !bytes.Equal(back.Marshal(), b) {
		t.Fatal("stored state is not canonical")
	}
	return back
}

func (w *world) send(from int) {
	w.sent++
	text := fmt.Appendf(nil, "message %d", w.sent)
	before := w.states[from].Marshal()
	next, env := encrypt(w.t, w.now, w.states[from], text)
	if !bytes.Equal(w.states[from].Marshal(), before) {
		w.t.Fatal("Encrypt changed the old state")
	}
	w.states[from] = stored(w.t, next)
	w.letters = append(w.letters, &letter{to: 1 - from, env: env, text: text, pub: next.s().pub})
}

// deliver hands over a letter, perhaps again, and checks that it opens if and
// only if it should.
func (w *world) deliver(l *letter) {
	old := w.states[l.to]
	before := old.Marshal()
	newest := l.pub == w.states[1-l.to].s().pub
	_, remembered := old.s().findChain(l.pub)
	next, msg, err := old.Decrypt(w.now, message(w.t, l.env))
	if !bytes.Equal(old.Marshal(), before) {
		w.t.Fatal("Decrypt changed the old state")
	}
	switch {
	case !l.opened && (newest || remembered):
		if err != nil || !bytes.Equal(msg, l.text) {
			w.t.Fatalf("%s: opened %q, %v", l.text, msg, err)
		}
		l.opened = true
		w.states[l.to] = stored(w.t, next)
	case err == nil:
		w.t.Fatalf("%s: opened twice, or long after its chain was forgotten", l.text)
	case remembered && err != ErrReplay:
		w.t.Fatalf("%s: repeated, but %v", l.text, err)
	case !bytes.Equal(next.Marshal(), before):
		w.t.Fatal("state after an error differs")
	}
}

func newWorld(t *rapid.T, tb testing.TB) *world {
	w := &world{t: t, now: start}
	w.states[0], w.states[1] = openedPair(tb, rapid.Bool().Draw(t, "one-time"))
	return w
}

func (w *world) step() {
	act := rapid.IntRange(0, 9).Draw(w.t, "act")
	pending := slices.DeleteFunc(slices.Clone(w.letters), func(l *letter) bool { return l.opened })
	switch {
	case act < 4:
		w.send(act % 2)
	case act < 8 && len(pending) > 0:
		w.deliver(rapid.SampledFrom(pending).Draw(w.t, "letter"))
	case act == 8 && len(w.letters) > 0:
		w.deliver(rapid.SampledFrom(w.letters).Draw(w.t, "any letter"))
	case act == 9 && w.now.Sub(start) < skippedTTL-mixAtLatest: // before keys expire
		w.now = w.now.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Hour, 12 * time.Hour}).Draw(w.t, "pass"))
	}
}

// In any order, with losses and repetitions, every message that comes while
// its chain is remembered opens exactly once, and no other does.
func TestAnyOrder(t *testing.T) {
	mixes := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, t)
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			w.step()
		}
		for _, l := range w.letters {
			w.deliver(l) // what is left, and everything once more
		}
		for _, s := range w.states {
			if s.s().mixed != start.Unix() {
				mixes++
			}
		}
	})
	if mixes == 0 {
		t.Error("no run reached a PQ step")
	}
}

// Any flipped bit makes a message fail and leaves the state byte-identical.
func TestAnyFlippedBit(t *testing.T) {
	a, b := openedPair(t, true)
	later := start.Add(mixAtLatest)
	b, offer := encrypt(t, later, b, []byte("with an ML-KEM key"))
	b, plain := encrypt(t, later, b, []byte("second in its chain"))
	a2 := decrypt(t, later, a, offer, []byte("with an ML-KEM key"))
	_, answer := encrypt(t, later, a2, []byte("with an ML-KEM ciphertext"))
	for name, tt := range map[string]struct {
		receiver State
		env      []byte
	}{
		"new chain, key offered": {a, offer},
		"known chain":            {a2, plain},
		"ciphertext":             {b, answer},
	} {
		before := tt.receiver.Marshal()
		for i := range tt.env {
			bad := bytes.Clone(tt.env)
			bad[i] ^= 1 << (i % 8)
			next, msg, err := tt.receiver.Decrypt(later, bad)
			if err == nil || msg != nil {
				t.Fatalf("%s: byte %d does not matter", name, i)
			}
			if !bytes.Equal(next.Marshal(), before) || !bytes.Equal(tt.receiver.Marshal(), before) {
				t.Fatalf("%s: byte %d changed the state", name, i)
			}
		}
		if _, _, err := tt.receiver.Decrypt(later, tt.env); err != nil {
			t.Errorf("%s: undamaged: %v", name, err)
		}
	}
}

// No key meets the same nonce twice, not even when a device is set back to an
// earlier state and goes on from there.
func TestNoNonceReuseAfterRollback(t *testing.T) {
	rolledBack := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, t)
		history := [2][]State{{w.states[0]}, {w.states[1]}}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			if who := rapid.IntRange(0, 5).Draw(rt, "rollback"); who < 2 {
				w.states[who] = rapid.SampledFrom(history[who]).Draw(rt, "to")
			}
			who := rapid.IntRange(0, 1).Draw(rt, "who")
			w.send(who)
			l := w.letters[len(w.letters)-1]
			if next, _, err := w.states[l.to].Decrypt(w.now, message(rt, l.env)); err == nil && rapid.Bool().Draw(rt, "arrives") {
				w.states[l.to] = next
			}
			history[0], history[1] = append(history[0], w.states[0]), append(history[1], w.states[1])
		}
		seen, keys := map[[44]byte]bool{}, map[[32]byte]bool{}
		for _, l := range w.letters {
			messageKey, ok := findKey(rt, history[l.to], w.now, l.env)
			if !ok {
				continue // the devices had parted before it was made
			}
			used := [44]byte(append(messageKey[:], nonceOf(rt, l.env)...))
			if seen[used] {
				rt.Fatal("a key met a nonce twice")
			}
			seen[used], keys[messageKey] = true, true
		}
		if len(seen) > len(keys) {
			rolledBack++
		}
	})
	if rolledBack == 0 {
		t.Error("no run repeated a key: nothing was tested")
	}
}

// findKey returns the key that opens env, derived from any of the states.
func findKey(t tester, states []State, now time.Time, env []byte) ([32]byte, bool) {
	h, rawHeader, sealed, err := parseMessage(message(t, env))
	check(t, err)
	for _, s := range states {
		n := *s.s()
		messageKey, err := n.messageKey(now, h)
		if err != nil {
			continue
		}
		if _, err := kdfchain.AEAD(messageKey).Open(nil, nil, sealed, n.aad(rawHeader)); err == nil {
			return messageKey, true
		}
	}
	return [32]byte{}, false
}

func nonceOf(t tester, env []byte) []byte {
	_, _, sealed, err := parseMessage(message(t, env))
	check(t, err)
	return sealed[:kdfchain.NonceSize]
}

// The lengths of messages show only their padded lengths.
func TestLengthIsPadded(t *testing.T) {
	a, _ := pair(t)
	for _, n := range []int{0, 1, 190, 255, 256, 447, 64 << 10} {
		_, env := encrypt(t, start, a, make([]byte, n))
		if want := 88 + len(envelope.Pad(make([]byte, n))); len(env) != want {
			t.Errorf("%d bytes: envelope of %d, want %d", n, len(env), want)
		}
	}
}
