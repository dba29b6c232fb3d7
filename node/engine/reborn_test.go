package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

// rebirth is what a program does that was told that its store was copied or set
// back. Die tells after each step whether the process ends there; then it
// begins again, with nothing but the store.
func (n *node) rebirth(die func() bool) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return Hint{}, n.e.TurnedAway(tx) })
	for {
		var chain []byte
		var pending bool
		n.view(func(tx store.Tx) (err error) {
			chain, _, pending, err = PendingReborn(tx)
			return err
		})
		if !pending {
			newcomer := n.w.newcomer("again")
			var err error
			chain, err = n.change(func(tx store.Tx) ([]byte, error) { return n.e.PlanReborn(tx, n.w.now, newcomer) })
			n.w.check(err)
			if die() {
				n.reload()
				continue
			}
		}
		if n.upload(chain) != protocol.OK { // another change came first
			n.w.check(n.setOwnChain(n.w.home.names[n.name].chain))
			_, err := n.change(func(tx store.Tx) ([]byte, error) { return n.e.PlanReborn(tx, n.w.now, nil) })
			n.w.check(err)
			continue
		}
		if die() || !n.swapAll(die) {
			n.reload()
			continue
		}
		break
	}
	n.load()
}

// swapAll calls Reborn until it is done; false: the process died.
func (n *node) swapAll(die func() bool) bool {
	n.w.t.Helper()
	for more := true; more; {
		n.do(func(tx store.Tx) (h Hint, err error) {
			more, err = n.e.Reborn(tx, n.w.now)
			return h, err
		})
		if die() && more {
			return false
		}
	}
	var c *account.Chain
	n.view(func(tx store.Tx) error {
		e, err := Load(tx)
		if err == nil {
			c, err = e.OwnChain(tx)
			n.w.home.devices[e.Identity().Device] = newShelf()
			n.e = e
		}
		return err
	})
	n.w.check(errors.Join())
	if _, ok := c.Device(n.device()); !ok {
		n.w.t.Fatalf("the new device is not certified")
	}
	return true
}

// reload is the start of a process that goes on with a rebirth: it says no
// hello.
func (n *node) reload() {
	n.w.t.Helper()
	n.hint, n.next = Hint{}, time.Time{}
	n.view(func(tx store.Tx) (err error) {
		n.e, err = Load(tx)
		return err
	})
}

func never() bool { return false }

