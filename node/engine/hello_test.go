package engine

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func (n *node) sayHello() (h Hello) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (_ Hint, err error) {
		h, err = n.e.Hello(tx, []byte("rendezvous"))
		return Hint{}, err
	})
	return h
}

func (n *node) welcomed(h Hello) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return Hint{}, n.e.Welcomed(tx, h) })
}

// The same until it is welcomed, whatever happens; then another.
func TestHelloGrowsWithEveryWelcome(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	first := a.sayHello()
	w.check(func() (err error) { // the process ends
		a.view(func(tx store.Tx) error {
			a.e, err = Load(tx)
			return err
		})
		return err
	}())
	if again := a.sayHello(); again.Ctr != first.Ctr || again.Start != first.Start || string(again.Sig) != string(first.Sig) {
		t.Error("a hello that nobody welcomed changed")
	}
	a.welcomed(first)
	a.welcomed(first)
	second := a.sayHello()
	if second.Ctr != first.Ctr+1 || second.Start == first.Start {
		t.Errorf("%d after %d", second.Ctr, first.Ctr)
	}
	a.welcomed(first) // late
	if a.sayHello().Ctr != second.Ctr {
		t.Error("a late welcome of another hello counts")
	}
	id := a.e.Identity()
	ctr := binary.BigEndian.AppendUint64(nil, second.Ctr)
	parts := [][]byte{id.Device[:], id.StoreID[:], ctr, second.Start[:], []byte("rendezvous")}
	w.check(id.DSK.Public().Verify("hello", second.Sig, parts...))
}

func TestOTK13_ACopyIsTold(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	copied := &node{w: w, name: "alice", kv: a.copyStore()}
	codes := []protocol.Code{a.restart(), copied.restart(), copied.restart(), a.restart()}
	for i, want := range []protocol.Code{protocol.OK, protocol.StoreRolledBack, protocol.StoreRolledBack, protocol.OK} {
		if codes[i] != want {
			t.Errorf("start %d: %v, want %v", i, codes[i], want)
		}
	}
}

// A state of the store from before sessions moved on is turned away, also when
// the device has not connected anew since.
func TestOTK15_HelloIsDueAfterUse(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	a.restart()
	if a.e.HelloDue() {
		t.Error("due without use")
	}
	old := a.copyStore()
	a.send(b, "used")
	if !a.e.HelloDue() {
		t.Fatal("not due after use")
	}
	var h Hello
	a.do(func(tx store.Tx) (_ Hint, err error) {
		h, err = a.e.Hello(tx, []byte{1})
		return Hint{}, err
	})
	if w.home.welcome(a.device(), h) != protocol.OK || a.e.HelloDue() {
		t.Error("not welcome, or still due")
	}
	a.welcomed(h)
	if code := a.setBack(old); code != protocol.StoreRolledBack {
		t.Errorf("the old state is told %v", code)
	}
}

// From the refusal on nothing is sealed, handed out or given, also after a
// restart, and no other hello is said: what was refused is refused for good.
func TestOTK15_TurnedAwayIsSilent(t *testing.T) {
	w, a, b := pair(t)
	a.away, a.offline = true, true
	a.send(b, "sealed before")
	a.do(func(tx store.Tx) (Hint, error) { return Hint{}, a.e.TurnedAway(tx) })
	for range 2 {
		sealed := len(a.rows(tableOut))
		a.send(b, "written meanwhile")
		if len(a.rows(tableOut)) != sealed {
			t.Error("sealed")
		}
		if got := a.queue(b); len(got) != 0 {
			t.Errorf("%d envelopes are handed out", len(got))
		}
		if _, err := a.give(b.device(), 1); protocol.CodeOf(err) != protocol.Unavailable {
			t.Errorf("a prekey is given: %v", err)
		}
		a.view(func(tx store.Tx) error {
			if _, err := a.e.Hello(tx, []byte{1}); err != ErrTurnedAway {
				t.Errorf("another hello: %v", err)
			}
			return nil
		})
		a.reload()
	}
	a.away, a.offline = false, false
	a.rebirth(never)
	w.pass(time.Minute)
	if got := texts(b.history(a)); !slices.Equal(got, []string{"sealed before", "written meanwhile", "written meanwhile"}) {
		t.Errorf("%q", got)
	}
}
