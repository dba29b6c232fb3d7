package node_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/rendezvous"
	"github.com/parley-chat/parley/store"
)

// jumps is a clock that everybody in a test shares, and that can be put forward.
type jumps struct{ ahead atomic.Int64 }

func (j *jumps) now() time.Time        { return time.Now().Add(time.Duration(j.ahead.Load())) }
func (j *jumps) jump(by time.Duration) { j.ahead.Add(int64(by)) }

func (j *jumps) options() nodetest.Options {
	return nodetest.Options{
		Home: func(c *rendezvous.Config) { c.Now = j.now },
		Node: func(_ int, c *node.Config) { c.Now = j.now },
	}
}

func rotateKeys(t testing.TB, what string, people ...*talker) {
	t.Helper()
	for _, p := range people {
		if _, err := p.RotateKeys(t.Context(), api.RotateRequest{What: what}); err != nil {
			t.Fatalf("%s rotates %s: %v", p.Name, what, err)
		}
	}
}

func rotateWrap(t testing.TB, people ...*talker) {
	t.Helper()
	for _, p := range people {
		if err := p.RotateWrap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func wrapFile(t testing.TB, p *nodetest.Person) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.Config.Dir, "wrap"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// often is how many times something is done: few in a test run, as many as the
// environment says in a soak.
func often(t testing.TB, env string, few int) int {
	text := os.Getenv(env)
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// Two people write to each other over real connections, with vaults on disk,
// while every kind of key is replaced: each message arrives once, and nothing
// is ever undecryptable. PARLEY_LOAD says how many messages, at 1,000 a second.
func TestKLC03_RealNodesRotateUnderLoad(t *testing.T) {
	clock := &jumps{}
	net := nodetest.NewWith(t, 2, clock.options())
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	bob.Link("desk", false)
	wraps := [][]byte{wrapFile(t, alice), wrapFile(t, bob)}

	newRSA := func(times int) func() bool {
		return func() bool {
			return len(entries(t, alice, ledger.RSA, ledger.Replaced)) == times && len(entries(t, bob, ledger.RSA, ledger.Replaced)) == times
		}
	}
	k := newTalk(t, net, alice, bob, often(t, "PARLEY_LOAD", 2400)/2, 2*time.Millisecond)
	a, b := k.ends[0], k.ends[1]
	k.begin()
	rotations := []func(){
		func() { clock.jump(11 * time.Minute) }, // PQ steps are due
		func() {
			if _, err := bob.RevokeDevice(t.Context(), "desk", "lost"); err != nil { // replaces the account key
				t.Fatal(err)
			}
		},
		func() { rotateKeys(t, api.RotateSigned, a, b) },
		func() { rotateKeys(t, api.RotateRSA, a, b) },
		func() { rotateKeys(t, api.RotateSessions, a, b) },
		func() { rotateWrap(t, a, b) },
		func() { clock.jump(11 * time.Minute) },
		func() {
			net.Wait("the first new RSA keys are there", newRSA(1))
			rotateKeys(t, api.RotateAll, a, b)
			rotateWrap(t, a, b)
		},
		func() { clock.jump(11 * time.Minute) }, // what had to wait a while goes on
	}
	for i, rotate := range rotations {
		k.reached(float64(i+1) / float64(len(rotations)+2))
		rotate()
	}
	k.end()

	net.Wait("the second new RSA keys are there", newRSA(2))
	for i, p := range net.People[:2] {
		if n := len(entries(t, p, ledger.Signed, ledger.Replaced)); n < 2 {
			t.Errorf("%s replaced %d signed prekeys", p.Name, n)
		}
		if n := len(entries(t, p, ledger.Session, ledger.Created)); n < 3 {
			t.Errorf("%s had %d sessions", p.Name, n)
		}
		if bytes.Equal(wraps[i], wrapFile(t, p)) {
			t.Errorf("%s's wrap key is the same", p.Name)
		}
	}
	if n := len(entries(t, bob, ledger.Account, ledger.Replaced)); n != 1 {
		t.Errorf("bob replaced %d account keys", n)
	}
	// The newest sessions may have begun with the last messages: they go on until
	// they make their PQ step.
	for tries := 0; !bothMixed(t, alice, bob); tries++ {
		if tries == 5 {
			t.Fatal("no session makes a PQ step")
		}
		clock.jump(11 * time.Minute)
		alice.Start()
		bob.Start()
		k := newTalk(t, net, alice, bob, 200, 2*time.Millisecond)
		k.begin()
		k.end()
	}
}

// bothMixed stops both, and tells whether each has a session with a PQ step.
func bothMixed(t *testing.T, people ...*nodetest.Person) bool {
	t.Helper()
	mixed := true
	for _, p := range people {
		p.Stop()
		mixed = mixedSessions(t, p) > 0 && mixed
	}
	return mixed
}

// mixedSessions counts the sessions of somebody whose node does not run that
// have made a PQ step since they began.
func mixedSessions(t *testing.T, p *nodetest.Person) (n int) {
	t.Helper()
	const at = 312 // the time of the newest PQ mix (SPEC "Stored session")
	err := p.WithStore(func(tx store.Tx) error {
		for pair, err := range tx.Scan([]byte{'s'}, []byte{'s' + 1}) {
			if err != nil {
				return err
			}
			s, err := session.ParseState(pair.Value)
			if err != nil {
				return err
			}
			if int64(binary.BigEndian.Uint64(pair.Value[at:])) > s.Created().Unix() {
				n++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
