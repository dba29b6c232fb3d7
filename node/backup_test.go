package node_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/backup"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/store"
)

// recoveryWords confirms somebody's recovery words and returns them.
func recoveryWords(t *testing.T, p *nodetest.Person) string {
	t.Helper()
	w, err := p.RecoveryWords(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(w.Words, " ")
	if err := p.ConfirmRecovery(t.Context(), api.ConfirmRequest{Words: text}); err != nil {
		t.Fatal(err)
	}
	return text
}

func parseWords(t *testing.T, text string) key.RecoveryPrivate {
	t.Helper()
	rk, err := backup.ParseWords(text)
	if err != nil {
		t.Fatal(err)
	}
	return rk
}

// backupOf makes a backup with history and opens it.
func backupOf(t *testing.T, p *nodetest.Person, words string) (*backup.Backup, []byte) {
	t.Helper()
	var out bytes.Buffer
	if err := p.Backup(t.Context(), api.BackupRequest{Words: words, History: true}, &out); err != nil {
		t.Fatal(err)
	}
	return openBackup(t, bytes.NewReader(out.Bytes()), out.Len(), words), out.Bytes()
}

func openBackup(t *testing.T, r io.ReaderAt, size int, words string) *backup.Backup {
	t.Helper()
	b, err := backup.Open(r, int64(size), backup.FromWords(parseWords(t, words)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// machine is a computer that was to become a device, and got as far as making
// the keys of one: with a fixed RSA key, which saves seconds.
func machine(t *testing.T, net *nodetest.Net, name string) (*nodetest.Person, node.EnterParams) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	secret, err := vault.CreateKeyFile(dir + ".key")
	if err != nil {
		t.Fatal(err)
	}
	p := &nodetest.Person{Name: name, Config: node.Config{
		Dir: dir, Secret: secret, Listen: nodetest.Loopback, Version: "test", Log: nodetest.Log(t, name),
	}}
	net.Adopt(p)
	newcomer, err := engine.NewNewcomerWith(time.Now(), name, keytest.RSA(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(vault.Create(dir, secret), p.WithStore(func(tx store.Tx) error {
		return engine.SetPending(tx, &engine.Pending{Newcomer: newcomer})
	}))
	if err != nil {
		t.Fatal(err)
	}
	return p, node.EnterParams{Dir: dir, Secret: secret, DeviceName: name, Log: p.Config.Log}
}

// enter starts a machine as a device of an account.
func enter(t *testing.T, net *nodetest.Net, p *nodetest.Person, params node.EnterParams) {
	t.Helper()
	who, err := node.Enter(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	p.Name = who.Name
	p.Start()
	net.Wait(who.Name+"'s new device can be written to", p.Published)
}

// noticed tells whether somebody was told something with a cause.
func noticed(t *testing.T, p *nodetest.Person, cause string) func() bool {
	return func() bool {
		last, err := p.LastEvent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range p.Events(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Cause == cause {
				return true
			}
			if e.Seq >= last {
				break
			}
		}
		return false
	}
}

// friends are alice, who has confirmed her words, and bob, whom she verified,
// and what they wrote.
func friends(t *testing.T) (net *nodetest.Net, alice, bob *nodetest.Person, words string) {
	t.Helper()
	net = nodetest.New(t, 2)
	alice, bob = net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "one")
	net.Wait("bob has it", has(bob, alice, "one"))
	bob.Say(alice, "two")
	net.Wait("alice has it", has(alice, bob, "one", "two"))
	for _, pair := range [][2]*nodetest.Person{{alice, bob}, {bob, alice}} {
		if err := pair[0].SetVerified(t.Context(), pair[1].Name, true); err != nil {
			t.Fatal(err)
		}
	}
	return net, alice, bob, recoveryWords(t, alice)
}

func TestRestoredDeviceSendsAndReceives(t *testing.T) {
	net, alice, bob, words := friends(t)
	b, _ := backupOf(t, alice, words)
	second, params := machine(t, net, "second")
	params.Backup = b
	enter(t, net, second, params)

	if c := second.Contact("bob"); c.Relation != api.Accepted || !c.Verified {
		t.Errorf("bob, restored: %+v", c)
	}
	if got := texts(second.With(bob)); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the history, restored: %q", got)
	}
	second.Say(bob, "three")
	net.Wait("bob has what the new device wrote", has(bob, alice, "one", "two", "three"))
	net.Wait("the old device has it too", has(alice, bob, "one", "two", "three"))
	bob.Say(alice, "four")
	for _, p := range []*nodetest.Person{alice, second} {
		net.Wait("each device has the answer", has(p, bob, "one", "two", "three", "four"))
	}
	alice.Say(bob, "five")
	net.Wait("the old device still sends", has(bob, alice, "one", "two", "three", "four", "five"))
	net.Wait("bob is told of the new device", noticed(t, bob, engine.NoticeDeviceAdded))
	if c := bob.Contact("alice"); !c.Verified {
		t.Error("a new device took the verification away")
	}
	net.Wait("alice is told of the new device", noticed(t, alice, engine.NoticeDeviceAdded))
}

// TestBackupKeepsRemovedContacts: all conversations are all, also those with
// somebody who is no contact any more.
func TestBackupKeepsRemovedContacts(t *testing.T) {
	net, alice, bob, words := friends(t)
	if _, err := alice.Remove(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	b, _ := backupOf(t, alice, words)
	second, params := machine(t, net, "second")
	params.Backup = b
	enter(t, net, second, params)
	if c := second.Contact("bob"); c.Relation == api.Accepted {
		t.Errorf("bob, restored: %+v", c)
	}
	if got := texts(second.With(bob)); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the history, restored: %q", got)
	}
}

// breakable is a file that can begin to fail.
type breakable struct {
	io.ReaderAt
	broken bool
}

func (b *breakable) ReadAt(p []byte, off int64) (int, error) {
	if b.broken {
		return 0, errors.New("the stick was pulled out")
	}
	return b.ReaderAt.ReadAt(p, off)
}

// TestRestoreIsRepeated: without a network, and broken off after the account
// knows the new device, the same call goes on, as the same device.
func TestRestoreIsRepeated(t *testing.T) {
	net, alice, bob, words := friends(t)
	long := strings.Repeat("a long story ", 4000) // more than is kept in memory
	alice.Say(bob, long)
	alice.Say(bob, long+"!")
	_, file := backupOf(t, alice, words)
	stick := &breakable{ReaderAt: bytes.NewReader(file)}
	second, params := machine(t, net, "second")
	params.Backup = openBackup(t, stick, len(file), words)

	net.Home.Stop()
	if _, err := node.Enter(t.Context(), params); !errors.Is(err, node.ErrOffline) {
		t.Fatalf("without a rendezvous: %v", err)
	}
	if _, err := node.New(t.Context(), second.Config); !errors.Is(err, node.ErrNotJoined) {
		t.Fatalf("started, with nothing asked for yet: %v", err)
	}
	net.Home.Start()
	stick.broken = true
	if _, err := node.Enter(t.Context(), params); !errors.Is(err, backup.ErrDamaged) {
		t.Fatalf("without the stick: %v", err)
	}
	if _, err := node.New(t.Context(), second.Config); !errors.Is(err, node.ErrEntering) {
		t.Fatalf("started half-way: %v", err)
	}
	stick.broken = false
	enter(t, net, second, params)
	if got := texts(second.With(bob)); !slices.Equal(got, []string{"one", "two", long, long + "!"}) {
		t.Errorf("the history, restored: %d messages", len(got))
	}
	second.Stop()
	devices := 0
	err := second.WithStore(func(tx store.Tx) error {
		e, err := engine.Load(tx)
		if err != nil {
			return err
		}
		list, err := e.OwnDevices(tx, time.Now())
		devices = len(list)
		return err
	})
	if err != nil || devices != 2 {
		t.Errorf("%d devices, %v", devices, err)
	}
	if _, err := node.Enter(t.Context(), params); !errors.Is(err, node.ErrNotEmpty) {
		t.Errorf("over what is there: %v", err)
	}
}

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

// TestKLC04_BackupHoldsNoDeviceKey looks for every secret of the device in what
// is inside a backup.
func TestKLC04_BackupHoldsNoDeviceKey(t *testing.T) {
	_, alice, _, words := friends(t)
	_, file := backupOf(t, alice, words)
	id, err := age.NewScryptIdentity(words)
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(plain, []byte("one")) || !bytes.Contains(plain, []byte("bob")) {
		t.Fatal("what should be there is not found")
	}
	alice.Stop()
	secrets := map[string][]byte{}
	err = alice.WithStore(func(tx store.Tx) error {
		e, err := engine.Load(tx)
		if err != nil {
			return err
		}
		me := e.Identity()
		secrets["signing key"], secrets["identity key"], secrets["host key"] = me.DSK.Bytes(), me.DIK.Bytes(), me.Host.Bytes()
		// Of sessions, prekeys and RSA keys: the rows whole, in pieces.
		for _, table := range []byte("sSOR") {
			for pair, err := range tx.Scan([]byte{table}, store.PrefixEnd([]byte{table})) {
				if err != nil {
					return err
				}
				for at := 0; at+32 <= len(pair.Value); at += 32 {
					secrets[fmt.Sprintf("row of table %c, byte %d", table, at)] = pair.Value[at : at+32]
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets) < 20 {
		t.Fatalf("only %d secrets to look for", len(secrets))
	}
	for what, secret := range secrets {
		if bytes.Contains(plain, secret) {
			t.Errorf("%s is in the backup", what)
		}
	}
}

func TestBackupRefusals(t *testing.T) {
	net := nodetest.New(t, 2)
	alice := net.People[0]
	others := recoveryWords(t, net.People[1])
	for name, r := range map[string]api.BackupRequest{
		"nothing": {}, "both": {Words: others, Passphrase: "correct horse"}, "no words": {Words: "one two"}, "another's words": {Words: others},
	} {
		var out bytes.Buffer
		if err := alice.Backup(t.Context(), r, &out); codeOf(err) != api.ErrBadInput || out.Len() > 0 {
			t.Errorf("%s: %v, %d bytes", name, err, out.Len())
		}
	}
	if err := alice.ConfirmRecovery(t.Context(), api.ConfirmRequest{Words: others}); codeOf(err) != api.ErrBadInput {
		t.Errorf("another's words confirmed: %v", err)
	}
	if r, err := alice.Recovery(t.Context()); err != nil || r.Confirmed || r.LastBackup != nil {
		t.Errorf("%+v, %v", r, err)
	}
	words := recoveryWords(t, alice)
	if _, err := alice.RecoveryWords(t.Context()); codeOf(err) != api.ErrConflict {
		t.Errorf("words shown again: %v", err)
	}
	if err := alice.ConfirmRecovery(t.Context(), api.ConfirmRequest{Words: words}); err != nil {
		t.Errorf("confirmed again: %v", err)
	}
	backupOf(t, alice, words)
	if r, err := alice.Recovery(t.Context()); err != nil || !r.Confirmed || r.LastBackup == nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestReminderOfBackup: after a month without a backup and without words.
func TestReminderOfBackup(t *testing.T) {
	net := nodetest.New(t, 1)
	alice := net.People[0]
	if problem(t, alice, "no backup")() {
		t.Error("reminded on the first day")
	}
	alice.Stop()
	alice.Config.Now = func() time.Time { return time.Now().Add(31 * 24 * time.Hour) }
	alice.Start()
	if !problem(t, alice, "no backup")() {
		t.Error("not reminded after a month")
	}
	var out bytes.Buffer
	if err := alice.Backup(t.Context(), api.BackupRequest{Passphrase: "correct horse"}, &out); err != nil {
		t.Fatal(err)
	}
	if problem(t, alice, "no backup")() {
		t.Error("reminded after a backup")
	}
	alice.Stop()
	alice.Config.Now = func() time.Time { return time.Now().Add(62 * 24 * time.Hour) }
	alice.Start()
	if !problem(t, alice, "no backup")() {
		t.Error("not reminded of an old backup")
	}
	recoveryWords(t, alice)
	if problem(t, alice, "no backup")() {
		t.Error("reminded although the words are on paper")
	}
}
