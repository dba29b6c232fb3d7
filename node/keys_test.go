package node_test

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/store"
)

func keysOf(t *testing.T, p *nodetest.Person) api.Keys {
	t.Helper()
	k, err := p.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// entries returns what a person's ledger says of a kind of key.
func entries(t *testing.T, p *nodetest.Person, kind ledger.Kind, what ledger.Act) (list []ledger.Entry) {
	t.Helper()
	var chain ledger.Chain
	for {
		page, err := p.Ledger(t.Context(), chain.N, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			if err := chain.Next(e); err != nil {
				t.Fatal(err)
			}
			if e.Kind == kind && e.What == what {
				list = append(list, e)
			}
		}
		if len(page.Entries) == 0 {
			return list
		}
	}
}

// The rendezvous is gone, and sessions are to be replaced: the devices give
// each other prekeys themselves.
func TestSessionsWithoutRendezvous(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "hello")
	net.Wait("bob has it", has(bob, alice, "hello"))
	bob.Say(alice, "hello too")
	net.Wait("they are connected", func() bool { return alice.Contact("bob").Path == api.Direct })
	net.Home.Stop()
	net.Wait("alice notices", func() bool { return !alice.Up() })
	before, opened := len(entries(t, bob, ledger.Session, ledger.Created)), len(entries(t, alice, ledger.Session, ledger.Created))
	time.Sleep(time.Second) // sessions are as old as their second
	if _, err := alice.RotateKeys(t.Context(), api.RotateRequest{What: api.RotateSessions}); err != nil {
		t.Fatal(err)
	}
	alice.Say(bob, "on the old session")
	net.Wait("a prekey was given", func() bool {
		given := entries(t, bob, ledger.OneTime, ledger.Claimed)
		return slices.ContainsFunc(given, func(e ledger.Entry) bool { return e.Reason != "handed out by the rendezvous" })
	})
	net.Wait("alice has opened a session with it", func() bool { return len(entries(t, alice, ledger.Session, ledger.Created)) > opened })
	alice.Say(bob, "on the new one")
	net.Wait("bob has all of it", has(bob, alice, "hello", "hello too", "on the old session", "on the new one"))
	net.Wait("on a new session", func() bool { return len(entries(t, bob, ledger.Session, ledger.Created)) > before })
}

// Keys rotate while two people write to each other.
func TestRotateKeys(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	before := keysOf(t, bob)
	if _, err := bob.RotateKeys(t.Context(), api.RotateRequest{What: "everything"}); codeOf(err) != api.ErrBadInput {
		t.Errorf("a rotation that there is not: %v", err)
	}
	if _, err := bob.RotateKeys(t.Context(), api.RotateRequest{What: api.RotateSigned}); err != nil {
		t.Fatal(err)
	}
	net.Wait("the new signed prekey is published", func() bool {
		k := keysOf(t, bob)
		return k.Signed != before.Signed && k.SignedLive
	})
	if _, err := bob.RotateKeys(t.Context(), api.RotateRequest{What: api.RotateAll}); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		alice.Say(bob, text)
		want = append(want, text)
	}
	net.Wait("bob has them", has(bob, alice, want...))
	net.Wait("the new RSA key is published", func() bool {
		k := keysOf(t, bob)
		return k.RSA != before.RSA && !k.RSAMaking && k.SignedLive
	})
	bob.Say(alice, "still here")
	net.Wait("alice has it", has(alice, bob, append(want, "still here")...))
}

func result(t *testing.T, p *nodetest.Person, name string) api.Check {
	t.Helper()
	d, err := p.Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range d.Checks {
		if c.Result == api.CheckNeedsYou && c.Fix == "" {
			t.Errorf("%s needs the user, and does not say what to do", c.Name)
		}
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check is called %q: %+v", name, d.Checks)
	return api.Check{}
}

// The store was set back behind the rendezvous's back, as far as one-time
// prekeys go: the published stock is replaced once, and that is said once.
func TestOTK14_AnotherStockIsReplacedOnce(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 1)
	alice := net.People[0]
	d, err := alice.Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range d.Checks {
		if c.Result != api.CheckOK {
			t.Errorf("a healthy node: %+v", c)
		}
	}
	alice.Stop()
	err = alice.WithStore(func(tx store.Tx) error { // it forgets what it published
		var keys [][]byte
		for pair, err := range tx.Scan([]byte{'q'}, []byte{'q' + 1}) {
			if err != nil {
				return err
			}
			keys = append(keys, pair.Key)
		}
		for _, k := range keys {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	alice.Start()
	notices := func() (n int) {
		last, err := alice.LastEvent(t.Context())
		if err != nil || last == 0 {
			return 0
		}
		for e, err := range alice.Events(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Cause == engine.NoticePrekeyReset {
				n++
			}
			if e.Seq >= last {
				return n
			}
		}
		return n
	}
	net.Wait("the stock is replaced", func() bool { return notices() == 1 && result(t, alice, "published keys").Result == api.CheckOK })
	for range 3 {
		if c := result(t, alice, "published keys"); c.Result != api.CheckOK {
			t.Errorf("afterwards: %+v", c)
		}
	}
	net.Home.Stop()
	net.Home.Start()
	net.Wait("alice is back", alice.Up)
	if c := result(t, alice, "published keys"); c.Result != api.CheckOK || notices() != 1 {
		t.Errorf("after a new connection: %+v, %d notices", c, notices())
	}
}

// The doctor says what it cannot do, and what to do about it; the status of the
// node shows it too.
func TestOTK16_UnhealthyIsVisible(t *testing.T) {
	ahead := time.Duration(0)
	net := nodetest.NewWith(t, 1, nodetest.Options{Node: func(_ int, c *node.Config) {
		c.Now = func() time.Time { return time.Now().Add(ahead) }
	}})
	alice := net.People[0]
	k := keysOf(t, alice)
	if k.Published == 0 || k.SignedSince == nil || k.LastUpload == nil || k.CertUntil.IsZero() || k.Ledger.N == 0 || !k.SignedLive {
		t.Errorf("a healthy node: %+v", k)
	}
	net.Home.Stop()
	net.Wait("alice notices", func() bool { return !alice.Up() })
	if c := result(t, alice, "published keys"); c.Result != api.CheckNeedsYou {
		t.Errorf("without a rendezvous: %+v", c)
	}
	alice.Stop()
	ahead = 20 * 24 * time.Hour
	alice.Start()
	if k := keysOf(t, alice); k.Held != engine.HeldOld {
		t.Errorf("with old keys: %+v", k)
	}
	if c := result(t, alice, "signed prekey"); c.Result != api.CheckNeedsYou {
		t.Errorf("with old keys: %+v", c)
	}
	net.Wait("the status says it", problem(t, alice, "Nothing is sent"))
}
