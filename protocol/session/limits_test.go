package session

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// burst makes n messages of which none is delivered yet.
func burst(t tester, s State, n int) (State, [][]byte) {
	var envs [][]byte
	for i := range n {
		var env []byte
		s, env = encrypt(t, start, s, fmt.Append(nil, i))
		envs = append(envs, env)
	}
	return s, envs
}

func TestSkipLimit(t *testing.T) {
	a, b := pair(t)
	_, envs := burst(t, a, protocol.MaxSkip+2)
	if _, _, err := b.Decrypt(start, envs[protocol.MaxSkip+1]); err != ErrSkip {
		t.Errorf("2001 missing: %v", err)
	}
	b = decrypt(t, start, b, envs[protocol.MaxSkip], fmt.Append(nil, protocol.MaxSkip))
	if len(b.s().skipped) != protocol.MaxSkip {
		t.Errorf("%d keys kept", len(b.s().skipped))
	}
	b = stored(t, b)
	for _, i := range []int{0, 1999, 1000} {
		b = decrypt(t, start, b, envs[i], fmt.Append(nil, i))
	}
}

// One message makes the receiver pass over at most 2000 others, in the chain
// before and in its own together: that bounds what a forgery costs.
func TestSkipLimitAcrossChains(t *testing.T) {
	a, b := pair(t)
	half := protocol.MaxSkip / 2
	a, _ = burst(t, a, half)
	b, a = send(t, start, b, a)
	_, envs := burst(t, a, half+2)
	if _, _, err := b.Decrypt(start, envs[half+1]); err != ErrSkip {
		t.Errorf("2001 missing: %v", err)
	}
	b = decrypt(t, start, b, envs[half], fmt.Append(nil, half))
	if len(b.s().skipped) != protocol.MaxSkip {
		t.Errorf("%d keys kept", len(b.s().skipped))
	}
}

// Over the limit the oldest keys go.
func TestSkippedAreBounded(t *testing.T) {
	a, b := pair(t)
	_, envs := burst(t, a, 2*protocol.MaxSkip)
	b = decrypt(t, start, b, envs[1500], []byte("1500"))
	b = decrypt(t, start, b, envs[3000], []byte("3000"))
	if len(b.s().skipped) != protocol.MaxSkip {
		t.Errorf("%d keys kept", len(b.s().skipped))
	}
	if _, _, err := b.Decrypt(start, envs[0]); err != ErrReplay {
		t.Errorf("the oldest: %v", err)
	}
	decrypt(t, start, b, envs[2999], []byte("2999"))
	decrypt(t, start, b, envs[1400], []byte("1400"))
}

// A message that waits while many turns pass it by still opens: its chain is
// remembered for as long as its key is.
func TestLateMessageOfAnOldChain(t *testing.T) {
	a, b := pair(t)
	var late [][]byte
	for range 4 * maxChains {
		var missing []byte
		a, missing = encrypt(t, start, a, []byte("late"))
		late = append(late, missing)
		a, b = send(t, start, a, b)
		b, a = send(t, start, b, a)
	}
	b = stored(t, b)
	for _, env := range late {
		b = decrypt(t, start, b, env, []byte("late"))
	}
	_, b = send(t, start, a, b)
	if n := len(stored(t, b).s().chains); n != maxChains {
		t.Errorf("%d chains remembered when nothing is missing", n)
	}
}

// Over the limit the oldest chain goes, with its keys.
func TestChainLimit(t *testing.T) {
	a, b := pair(t)
	var late [][]byte
	for range maxOldChains + 1 {
		var missing []byte
		a, missing = encrypt(t, start, a, []byte("late"))
		late = append(late, missing)
		a, b = send(t, start, a, b)
		b, a = send(t, start, b, a)
	}
	if n := len(b.s().chains); n != maxOldChains {
		t.Errorf("%d chains remembered", n)
	}
	if n := len(b.s().skipped); n != maxOldChains {
		t.Errorf("%d keys kept for %d chains", n, maxOldChains)
	}
	if _, _, err := stored(t, b).Decrypt(start, late[0]); err != ErrDecrypt {
		t.Errorf("of a forgotten chain: %v", err)
	}
	decrypt(t, start, b, late[1], []byte("late"))
}