// sessionsOf returns the sessions of envelopes.
func sessionsOf(t testing.TB, envs [][]byte) map[protocol.SessionID]bool {
	t.Helper()
	ids := make(map[protocol.SessionID]bool)
	for _, env := range envs {
		id, _, err := session.PeekSession(env)
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
	return ids
}

func (n *node) undecryptable() int { return len(n.events(KindUndecryptable)) }

func (n *node) setBack(kv *memory.DB) protocol.Code {
	n.w.t.Helper()
	n.kv = kv
	return n.restart()
}

// A store that was set back becomes a new device. Nothing of the old one is
// used again: no prekey, and no session, so no key with a nonce. What was
// queued arrives, and everybody goes on.
func TestOTK15_ARolledBackStoreBecomesANewDevice(t *testing.T) {
	w, a, b := pair(t)
	a.send(b, "one")
	b.send(a, "two")
	w.settle()
	old := a.copyStore()
	a.load() // what the rendezvous does not hear of it cannot tell
	for i := range 5 {
		a.send(b, fmt.Sprint("lost here ", i))
		b.send(a, fmt.Sprint("lost here too ", i))
		w.settle()
	}
	before, oldDevice, storeID := sessionsOf(t, a.sent), a.device(), a.e.id.StoreID
	oldPrekeys := w.home.devices[oldDevice].bound
	a.sent = nil

	if code := a.setBack(old); code != protocol.StoreRolledBack {
		t.Fatalf("told %v", code)
	}
	a.send(b, "written before the rendezvous answered")
	a.rebirth(never)
	w.settle()

	if a.device() == oldDevice || a.e.id.StoreID == storeID || a.restart() != protocol.OK {
		t.Error("it is not a new device")
	}
	a.send(b, "after")
	w.settle()
	b.send(a, "and back")
	w.settle()
	for id := range sessionsOf(t, a.sent) {
		if before[id] {
			t.Errorf("session %v is used again", id)
		}
	}
	for id := range w.home.devices[a.device()].bound {
		if _, reused := oldPrekeys[id]; reused {
			t.Errorf("prekey %v is published again", id)
		}
	}
	got := texts(b.history(a))
	if want := []string{"written before the rendezvous answered", "after", "and back"}; !slices.Equal(got[len(got)-3:], want) {
		t.Errorf("the peer has %q", got)
	}
	if got := texts(a.history(b)); !slices.Equal(got, []string{"one", "two", "written before the rendezvous answered", "after", "and back"}) {
		t.Errorf("history %q", got)
	}
	if a.undecryptable()+b.undecryptable() != 0 {
		t.Error("something did not open")
	}
	if notices(a, NoticeReborn) != 1 || len(a.contact(a).Devices) != 1 || a.contact(a).Devices[0].DeviceID() != oldDevice {
		t.Error("the old device is not told of, or no sibling")
	}
	if got := len(b.contact(a).Devices); got != 2 {
		t.Errorf("the contact knows %d devices", got)
	}
	if q, waiting := a.countsBut(oldDevice); q != 0 || waiting != 0 { // the old device may live, and is told what siblings are
		t.Errorf("%d queued, %d waiting", q, waiting)
	}
	w.pass(time.Hour)
	for _, m := range a.history(b) {
		if m.Mine && m.State != StateDelivered {
			t.Errorf("%q is %s", m.Text, m.State)
		}
	}
}

// From the plan on nothing is sealed or handed out, until the new device is
// there.
func TestOTK15_NothingLeavesWhileReborn(t *testing.T) {
	w, a, b := pair(t)
	a.away, a.offline = true, true
	a.send(b, "sealed before")
	newcomer := w.newcomer("again")
	_, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.PlanReborn(tx, w.now, newcomer) })
	w.check(err)
	sealed := len(a.rows(tableOut))
	a.send(b, "written meanwhile")
	if got := len(a.rows(tableOut)); got != sealed {
		t.Error("sealed with a session of the old device")
	}
	a.view(func(tx store.Tx) error {
		devices, err := a.e.QueuedDevices(tx)
		queue, err2 := a.e.Queue(tx, a.w.now, b.device(), 0, 1<<20, 10)
		if len(devices)+len(queue) != 0 {
			t.Error("something is handed out")
		}
		return errors.Join(err, err2)
	})
	a.away, a.offline = false, false
	a.rebirth(never)
	w.pass(time.Minute)
	got := texts(b.history(a))
	if !slices.Equal(got, []string{"sealed before", "written meanwhile"}) {
		t.Errorf("%q", got)
	}
}

// crowded is a node with much that a rebirth has to take along: queues of
// several contacts, texts that came early, holes, and mail that nobody has
// fetched.
func crowded(t testing.TB) (w *world, a *node, friends []*node, want map[*node][]string) {
	w = newWorld(t)
	a = w.add("alice")
	want = make(map[*node][]string)
	for i := range 3 {
		f := w.add(fmt.Sprint("friend", i))
		w.befriend(a, f)
		f.send(a, "hello")
		w.settle()
		friends = append(friends, f)
		want[f] = []string{"hello"}
	}
	f := friends[0] // its second text is lost for ever, so the third is held
	f.send(a, "lost")
	f.view(func(tx store.Tx) error {
		queue, err := f.e.Queue(tx, f.w.now, a.device(), 0, 1<<20, 10)
		for _, q := range queue {
			f.delivered(q)
		}
		return err
	})
	f.send(a, "early")
	w.settle()
	if len(a.rows(tableHeld)) != 1 {
		t.Fatal("nothing came early")
	}
	want[f] = append(want[f], "early")
	for i := range 150 {
		for j, f := range friends {
			f.away, f.offline = true, j == 1
			text := fmt.Sprint("text ", i)
			a.send(f, text)
			want[f] = append(want[f], text)
		}
		if i == 40 {
			w.settle() // some are in mailboxes: kept
			a.offline, a.away = true, true
		}
	}
	a.offline, a.away = false, false
	return w, a, friends, want
}

// countsBut is counts without what waits for one device.
func (n *node) countsBut(device protocol.DeviceID) (queued, waiting int) {
	queued, waiting = n.counts()
	n.view(func(tx store.Tx) error {
		d, ok, err := load[deviceRow](tx, keyDevice(device))
		if ok {
			waiting -= int(d.waiting)
		}
		return err
	})
	return queued, waiting
}

