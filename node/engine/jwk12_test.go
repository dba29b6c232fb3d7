package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/store"
)

// JWK-12: what holds for the keys that tokens are signed with holds for the chat
// keys in the directory too. Here is the engine's half.

// peerDevices are the devices that a node would write to.
func (n *node) peerDevices(of *node) (list []protocol.DeviceID) {
	for _, c := range n.contact(of).Devices {
		list = append(list, c.DeviceID())
	}
	slices.SortFunc(list, func(a, b protocol.DeviceID) int { return slices.Compare(a[:], b[:]) })
	return list
}

// JWK-03: once the change was looked up, what a revoked device sealed before is
// refused, by whatever way it comes, and the devices known are those of the
// chain: replaced, not merged.
func TestJWK12_RevokedDeviceIsRefusedAfterThePush(t *testing.T) {
	w, a, b := crowd(t, 2, 1)
	gone := a[1]
	gone.send(b[0], "begins a session")
	w.settle()
	gone.away, gone.offline = true, true
	gone.send(b[0], "on its way")
	sealed := gone.queue(b[0])[0].Envelope
	chain, err := w.chain("alice").RevokeDevice(w.now, a[0].aik(), gone.device(), account.Lost, w.now)
	w.check(err)
	w.publish("alice", chain)
	w.settle()
	if got := b[0].peerDevices(a[0]); !slices.Equal(got, []protocol.DeviceID{a[0].device()}) {
		t.Errorf("devices %v", got)
	}
	for via, from := range map[Path]protocol.DeviceID{Direct: gone.device(), Mailbox: {}} {
		if code := b[0].receive(sealed, from, via); code != protocol.NotContact {
			t.Errorf("by %v: %v", via, code)
		}
	}
	added := w.link(a[0])
	w.settle()
	want := []protocol.DeviceID{a[0].device(), added.device()}
	slices.SortFunc(want, func(a, b protocol.DeviceID) int { return slices.Compare(a[:], b[:]) })
	if got := b[0].peerDevices(a[0]); !slices.Equal(got, want) {
		t.Errorf("devices %v, want %v", got, want)
	}
}

// JWK-05: statements are numbered. An answer that is overtaken by a newer one
// brings no device back and is no alarm: it is asked for again. The same bytes in
// answer to a later question are.
func TestJWK12_OvertakenAnswerChangesNothing(t *testing.T) {
	w, a, b := crowd(t, 1, 2)
	w.settle()
	n := a[0]
	old := n.found("bob", true) // on its way
	chain, err := w.chain("bob").RevokeDevice(w.now, b[0].aik(), b[1].device(), account.Lost, w.now)
	w.check(err)
	w.publish("bob", chain)
	w.settle()
	before := n.state()
	err = n.update(func(tx store.Tx) (Hint, error) { return n.e.SetAccount(tx, w.now, w.now, old) })
	if !errors.Is(err, ErrLogMoved) || IsAlarm(err) {
		t.Errorf("an overtaken answer: %v", err)
	}
	old.Log.From = n.logSize() // as if it were the answer to a question of now
	err = n.update(func(tx store.Tx) (Hint, error) { return n.e.SetAccount(tx, w.now, w.now, old) })
	if !IsAlarm(err) {
		t.Errorf("an old answer: %v", err)
	}
	if !slices.Equal(before, n.state()) || slices.Contains(n.peerDevices(b[0]), b[1].device()) {
		t.Error("something changed")
	}
}

// JWK-09: while the directory is away the keys known last are used until they are
// too old; before that it is said, and after it nothing is sealed to them.
func TestJWK12_DirectoryAwayFailsClosed(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	w.home.deaf = true
	a.offline, b.offline = true, true
	stale := func() (stale bool) {
		a.view(func(tx store.Tx) error {
			list, err := a.e.Stale(tx, w.now)
			stale = slices.Contains(list, b.account())
			return err
		})
		return stale
	}
	if stale() {
		t.Error("stale at once")
	}
	w.now = w.now.Add(refreshAfter + time.Minute)
	if !stale() {
		t.Error("it is not said that the keys were not confirmed")
	}
	a.send(b, "with the keys known last")
	w.settle()
	if got := texts(b.history(a)); !slices.Equal(got, []string{"with the keys known last"}) {
		t.Errorf("received %q", got)
	}
	w.now = w.now.Add(staleAfter - refreshAfter - 2*time.Minute)
	a.send(b, "still")
	w.now = w.now.Add(2 * time.Minute)
	if err := a.trySend(b, protocol.NewMsgID(), "too old"); !errors.Is(err, ErrStaleDirectory) {
		t.Errorf("with keys of %v ago: %v", staleAfter, err)
	}
}
