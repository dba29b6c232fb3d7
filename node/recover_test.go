package node_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/backup"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol/key"
)

// TestRecoverEndsTheOldDevices: with nothing but the words.
func TestRecoverEndsTheOldDevices(t *testing.T) {
	net, alice, bob, words := friends(t)
	b, _ := backupOf(t, alice, words)
	alice.Stop()
	rk := parseWords(t, words)
	invite := net.Home.Invite()
	second, params := machine(t, net, "second")
	params.Words, params.Name, params.Home = &rk, "alice", engine.Home{Peer: invite.Peer, Addrs: invite.Addrs}
	enter(t, net, second, params)

	alice.Start()
	if err := alice.Ended(); !errors.Is(err, engine.ErrRevoked) {
		t.Errorf("the old device ended with %v", err)
	}
	net.Wait("bob is told", noticed(t, bob, engine.NoticeRecovered))
	if _, err := bob.Send(t.Context(), api.SendRequest{To: "alice", Text: "too early"}); codeOf(err) == "" {
		t.Fatalf("sent before bob has looked: %v", err)
	}
	if err := bob.SetVerified(t.Context(), "alice", true); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Add(t.Context(), api.AddRequest{Name: "bob"}); err != nil {
		t.Fatal(err)
	}
	net.Wait("they are contacts again", func() bool { return second.Contact("bob").Relation == api.Accepted })
	bob.Say(second, "is that you?")
	net.Wait("alice has it, on her new device", has(second, bob, "is that you?"))
	second.Say(bob, "it is me")
	net.Wait("bob has the answer", has(bob, second, "one", "two", "is that you?", "it is me"))

	// The backup's account key is worth nothing now, except together with the words.
	third, params := machine(t, net, "third")
	params.Backup = b
	if _, err := node.Enter(t.Context(), params); !errors.Is(err, node.ErrKeyReplaced) {
		t.Fatalf("with a replaced account key: %v", err)
	}
	params.Words = &rk
	if _, err := node.Enter(t.Context(), params); !errors.Is(err, node.ErrKeyReplaced) {
		t.Fatalf("with words that have served: %v", err)
	}
	rk = parseWords(t, recoveryWords(t, second))
	enter(t, net, third, params)
	if got := texts(third.With(bob)); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the history, restored: %q", got)
	}
	if err := second.Ended(); !errors.Is(err, engine.ErrRevoked) {
		t.Errorf("the old device ended with %v", err)
	}
}

// TestRecoverAfterARestoreWasCutOff: the words end the stolen device also if a
// restore without them got as far as making this one a device, and may be
// repeated although they serve once.
func TestRecoverAfterARestoreWasCutOff(t *testing.T) {
	net, alice, bob, words := friends(t)
	for range 2 { // more than is kept in memory
		alice.Say(bob, strings.Repeat("a long story ", 4000))
	}
	_, file := backupOf(t, alice, words)
	stick := &breakable{ReaderAt: bytes.NewReader(file)}
	second, params := machine(t, net, "second")
	params.Backup = openBackup(t, stick, len(file), words)
	stick.broken = true
	rk := parseWords(t, words)
	for _, with := range []*key.RecoveryPrivate{nil, &rk} {
		params.Words = with
		if _, err := node.Enter(t.Context(), params); !errors.Is(err, backup.ErrDamaged) {
			t.Fatalf("without the stick: %v", err)
		}
	}
	stick.broken = false
	enter(t, net, second, params)
	if err := alice.Ended(); !errors.Is(err, engine.ErrRevoked) {
		t.Errorf("the old device ended with %v", err)
	}
	own, err := second.Devices(t.Context())
	if err != nil || len(own) != 1 {
		t.Errorf("devices %+v, %v", own, err)
	}
}

// TestStrangersWordsRecoverNothing: words of another account.
func TestStrangersWordsRecoverNothing(t *testing.T) {
	net := nodetest.New(t, 2)
	words := recoveryWords(t, net.People[1])
	rk := parseWords(t, words)
	invite := net.Home.Invite()
	for _, name := range []string{"alice", "nobody"} {
		_, params := machine(t, net, "thief")
		params.Words, params.Name, params.Home = &rk, name, engine.Home{Peer: invite.Peer, Addrs: invite.Addrs}
		if _, err := node.Enter(t.Context(), params); !errors.Is(err, node.ErrKeyReplaced) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