// The process dies after any step of a rebirth, and goes on with it at the next
// start. Every text arrives once and in order.
func TestOTK15_RebornSurvivesCrashes(t *testing.T) {
	steps := 0
	_, a, _, _ := crowded(t)
	a.rebirth(func() bool { steps++; return false })
	if steps < 6 {
		t.Errorf("only %d steps: the rebirth is not in batches", steps)
	}
	for at := 1; at <= steps; at++ {
		w, a, friends, want := crowded(t)
		old := a.device()
		n := 0
		a.rebirth(func() bool { n++; return n == at })
		for _, f := range friends {
			f.away, f.offline = false, false
			f.connect()
		}
		w.pass(10 * time.Minute)
		for _, f := range friends {
			got := texts(f.history(a))
			if f == friends[0] {
				got = slices.DeleteFunc(got, func(s string) bool { return s == "lost" })
			}
			if !slices.Equal(got, want[f]) {
				t.Fatalf("step %d: %s has %d texts, want %d", at, f.name, len(got), len(want[f]))
			}
			if f.undecryptable() != 0 {
				t.Errorf("step %d: something did not open", at)
			}
		}
		if got := texts(a.history(friends[0])); got[len(got)-1] != "early" || len(got) != len(want[friends[0]]) {
			t.Errorf("step %d: what came early is not shown: %q", at, got[len(got)-3:])
		}
		if q, waiting := a.countsBut(old); q != 0 || waiting != 0 {
			t.Errorf("step %d: %d queued, %d waiting", at, q, waiting)
		}
		if notices(a, NoticeReborn) != 1 {
			t.Errorf("step %d: %d notices", at, notices(a, NoticeReborn))
		}
	}
}

// Another change of the chain comes first: the planned device stays the same.
func TestRebornOnALongerChain(t *testing.T) {
	w, a, a2, _ := threeDevices(t)
	newcomer := w.newcomer("again")
	plan := func(n *Newcomer) []byte {
		chain, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.PlanReborn(tx, w.now, n) })
		w.check(err)
		return chain
	}
	stale := plan(newcomer)
	other, err := a2.change(func(tx store.Tx) ([]byte, error) { return a2.e.Rename(tx, w.now, a2.device(), "first") })
	w.check(err)
	if a2.upload(other) != protocol.OK || a.upload(stale) != protocol.ChainConflict {
		t.Fatal("no conflict")
	}
	a.rebirth(never)
	if want := newcomer.Request().Device(a.account()); a.device() != want {
		t.Error("another device than planned")
	}
	if len(a.ownDevices()) != 4 {
		t.Errorf("%+v", a.ownDevices())
	}
	w.settle()
}

func TestRebornRefuses(t *testing.T) {
	w, a, a2, a3 := threeDevices(t)
	plan := func(n *node, newcomer *Newcomer) error {
		_, err := n.change(func(tx store.Tx) ([]byte, error) { return n.e.PlanReborn(tx, w.now, newcomer) })
		return err
	}
	if err := plan(a, nil); !errors.Is(err, errNoNewcomer) {
		t.Errorf("without a device: %v", err)
	}
	err := a.update(func(tx store.Tx) (h Hint, err error) { _, err = a.e.Reborn(tx, w.now); return h, err })
	if !errors.Is(err, errNoNewcomer) {
		t.Errorf("without a plan: %v", err)
	}
	chain, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Revoke(tx, w.now, a2.device(), account.Lost) })
	w.check(err)
	w.check(a3.setOwnChain(chain))
	if err := plan(a3, w.newcomer("again")); !errors.Is(err, ErrNoAccountKey) {
		t.Errorf("without the account key: %v", err)
	}
	if a3.e.stopped.Load() {
		t.Error("a plan that failed stopped the device")
	}
	for range 3 { // days: the user is told
		w.now = w.now.Add(25 * time.Hour)
		for range 3 {
			a3.tick()
			w.now = w.now.Add(time.Hour)
		}
	}
	if notices(a3, NoticeNoAccountKey) == 0 {
		t.Error("nobody says that the account key did not come")
	}
}

// While the rows are taken apart nothing else may look at them.
func TestRebornExcludesEverythingElse(t *testing.T) {
	w, a, friends, _ := crowded(t)
	chain, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.PlanReborn(tx, w.now, w.newcomer("again")) })
	w.check(err)
	a.upload(chain)
	more := false
	a.do(func(tx store.Tx) (h Hint, err error) {
		more, err = a.e.Reborn(tx, w.now)
		return h, err
	})
	if !more {
		t.Fatal("done at once")
	}
	for range 2 {
		if err := a.trySend(friends[0], protocol.NewMsgID(), "x"); !errors.Is(err, ErrSwapping) {
			t.Errorf("%v", err)
		}
		a.reload()
	}
	var host key.HostPrivate
	a.view(func(tx store.Tx) (err error) {
		_, host, _, err = PendingReborn(tx)
		return err
	})
	if host.Bytes() == nil {
		t.Error("no host key to go on with")
	}
}
