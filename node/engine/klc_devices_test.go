package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

// heads are what the rendezvous tells a node, of all accounts.
func (w *world) heads() (heads []Head) {
	for name, e := range w.home.names {
		heads = append(heads, Head{e.account, headOf(w.chain(name))})
	}
	return heads
}

// connect is what a node does when it reaches the rendezvous again.
func (n *node) connect() {
	n.do(func(tx store.Tx) (Hint, error) { return n.e.Behind(tx, n.w.now, n.w.heads()) })
}

func (n *node) sentTo(d protocol.DeviceID) (count int) {
	for _, r := range n.rows(tableOut) {
		if keyDeviceOf(r.Key) == d {
			count++
		}
	}
	return count
}

// Who is told of a revocation seals nothing more to the device, and sends it
// nothing of what was sealed before. Who was away learns of it before it sends.
func TestKLC09_NothingIsSealedToARevokedDevice(t *testing.T) {
	w, a, b := crowd(t, 2, 2)
	carol := w.add("carol")
	w.befriend(carol, b[0])
	lost := b[1]
	lost.away, lost.offline = true, true
	carol.away, carol.offline = true, true
	carol.send(b[0], "written while away")
	waiting := carol.queue(lost)
	if len(waiting) == 0 {
		t.Fatal("the test does not test: nothing is queued for the device")
	}
	a[0].send(b[0], "before")
	w.settle()
	mail := len(w.home.devices[lost.device()].mail)

	chain, err := w.chain("bob").RevokeDevice(w.now, b[0].aik(), lost.device(), account.Compromised, w.now)
	w.check(err)
	w.home.names["bob"].chain = chain.Bytes()
	for _, n := range []*node{a[0], a[1], b[0]} { // who is online is told
		n.do(func(tx store.Tx) (Hint, error) { return n.e.Changed(tx, w.now, []protocol.AccountID{b[0].account()}) })
		if got := n.queue(b[0]); len(got) != 0 && n != b[0] {
			t.Error("something may be sent before the look-up")
		}
	}
	a[0].send(b[0], "after the hint")
	w.settle()
	a[0].send(b[0], "after the look-up")
	a[1].send(b[0], "from the other device")
	b[0].send(a[0], "from bob")
	w.pass(time.Minute)
	if got := len(w.home.devices[lost.device()].mail); got != mail {
		t.Errorf("%d envelopes went to the revoked device", got-mail)
	}
	for _, n := range []*node{a[0], a[1], b[0]} {
		if n.sentTo(lost.device()) != 0 {
			t.Error("something is sealed to the revoked device")
		}
	}

	sent := len(carol.sent)
	carol.offline = false
	carol.connect()
	w.settle()
	carol.send(b[0], "after it came back")
	carol.away = false
	w.pass(time.Minute)
	for _, env := range carol.sent[sent:] {
		if slices.ContainsFunc(waiting, func(q Queued) bool { return string(q.Envelope) == string(env) }) {
			t.Error("what was queued for the revoked device was sent")
		}
	}
	if got := texts(b[0].history(carol)); !slices.Equal(got, []string{"written while away", "after it came back"}) {
		t.Errorf("bob has %q", got)
	}
	if len(w.home.devices[lost.device()].mail) != mail || len(lost.history(carol)) != 0 {
		t.Error("carol's messages went to the revoked device")
	}
}

// The device that is revoked stops.
func TestKLC09_RevokedDeviceStops(t *testing.T) {
	w, a, b := crowd(t, 2, 1)
	gone := a[1]
	gone.away = true
	gone.send(b[0], "never leaves")
	chain, err := w.chain("alice").RevokeDevice(w.now, a[0].aik(), gone.device(), account.Lost, w.now)
	w.check(err)
	hint := Hint{}
	gone.do(func(tx store.Tx) (h Hint, err error) {
		hint, err = gone.e.SetAccount(tx, w.now, w.now, w.home.prove(gone, &wire.Found{Name: "alice", Chain: chain.Bytes()}))
		return hint, err
	})
	if !hint.Revoked || gone.notices(NoticeRevoked) != 1 {
		t.Errorf("hint %v, %d notices", hint.Revoked, gone.notices(NoticeRevoked))
	}
	if len(gone.queue(b[0])) != 0 {
		t.Error("it would still send")
	}
	if err := gone.trySend(b[0], protocol.NewMsgID(), "x"); !errors.Is(err, ErrRevoked) {
		t.Errorf("it still writes: %v", err)
	}
	gone.view(func(tx store.Tx) error {
		list, err := gone.e.QueuedDevices(tx)
		if len(list) != 0 {
			t.Error("it has devices to send to")
		}
		return err
	})
}

