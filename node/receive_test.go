package node

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope/envelopetest"
	"github.com/parley-chat/parley/protocol/session"
)

// Of a burst that begins a session, each envelope of which carries the opening,
// the first is committed before another is opened; and so for each session.
func TestKLC14_ABurstIsOpenedOnce(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	alice, bob := envelopetest.New(t, now, "alice", 0), envelopetest.New(t, now, "bob", 1)
	burst := func(gen uint64) (envs [][]byte) {
		s, err := session.Initiate(now, alice.Identity, bob.Bundle(false), gen, false)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			var env []byte
			if s, env, err = s.Encrypt(now, []byte("x")); err != nil {
				t.Fatal(err)
			}
			envs = append(envs, env)
		}
		return envs
	}
	one, two := burst(1), burst(2)
	committed := map[protocol.SessionID]bool{}
	for _, step := range []struct {
		what string
		envs [][]byte
		want int
	}{
		{"two sessions begin", [][]byte{one[0], two[0], one[1], two[1]}, 2},
		{"both are known", [][]byte{one[1], two[1], one[2], two[2]}, 4},
	} {
		if got := opensTogether(step.envs, committed); got != step.want {
			t.Errorf("%s: %d are opened together, want %d", step.what, got, step.want)
		}
	}
	if got := opensTogether(burst(3), committed); got != 1 {
		t.Errorf("%d of a burst are opened before the first is committed", got)
	}
}
