package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// certify gives an account another device that only the rendezvous knows of.
func (w *world) certify(of *node) *node {
	w.t.Helper()
	n := w.addDevice(of)
	w.check(of.setOwnChain(n.chain().Bytes()))
	w.home.names[of.name].chain = n.chain().Bytes()
	n.connect()
	return n
}

func (n *node) changed(of *node) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.Changed(tx, n.w.now, []protocol.AccountID{of.account()}) })
}

// What is written while the directory is asked who the devices of a contact are
// goes to those it names, also when they change again meanwhile; what has left
// does not go to devices that came later.
func TestIM05_WrittenWhileTheDirectoryIsAsked(t *testing.T) {
	w, a, b := pair(t)
	w.pass(time.Minute)
	a.send(b, "before")
	w.settle()
	a.offline, a.away = true, true
	b2 := w.certify(b)
	asked := w.now
	w.now = w.now.Add(time.Second)
	a.changed(b)
	first := a.found("bob", false)
	w.now = w.now.Add(time.Second)
	a.send(b, "while it is asked")
	b3 := w.certify(b)
	w.now = w.now.Add(time.Second)
	a.changed(b)
	a.do(func(tx store.Tx) (Hint, error) {
		return a.e.SetAccount(tx, w.now, asked.Add(1500*time.Millisecond), first)
	})
	a.send(b, "while it is asked again")
	a.offline, a.away = false, false
	w.pass(time.Minute)
	a.send(b, "after")
	w.pass(time.Minute)
	want := []string{"while it is asked", "while it is asked again", "after"}
	for i, n := range []*node{b2, b3} {
		if got := texts(n.history(a)); !slices.Equal(got, want) {
			t.Errorf("device %d has %q, want %q", i+2, got, want)
		}
	}
	for _, m := range a.history(b) {
		if m.State != StateDelivered {
			t.Errorf("%q is %s", m.Text, m.State)
		}
	}
	w.checkEmpty()
}

// A text written before the account was recovered is not for its new devices,
// even if it has not left and was written while the directory was asked.
func TestUnsentIsNotForARecoveredAccount(t *testing.T) {
	w, a, b := pair(t)
	w.pass(time.Minute)
	a.offline, a.away, b.offline, b.away = true, true, true, true
	chain, recovered := w.recovered(b)
	a.changed(b)
	w.now = w.now.Add(time.Second)
	id := a.send(b, "secret")
	w.now = w.now.Add(time.Second)
	w.home.names[b.name].chain = chain.Bytes()
	befriendDevice(w, recovered, a)
	a.offline, a.away = false, false
	w.pass(time.Minute)
	if got := texts(recovered.history(a)); len(got) != 0 {
		t.Errorf("the new device has %q", got)
	}
	if m := a.message(id); m.State != StateFailed {
		t.Errorf("it is %s", m.State)
	}
}

// Mail of a device that is new is not thrown away because the directory was
// asked a moment ago, when it is known to have changed since.
func TestMailOfANewDeviceWaitsForTheDirectory(t *testing.T) {
	w, a, b := pair(t)
	a.changed(b) // and the record is fresh
	w.settle()
	b2 := w.certify(b)
	b2.away = true
	b2.send(a, "hello")
	b2.step()
	b2.step()
	if len(w.home.devices[a.device()].mail) != 1 {
		t.Fatal("no mail")
	}
	a.changed(b)
	a.hint = Hint{} // it comes before the look-up is made
	a.fetch()
	if got := texts(a.history(b)); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("%q", got)
	}
	if a.undecryptable() != 0 {
		t.Error("something did not open")
	}
}
