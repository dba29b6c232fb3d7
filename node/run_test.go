package node_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/rendezvous"
	"github.com/parley-chat/parley/store"
)

func TestRunEndsEverything(t *testing.T) {
	before := goleak.IgnoreCurrent()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "hello")
	net.Wait("bob has it", has(bob, alice, "hello"))
	events := make(chan struct{})
	go func() {
		defer close(events)
		for range alice.Events(context.Background(), 0) {
		}
	}()
	alice.Stop()
	bob.Stop()
	net.Home.Stop()
	<-events
	goleak.VerifyNone(t, before)
	if _, err := alice.Send(t.Context(), api.SendRequest{To: "bob", Text: "too late"}); err == nil {
		t.Error("a node that has ended sends")
	}
}

func TestOTK12_OneProcessPerDirectory(t *testing.T) {
	net := nodetest.New(t, 1)
	alice := net.People[0]
	if _, err := node.New(t.Context(), alice.Config); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second node on the same directory: %v", err)
	}
	alice.Stop()
	n, err := node.New(t.Context(), alice.Config)
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	alice.Start()
	net.Wait("it works again", alice.Up)
}

// The stock is small, so the first claim takes it below the mark at which the
// rendezvous tells its owner.
func TestOTK11_RefillByPush(t *testing.T) {
	net := nodetest.NewWith(t, 2, nodetest.Options{Home: func(c *rendezvous.Config) { c.Limits.PrekeyCap = protocol.PrekeyRefill }})
	alice, bob := net.People[0], net.People[1]
	keys := func() api.Prekeys {
		s, err := bob.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Prekeys
	}
	net.Wait("the stock is full", func() bool { return keys().Published == protocol.PrekeyRefill })
	first := *keys().LastUpload
	if _, err := alice.Add(t.Context(), api.AddRequest{Name: "bob"}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	net.Wait("bob uploads again", func() bool { k := keys(); return k.LastUpload.After(first) && k.Published == protocol.PrekeyRefill })
	t.Logf("refilled after %v", time.Since(begun).Round(time.Millisecond))
}

func TestJoinIsResumable(t *testing.T) {
	net := nodetest.New(t, 1)
	dir := filepath.Join(t.TempDir(), "new")
	secret := vault.FromPassphrase([]byte("correct horse"))
	params := node.JoinParams{Dir: dir, Secret: secret, Invite: net.Home.Invite(), Name: "alice", DeviceName: "laptop", Log: nodetest.Log(t, "new")}
	if _, err := node.Join(t.Context(), params); protocol.CodeOf(err) != protocol.NameTaken {
		t.Fatalf("a name that is taken: %v", err)
	}
	if _, err := node.New(t.Context(), node.Config{Dir: dir, Secret: secret}); !errors.Is(err, node.ErrNotJoined) {
		t.Errorf("running before joining: %v", err)
	}
	params.Name = "zoe"
	params.Secret = vault.FromPassphrase([]byte("wrong"))
	if _, err := node.Join(t.Context(), params); !errors.Is(err, vault.ErrWrongSecret) {
		t.Errorf("another passphrase: %v", err)
	}
	params.Secret = secret
	net.Home.Stop()
	if _, err := node.Join(t.Context(), params); !errors.Is(err, node.ErrOffline) {
		t.Errorf("rendezvous down: %v", err)
	}
	net.Home.Start()
	who, err := node.Join(t.Context(), params)
	if err != nil || who.Name != "zoe" {
		t.Fatalf("at last: %+v, %v", who, err)
	}
	if _, err := node.Join(t.Context(), params); !errors.Is(err, node.ErrJoined) {
		t.Errorf("joining again: %v", err)
	}
	n, err := node.New(t.Context(), node.Config{Dir: dir, Secret: secret, Listen: nodetest.Loopback, Log: params.Log})
	if err != nil {
		t.Fatal(err)
	}
	if got := n.Whoami(); got != who {
		t.Errorf("is %+v, joined as %+v", got, who)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestJoinRefusesBadInput(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	for name, p := range map[string]node.JoinParams{
		"name":       {Name: "No!"},
		"short name": {Name: "ab"},
		"invite":     {Name: "zoe"},
	} {
		p.Dir, p.Secret = dir, vault.FromPassphrase([]byte("x"))
		if _, err := node.Join(t.Context(), p); err == nil {
			t.Errorf("bad %s is taken", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "store")); err == nil {
		t.Error("bad input left something behind")
	}
}