// What a device sent before it was revoked, and comes after, is dropped: nobody
// is told of a message that cannot be opened, and no session is repaired.
func TestKLC09_MailOfARevokedDevice(t *testing.T) {
	w, a, b := crowd(t, 2, 1)
	gone := a[1]
	gone.send(b[0], "begins a session")
	w.settle()
	gone.away, gone.offline = true, true
	gone.send(b[0], "on its way")
	queue := gone.queue(b[0])
	if len(queue) == 0 {
		t.Fatal("the test does not test: nothing is on its way")
	}
	chain, err := w.chain("alice").RevokeDevice(w.now, a[0].aik(), gone.device(), account.Lost, w.now)
	w.check(err)
	w.publish("alice", chain)
	w.settle()
	for via, from := range map[Path]protocol.DeviceID{Direct: gone.device(), Mailbox: {}} {
		if code := b[0].receive(queue[0].Envelope, from, via); code != protocol.NotContact {
			t.Errorf("by %v: %v", via, code)
		}
	}
	w.pass(time.Minute)
	if bad := b[0].events(KindUndecryptable); len(bad) != 0 {
		t.Errorf("%d events, first %+v", len(bad), bad[0])
	}
	if b[0].sentTo(gone.device()) != 0 || b[0].session(gone) != (protocol.SessionID{}) {
		t.Error("a session is opened with the revoked device")
	}
}

// A message that no device has, when all it was meant for are revoked, goes to
// the devices there are now, in order.
func TestKLC09_QueuedGoesToTheNewDevices(t *testing.T) {
	w, a, b := crowd(t, 1, 2)
	for _, n := range b {
		n.away, n.offline = true, true
	}
	first := a[0].send(b[0], "one")
	w.settle() // in the mailboxes
	a[0].offline = true
	a[0].send(b[0], "two")
	b3 := w.link(b[0])
	chain, err := w.chain("bob").RevokeDevice(w.now, b[0].aik(), b[0].device(), account.Lost, w.now)
	w.check(err)
	chain, err = chain.RevokeDevice(w.now, b[0].aik(), b[1].device(), account.Lost, w.now)
	w.check(err)
	w.publish("bob", chain)
	a[0].offline = false
	a[0].connect()
	w.settle()
	a[0].send(b[0], "three")
	w.pass(10 * time.Minute)
	if got := texts(b3.history(a[0])); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("the new device has %q", got)
	}
	if s := a[0].message(first).State; s != StateDelivered {
		t.Errorf("state %s", s)
	}
	for _, table := range []byte{tableOut, tableKept, tableWaiting} {
		if n := len(a[0].rows(table)); n != 0 {
			t.Errorf("%d rows left in table %c", n, table)
		}
	}
}

// recovered is an account that was recovered with its words: a new key, all
// devices revoked, and a new one.
func (w *world) recovered(of *node) (*account.Chain, *node) {
	w.t.Helper()
	m, err := of.membership()
	w.check(err)
	newcomer := w.newcomer("recovered")
	got, err := RecoverAccount(w.now, w.chain(of.name), *m.RK, newcomer.Request())
	w.check(err)
	chain := got.Chain
	m.Chain, m.AIK, m.RK, m.Contacts = chain.Bytes(), got.AIK, &got.RK, nil
	n := &node{w: w, name: of.name, kv: memory.New()}
	w.check(n.kv.Update(context.Background(), func(tx store.Tx) error { return InitMember(tx, w.now, newcomer, m) }))
	w.home.devices[newcomer.Request().Device(chain.Account())] = newShelf()
	n.load()
	w.nodes = append(w.nodes, n)
	n.syncPrekeys()
	return chain, n
}

// After a recovery of a verified contact nothing is sent, neither what waits nor
// anything new, until the user has looked.
func TestKLC10_RecoveryIsNoticed(t *testing.T) {
	for _, verified := range []bool{false, true} {
		w, a, b := pair(t)
		a2 := w.link(a)
		a.do(func(tx store.Tx) (Hint, error) { return a.e.SetVerified(tx, w.now, b.account(), verified) })
		w.pass(time.Minute)
		b.away, b.offline = true, true
		lost := a.send(b, "to the old device")
		w.settle()
		chain, b2 := w.recovered(b)
		befriendDevice(w, b2, a)
		w.now = w.now.Add(time.Minute)
		w.publish("bob", chain)
		w.settle()
		for _, n := range []*node{a, a2} {
			if got := n.notices(NoticeRecovered); got != 1 {
				t.Errorf("verified %v: %d notices", verified, got)
			}
		}
		if m := a.message(lost); m.State != StateFailed || m.Problem == "" {
			t.Errorf("verified %v: a message to the old device is %s", verified, m.State)
		}
		err := a.trySend(b, protocol.NewMsgID(), "new")
		if verified != errors.Is(err, ErrRecovered) {
			t.Errorf("verified %v: %v", verified, err)
		}
		if verified {
			a.do(func(tx store.Tx) (Hint, error) { return a.e.AcceptRecovery(tx, w.now, b.account()) })
			w.pass(time.Minute)
			if c := a2.contact(b); c.Verified {
				t.Error("the other device still calls them verified")
			}
			w.check(a2.trySend(b, protocol.NewMsgID(), "new"))
		}
		w.pass(time.Minute)
		if got := texts(b2.history(a)); !slices.Equal(got, []string{"new"}) {
			t.Errorf("verified %v: the recovered account has %q", verified, got)
		}
	}
}

