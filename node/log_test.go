package node_test

import (
	"strings"
	"testing"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
)

// A rendezvous that forgets what it signed, and signs something else in its
// place, is not believed by who saw the first, and they are told. Who did not see
// it notices nothing yet.
func TestForkedLogIsRefused(t *testing.T) {
	net := nodetest.New(t, 4)
	alice, bob, carol, dave := net.People[0], net.People[1], net.People[2], net.People[3]
	rename := func(p *nodetest.Person) {
		t.Helper()
		net.Wait(p.Name+" is up", p.Up)
		if _, err := p.RenameDevice(t.Context(), "test", "desk"); err != nil {
			t.Fatal(err)
		}
	}
	bob.Stop()
	net.Home.SetBack(func() {
		rename(carol)
		net.Wait("alice is up", alice.Up)
		if _, err := alice.Add(t.Context(), api.AddRequest{Name: "carol"}); err != nil {
			t.Fatal(err)
		}
		carol.Stop() // she would bring back what is lost
	})
	rename(dave)
	net.Wait("alice is up again", alice.Up)
	_, err := alice.Add(t.Context(), api.AddRequest{Name: "bob"})
	if got := codeOf(err); got != api.ErrRefused {
		t.Errorf("%q: %v", got, err)
	}
	if n := notices(t, alice, engine.NoticeLogChanged); n == 0 {
		t.Error("alice was not told")
	}
	status, err := alice.Status(t.Context())
	if err != nil || len(status.Problems) == 0 || !strings.Contains(status.Problems[0].Text, "signed two logs") {
		t.Errorf("alice's status: %+v, %v", status.Problems, err)
	}
	if r := alice.Contact("bob").Relation; r != "" {
		t.Errorf("bob is %q to alice", r)
	}
	if _, err := alice.AcceptLog(t.Context(), api.AcceptRequest{N: 2}); codeOf(err) != api.ErrConflict {
		t.Errorf("another alarm than the one that stands was accepted: %v", err)
	}
	if _, err := alice.AcceptLog(t.Context(), api.AcceptRequest{N: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Add(t.Context(), api.AddRequest{Name: "bob"}); err != nil {
		t.Errorf("after the log was accepted: %v", err)
	}
	net.Wait("the log is read anew", func() bool { s := logStatus(t, alice); return s.Whole && s.Mirrored > 0 })
	status, err = alice.Status(t.Context())
	if err != nil || len(status.Problems) != 0 {
		t.Errorf("alice's status after that: %+v, %v", status.Problems, err)
	}
	bob.Start()
	net.Wait("bob is up again", bob.Up)
	if _, err := bob.Add(t.Context(), api.AddRequest{Name: "dave"}); err != nil {
		t.Errorf("bob, who saw one log only: %v", err)
	}
	if n := notices(t, bob, engine.NoticeLogChanged); n != 0 {
		t.Errorf("bob was told %d times", n)
	}
}
