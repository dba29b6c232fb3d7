package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

// renewed uploads what Renew makes, and puts it in force at the node.
func (n *node) renewed() (something bool) {
	n.w.t.Helper()
	next, err := n.change(func(tx store.Tx) ([]byte, error) { return n.e.Renew(tx, n.w.now) })
	n.w.check(err)
	if next == nil {
		return false
	}
	n.upload(next)
	n.w.check(n.setOwnChain(next))
	return true
}

// checkUseless ends the test if an account key that somebody stole adds devices.
func (n *node) checkUseless(stolen key.AccountPrivate) {
	n.w.t.Helper()
	if _, err := CertifyDevice(n.w.now, n.chain(), stolen, n.w.newcomer("thief").Request()); err == nil {
		n.w.t.Fatalf("the account key of a burned device adds devices")
	}
}

// The only device is burned, and the account restored from a backup without the
// words: the key that the burned device knew does not stay in force.
func TestKLC13_RestoreReplacesTheKeyOfTheBurnedDevice(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	m, err := a.membership()
	w.check(err)
	left, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Leave(tx, w.now, account.Compromised) })
	w.check(err)
	a.upload(left)
	newcomer, stolen := w.newcomer("restored"), m.AIK
	c, err := CertifyDevice(w.now, w.chain("alice"), stolen, newcomer.Request())
	w.check(err)
	m.Chain = c.Bytes()
	restored := &node{w: w, name: "alice", kv: memory.New()}
	w.check(restored.kv.Update(context.Background(), func(tx store.Tx) error { return InitMember(tx, w.now, newcomer, m) }))
	w.home.devices[newcomer.Request().Device(c.Account())] = newShelf()
	restored.load()
	w.nodes = []*node{restored}
	w.publish("alice", c)
	if !restored.renewed() || restored.renewed() {
		t.Error("the account key is not replaced once")
	}
	restored.checkUseless(stolen)
}

// A device is added between a burn and the renewal of its sponsor, which then
// never comes.
func TestKLC13_ANewDeviceReplacesTheKeyOfTheBurnedDevice(t *testing.T) {
	w, a, a2, _ := threeDevices(t)
	stolen := a2.aik()
	left, err := a2.change(func(tx store.Tx) ([]byte, error) { return a2.e.Leave(tx, w.now, account.Compromised) })
	w.check(err)
	a.upload(left)
	w.check(a.setOwnChain(left))
	a4 := w.addDevice(a)
	a.upload(a4.chain().Bytes())
	if !a4.renewed() || a4.renewed() {
		t.Error("the account key is not replaced once")
	}
	a4.checkUseless(stolen)
}

// Who revokes another device, or recovers the account, leaves no key to replace.
func TestRevocationsByOthersExposeNothing(t *testing.T) {
	w, a, a2, _ := threeDevices(t)
	chain, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Revoke(tx, w.now, a2.device(), account.Lost) })
	w.check(err)
	w.check(a.setOwnChain(chain))
	got, err := RecoverAccount(w.now, a.chain(), a.recovery(), w.newcomer("recovered").Request())
	w.check(err)
	if a.chain().Exposed() || a.renewed() || got.Chain.Exposed() || got.Chain.Signer() != got.AIK.Public() {
		t.Error("the new account key is exposed")
	}
}