// A new device is announced to all own devices and contacts; one that the chain
// does not certify gets nothing from anybody.
func TestKLC10_NewDeviceIsAnnounced(t *testing.T) {
	w, a, b := crowd(t, 2, 1)
	before := []int{a[0].notices(NoticeDeviceAdded), a[1].notices(NoticeDeviceAdded), b[0].notices(NoticeDeviceAdded)}
	unsigned := w.addDevice(a[0]) // the rendezvous does not have the chain that certifies it
	a[0].send(b[0], "one")
	b[0].send(a[0], "two")
	w.pass(time.Minute)
	for _, n := range []*node{a[0], a[1], b[0]} {
		for _, table := range []byte{tableOut, tableWaiting, tableKept, tableDevice} {
			for _, r := range n.rows(table) {
				if keyDeviceOf(r.Key) == unsigned.device() {
					t.Errorf("%s has something for the unsigned device", n.name)
				}
			}
		}
	}
	if len(w.home.devices[unsigned.device()].mail) != 0 {
		t.Error("it got mail")
	}
	for _, to := range []*node{a[0], b[0]} { // and nothing is taken from it
		if code := to.receive(opening(w, unsigned, to), unsigned.device(), Direct); code == protocol.OK {
			t.Error("its opening was taken")
		}
	}
	w.publish("alice", unsigned.chain())
	w.settle()
	for i, n := range []*node{a[0], a[1], b[0]} {
		if got := n.notices(NoticeDeviceAdded) - before[i]; got != 1 {
			t.Errorf("%s: %d notices of the new device", n.name, got)
		}
	}
	w.pass(time.Minute) // now it is a device like any other, and the siblings tell it of bob
	if c := unsigned.contact(b[0]); c.Relation != Accepted {
		t.Errorf("the new device knows bob as %q", c.Relation)
	}
	b[0].send(a[0], "three")
	w.pass(time.Minute)
	if got := texts(unsigned.history(b[0])); !slices.Equal(got, []string{"three"}) {
		t.Errorf("the new device has %q", got)
	}
}

// A hint that comes while a look-up is under way is not settled by its answer.
func TestKLC09_HintDuringALookUp(t *testing.T) {
	w, a, b := pair(t)
	old := a.found("bob", false)
	asked := w.now
	w.now = w.now.Add(50 * time.Millisecond)
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Changed(tx, w.now, []protocol.AccountID{b.account()}) })
	a.hint.Refresh = nil
	w.now = w.now.Add(50 * time.Millisecond)
	a.do(func(tx store.Tx) (Hint, error) { return a.e.SetAccount(tx, w.now, asked, old) })
	if !slices.Contains(a.hint.Refresh, b.account()) {
		t.Error("the change was forgotten")
	}
	a.send(b, "waits")
	if len(a.queue(b)) != 0 {
		t.Error("it would be sent to keys that are out of date")
	}
	_, steps := trace(t, a, a.history(b)[0].ID)
	if last := steps[len(steps)-1]; last.What != "waiting" || last.Detail == "" {
		t.Errorf("the trace does not say why: %+v", last)
	}
	w.settle()
	if got := len(b.history(a)); got != 1 {
		t.Errorf("%d messages after the look-up", got)
	}
}

// Both sides see by the digest whether they know the same heads.
func TestKLC09_Heads(t *testing.T) {
	w, a, b := pair(t)
	digest := func() (heads []Head, d [32]byte) {
		a.view(func(tx store.Tx) (err error) {
			heads, d, err = a.e.Heads(tx)
			return err
		})
		return heads, d
	}
	heads, before := digest()
	if len(heads) != 2 || !slices.IsSortedFunc(heads, func(x, y Head) int { return slices.Compare(x.Account[:], y.Account[:]) }) {
		t.Fatalf("heads %v", heads)
	}
	for _, h := range heads {
		name := map[protocol.AccountID]string{a.account(): "alice", b.account(): "bob"}[h.Account]
		if h.Head != headOf(w.chain(name)) {
			t.Errorf("head of %s differs", name)
		}
	}
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Behind(tx, w.now, w.heads()) })
	if len(a.hint.Refresh) != 0 {
		t.Error("a look-up although nothing differs")
	}
	w.link(b)
	w.settle()
	if _, after := digest(); after == before {
		t.Error("the digest does not change")
	}
}

// A device that sends forged openings does not keep others from opening
// sessions.
func TestForgedOpeningsStarveNobody(t *testing.T) {
	w, a, b := pair(t)
	mallory := w.add("mallory")
	w.befriend(mallory, b)
	w.settle()
	env := opening(w, mallory, b)
	refused := 0
	for range 100 {
		bad := slices.Clone(env)
		copy(bad[124:], key.NewIdentity().Public().Bytes()) // another ephemeral key: the check fails
		if code := b.receive(bad, mallory.device(), Direct); code == protocol.RateLimited {
			refused++
		}
	}
	if refused == 0 {
		t.Error("forgeries are not held back")
	}
	if code := b.receive(opening(w, a, b), a.device(), Direct); code == protocol.RateLimited {
		t.Error("somebody else is held back for them")
	}
}