// A PQ step is due after 50 messages and 10 minutes, or after 24 hours; only
// one offer is outstanding.
func TestPQSchedule(t *testing.T) {
	for _, tt := range []struct {
		messages int
		after    time.Duration
		want     bool
	}{
		{0, 0, false}, {0, mixAtLatest - time.Second, false}, {0, mixAtLatest, true},
		{mixMessages, mixAfter - time.Second, false}, {mixMessages - 4, mixAfter, false}, {mixMessages, mixAfter, true},
	} {
		a, b := pair(t) // three messages in each direction together
		a, envs := burst(t, a, tt.messages)
		for i, env := range envs {
			b = decrypt(t, start, b, env, fmt.Append(nil, i))
		}
		now := start.Add(tt.after)
		b, env := encrypt(t, now, b, []byte("answer"))
		if got := b.s().offer != nil; got != tt.want || (env[offFlags]&flagEK != 0) != tt.want {
			t.Errorf("%d messages, %v: offer %v", tt.messages, tt.after, got)
		}
		if !tt.want {
			continue
		}
		a = decrypt(t, now, a, env, []byte("answer"))
		b, again := encrypt(t, now, b, []byte("same chain"))
		if again[offFlags]&flagEK == 0 {
			t.Error("only the first message of the chain carries the key")
		}
		a, env = encrypt(t, now, a, []byte("with ciphertext"))
		if env[offFlags] != flagCT || a.s().mixed != now.Unix() {
			t.Errorf("answer has flags %d", env[offFlags])
		}
		b = decrypt(t, now, b, env, []byte("with ciphertext"))
		if b.s().offer != nil || b.s().mixed != now.Unix() || b.s().sinceMix != 1 {
			t.Error("the decapsulation key outlives its use")
		}
		decrypt(t, now, a, again, []byte("same chain"))
		_, env = encrypt(t, now, b, []byte("next"))
		if env[offFlags] != 0 {
			t.Errorf("blocks are not dropped: flags %d", env[offFlags])
		}
	}
}

// Both sides may offer in turn; each mix counts for both.
func TestPQBothDirections(t *testing.T) {
	a, b := pair(t)
	now := start
	var flags []byte
	for range 8 {
		now = now.Add(mixAtLatest)
		var env []byte
		b, env = encrypt(t, now, b, []byte("x"))
		flags = append(flags, env[offFlags])
		a = decrypt(t, now, a, env, []byte("x"))
		a, env = encrypt(t, now, a, []byte("y"))
		flags = append(flags, env[offFlags])
		b = decrypt(t, now, b, env, []byte("y"))
	}
	for i := 0; i < len(flags); i += 2 {
		if flags[i] != flagEK || flags[i+1] != flagCT {
			t.Fatalf("flags %v", flags)
		}
	}
}

// A peer that has seen an offer answers it with its next chain; a chain that
// does not would end PQ steps for good.
func TestPQOfferMustBeAnswered(t *testing.T) {
	now := start.Add(mixAtLatest)
	a, b := pair(t)
	b, env := encrypt(t, now, b, []byte("offer"))
	a = decrypt(t, now, a, env, []byte("offer"))
	deaf := *a.s()
	deaf.peerOffer = nil
	_, silent := encrypt(t, now, State{s: key.Hide(&deaf)}, []byte("no answer"))
	if _, _, err := b.Decrypt(now, silent); err != ErrDecrypt {
		t.Errorf("chain without the ciphertext: %v", err)
	}
	_, env = encrypt(t, now, a, []byte("answer"))
	decrypt(t, now, b, env, []byte("answer"))
}