// A device revokes another, mails the new account key and leaves. One that was
// away takes the key, whether it looks at the chain or at its mail first, and
// replaces it; it takes nothing else of the device that left.
func TestTheKeyOfADeviceThatLeftStillComes(t *testing.T) {
	for i := range 4 {
		lookFirst, sessionFirst := i&1 != 0, i&2 != 0
		w, a, b := pair(t)
		a2, a3 := w.link(a), w.link(a)
		w.pass(time.Minute)
		if !sessionFirst {
			a.loseSessions(a2)
			a2.loseSessions(a)
		}
		if has := a2.sessionsWith(a) > 0; has != sessionFirst {
			t.Fatalf("a session: %v", has)
		}
		a.offline, a.away = true, true
		a2.send(b, "on its way")
		w.nodes = []*node{a, a2}
		chain, err := a2.change(func(tx store.Tx) ([]byte, error) { return a2.e.Revoke(tx, w.now, a3.device(), account.Lost) })
		w.check(err)
		a2.upload(chain)
		w.check(a2.setOwnChain(chain))
		w.pass(time.Minute)
		stolen := a2.aik()
		left, err := a2.change(func(tx store.Tx) ([]byte, error) { return a2.e.Leave(tx, w.now, account.Compromised) })
		w.check(err)
		a2.upload(left)
		w.nodes = []*node{a}
		if len(a.shelf().mail) < 2 {
			t.Fatal("no mail")
		}
		if lookFirst {
			w.check(a.setOwnChain(left))
		}
		a.offline, a.away = false, false
		a.hint = Hint{}
		a.fetch()
		w.check(a.setOwnChain(left))
		if !a.hint.Chain || !a.renewed() {
			t.Fatalf("look first %v, session first %v: the key is not replaced", lookFirst, sessionFirst)
		}
		a.checkUseless(stolen)
		if n := a.sessionsWith(a2); n != 0 {
			t.Errorf("look first %v: %d sessions with the device that left", lookFirst, n)
		}
		if got := texts(a.history(b)); slices.Contains(got, "on its way") == lookFirst {
			t.Errorf("look first %v: %q", lookFirst, got)
		}
	}
}

// The sessions that are kept for the key of a device that left are not kept for
// long.
func TestSessionsOfADeviceThatLeftEnd(t *testing.T) {
	w, a, b := pair(t)
	a2, a3 := w.link(a), w.link(a)
	w.pass(time.Minute)
	chain, err := a2.change(func(tx store.Tx) ([]byte, error) { return a2.e.Revoke(tx, w.now, a3.device(), account.Lost) })
	w.check(err)
	w.check(a2.setOwnChain(chain))
	left, err := a2.change(func(tx store.Tx) ([]byte, error) { return a2.e.Leave(tx, w.now, account.Compromised) })
	w.check(err)
	w.nodes = []*node{a, b}
	a.upload(left)
	w.check(a.setOwnChain(left))
	if a.sessionsWith(a2) == 0 {
		t.Fatal("nothing is kept for the key")
	}
	w.pass(2*accountKeyLate + time.Hour)
	if n := a.sessionsWith(a2); n != 0 || a.notices(NoticeNoAccountKey) == 0 {
		t.Errorf("%d sessions are kept", n)
	}
}

// sessionsWith counts the sessions with a device.
func (n *node) sessionsWith(other *node) (count int) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		d, _, err := load[deviceRow](tx, keyDevice(other.device()))
		count = len(d.sessions)
		return err
	})
	return count
}

// More texts wait than one transaction carries when one answer revokes the only
// device and adds another: the new one shows them in their order.
func TestIM05_ManyTextsForAReplacedDeviceKeepTheirOrder(t *testing.T) {
	w, a, b := pair(t)
	w.pass(time.Minute)
	a.offline, a.away = true, true
	var want []string
	for i := range 2*batchRows + 44 {
		w.now = w.now.Add(time.Second)
		text := fmt.Sprint(i)
		a.send(b, text)
		want = append(want, text)
	}
	b2 := w.certify(b)
	chain, err := b2.change(func(tx store.Tx) ([]byte, error) { return b2.e.Revoke(tx, w.now, b.device(), account.Lost) })
	w.check(err)
	w.check(b2.setOwnChain(chain))
	w.home.names[b.name].chain = chain
	w.nodes = []*node{a, b2}
	befriendDevice(w, b2, a)
	w.now = w.now.Add(time.Second)
	a.changed(b)
	a.offline, a.away = false, false
	w.pass(5 * time.Minute)
	if got := texts(b2.history(a)); !slices.Equal(got, want) {
		t.Errorf("out of order: %q", got)
	}
}
