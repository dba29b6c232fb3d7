package node_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
)

// notices counts what a person was told with a code.
func notices(t *testing.T, p *nodetest.Person, code string) (n int) {
	t.Helper()
	last, err := p.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last == 0 {
		return 0
	}
	for e, err := range p.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Cause == code {
			n++
		}
		if e.Seq >= last {
			break
		}
	}
	return n
}

// A rendezvous that was set back gets the newest statements of an account from
// its devices, also from one that it does not know any more.
func TestSetBackRendezvousGetsChainsBack(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 1)
	alice := net.People[0]
	var desk *nodetest.Person
	net.Home.SetBack(func() {
		net.Wait("alice is up", alice.Up)
		desk = alice.Link("desk", false)
		alice.Stop() // so that only the device that was lost can help
	})
	net.Wait("the device is known again", desk.Up)
	if c := result(t, desk, "account at the rendezvous"); c.Result != api.CheckOK {
		t.Errorf("%+v", c)
	}
	if n := notices(t, desk, engine.NoticeChainReturned); n != 1 {
		t.Errorf("told %d times", n)
	}
	net.Home.SetBack(func() {
		net.Wait("the desk is up", desk.Up)
		if _, err := desk.RenameDevice(t.Context(), "desk", "table"); err != nil {
			t.Fatal(err)
		}
	})
	net.Wait("the desk is up again", desk.Up)
	if c := result(t, desk, "account at the rendezvous"); c.Result != api.CheckOK {
		t.Errorf("%+v", c)
	}
	if n, forks := notices(t, desk, engine.NoticeChainReturned), notices(t, desk, engine.NoticeChainFork); n != 2 || forks != 0 {
		t.Errorf("told %d times, and %d times of a fork", n, forks)
	}
}

// The doctor replaces a wrap key that is too old, and says so once.
func TestDoctorReplacesOldWrapKey(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64 // nanoseconds
	net := nodetest.NewWith(t, 1, nodetest.Options{Node: func(_ int, c *node.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}})
	alice := net.People[0]
	const name = "key of deleted keys"
	if c := result(t, alice, name); c.Result != api.CheckOK {
		t.Errorf("at the start: %+v", c)
	}
	ahead.Store(int64(2 * 24 * time.Hour)) // as after a long sleep
	if c := result(t, alice, name); c.Result != api.CheckRepaired {
		t.Errorf("two days later: %+v", c)
	}
	if c := result(t, alice, name); c.Result != api.CheckOK {
		t.Errorf("after that: %+v", c)
	}
}