// A clock that was wrong once does not end PQ steps.
func TestPQAfterClockWentBack(t *testing.T) {
	future := start.AddDate(50, 0, 0)
	a, b := pair(t)
	b, a = send(t, future, b, a)
	_, b = send(t, future, a, b) // the mix is noted in the future
	if b.s().mixed != future.Unix() {
		t.Fatal("no mix")
	}
	if b, _ = encrypt(t, start, b, []byte("the clock is right again")); b.s().offer == nil {
		t.Error("no offer until the wrong time comes")
	}
}

// The opening goes with every message until the peer answers, then with none.
func TestOpeningUntilConfirmed(t *testing.T) {
	a, b := openedPair(t, true)
	for range 3 {
		var env []byte
		a, env = encrypt(t, start, stored(t, a), []byte("more"))
		if _, opening, _ := PeekSession(env); !opening {
			t.Fatal("no opening")
		}
		b = decrypt(t, start, b, env, []byte("more"))
	}
	b, a = send(t, start, b, a)
	_, env := encrypt(t, start, a, []byte("confirmed"))
	if _, opening, _ := PeekSession(env); opening || len(a.s().opening) != 0 {
		t.Error("opening after an answer")
	}
	decrypt(t, start, b, env, []byte("confirmed"))
}

func TestPeekSession(t *testing.T) {
	a, _ := openedPair(t, true)
	_, env := encrypt(t, start, a, nil)
	id, opening, err := PeekSession(env)
	if id != a.ID() || !opening || err != nil {
		t.Errorf("opening: %v %v %v", id, opening, err)
	}
	id, opening, err = PeekSession(message(t, env))
	if id != a.ID() || opening || err != nil {
		t.Errorf("message: %v %v %v", id, opening, err)
	}
	for _, bad := range [][]byte{nil, env[:19], append([]byte{2}, env[1:]...), append([]byte{1, 3}, env[2:]...)} {
		if _, _, err := PeekSession(bad); err != ErrMalformed {
			t.Errorf("%x: %v", bad[:min(len(bad), 4)], err)
		}
	}
}

// A state prints as "redacted" everywhere, and inside other structs too.
func TestStateRedacted(t *testing.T) {
	a, _ := pair(t)
	type outer struct {
		state State
		p     *State
	}
	root := a.s().root
	part := strings.Trim(fmt.Sprint(root[:6]), "[]")
	for _, v := range []any{a, &a, outer{a, &a}, []State{a}, map[string]State{"s": a}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
			text := fmt.Sprintf(verb, v)
			if strings.Contains(text, part) || strings.Contains(text, fmt.Sprintf("%x", root[:6])) {
				t.Errorf("%s prints %.200s", verb, text)
			}
		}
	}
	if fmt.Sprint(a) != "redacted" {
		t.Errorf("prints %v", a)
	}
}

func TestErrors(t *testing.T) {
	for _, e := range []*Error{ErrMalformed, ErrReplay, ErrSkip, ErrDecrypt, ErrTooLarge, ErrNotReady} {
		wrapped := fmt.Errorf("receive: %w", e)
		got, ok := errors.AsType[*Error](wrapped)
		if !ok || got.Cause != e.Cause || e.Error() == "" || !errors.Is(wrapped, e) {
			t.Errorf("cause %d", e.Cause)
		}
	}
}

func TestInfo(t *testing.T) {
	a, b := openedPair(t, false)
	i := a.Info()
	if i.ID != a.ID() || i.Gen != uint64(start.Unix()) || i.Confirmed || !i.Initiator || i.Reset || !i.Created.Equal(start) {
		t.Errorf("%+v", i)
	}
	if i := b.Info(); !i.Confirmed || i.Initiator || a.Peer() == b.Peer() || !a.NoOneTime() {
		t.Errorf("%+v", i)
	}
	if !slices.Equal(a.Marshal(), stored(t, a).Marshal()) || bytes.Equal(a.Marshal(), b.Marshal()) {
		t.Error("states")
	}
}
