package engine

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// world is some nodes, a rendezvous and a network, all in one goroutine, with
// a clock of its own.
type world struct {
	t     tb
	now   time.Time
	rsa   key.RSAPrivate
	home  *rendezvous
	nodes []*node
	stray []stray
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t testing.TB) *world { return newWorldWith(t, keytest.RSA(t, 0)) }

func newWorldWith(t tb, rsa key.RSAPrivate) *world {
	w := &world{t: t, now: start, rsa: rsa}
	w.home = &rendezvous{w: w, names: map[string]*entry{}, devices: map[protocol.DeviceID]*shelf{}, rooms: map[protocol.RoomID]*roomHome{}, guests: map[protocol.AccountID][]byte{}, seen: map[protocol.AccountID]time.Time{}, sealed: map[protocol.EnvelopeID]sealedText{}, log: newLogbook()}
	return w
}

// node is one engine over its store, with a network that may be cut.
type node struct {
	w    *world
	name string
	kv   *memory.DB
	e    *Engine
	hint Hint

	wrong map[protocol.RoomID]*guest.Limits // passwords of guests who knock here

	away    bool          // no direct connections
	offline bool          // nor to the rendezvous
	skew    time.Duration // how far its clock is ahead of the world's
	side    int           // of a cut in the network: only nodes on the same one reach each other directly
	next    time.Time
	sent    [][]byte      // every envelope that left, for tests that replay
	busy    time.Duration // CPU time in transactions, of benchmarks that keep to one thread

	log   *logbook                   // what the rendezvous shows it; nil: what it shows all
	fate  func() fate                // what the network does to a direct envelope; nil: delivers
	crash func() bool                // whether the process dies in this transaction; nil: never
	tap   func(to *node, env []byte) // sees what leaves for a device; nil: nobody does
}

// crashed is the panic of a process that dies before its transaction commits.
type crashed struct{ n *node }

type fate uint8

const (
	arrives  fate = iota
	lost          // never arrives
	ackLost       // arrives, but the sender does not hear of it
	delayed       // is put into the mailbox instead
	repeated      // arrives twice
	astray        // arrives when the world likes
)

// stray is an envelope that is still somewhere in the network.
type stray struct {
	from, to *node
	env      []byte
}

func (w *world) add(name string) *node {
	w.t.Helper()
	f, err := NewIdentityWith(w.now, name, "", "test", Home{Peer: w.home.log.peer(), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}, w.rsa)
	w.check(err)
	n := &node{w: w, name: name, kv: memory.New()}
	w.check(n.kv.Update(context.Background(), func(tx store.Tx) error {
		return errors.Join(Init(tx, f), MarkRegistered(tx))
	}))
	w.home.names[name] = &entry{account: f.account(), chain: f.Membership.Chain}
	w.home.devices[f.device()] = newShelf()
	n.load()
	w.nodes = append(w.nodes, n)
	n.syncPrekeys()
	return n
}

// addDevice adds a node that is one more device of an account. The rendezvous
// does not know of it until publish.
func (w *world) addDevice(of *node) *node {
	w.t.Helper()
	newcomer, err := NewNewcomerWith(w.now, "second", w.rsa)
	w.check(err)
	var m Membership
	of.view(func(tx store.Tx) (err error) {
		m, err = of.e.Membership(tx)
		return err
	})
	of.do(func(tx store.Tx) (h Hint, err error) {
		m.Chain, err = of.e.Certify(tx, w.now, newcomer.Request())
		return h, err
	})
	n := &node{w: w, name: of.name, kv: memory.New()}
	w.check(n.kv.Update(context.Background(), func(tx store.Tx) error { return InitMember(tx, w.now, newcomer, m) }))
	w.home.devices[newcomer.Request().Device(of.account())] = newShelf()
	n.load()
	w.nodes = append(w.nodes, n)
	n.syncPrekeys()
	return n
}

func newShelf() *shelf {
	return &shelf{bound: map[protocol.PrekeyID][32]byte{}, claims: map[[16]byte][]byte{}}
}

func (f *Founder) account() protocol.AccountID {
	c, err := account.ParseChain(f.Membership.Chain)
	if err != nil {
		panic(err)
	}
	return c.Account()
}

func (f *Founder) device() protocol.DeviceID { return f.Newcomer.Request().Device(f.account()) }

// publish gives a chain to the rendezvous and tells everybody who is connected
// that it changed.
func (w *world) publish(name string, chain *account.Chain) {
	w.t.Helper()
	w.home.names[name].chain = chain.Bytes()
	for _, n := range w.nodes {
		if n.offline {
			continue
		}
		n.do(func(tx store.Tx) (Hint, error) { return n.e.Changed(tx, w.now, []protocol.AccountID{chain.Account()}) })
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

// load is a start of the process: everything but the store is gone.
func (n *node) load() {
	n.w.t.Helper()
	n.restart()
}

// restart is load, and tells what the rendezvous says to it.
func (n *node) restart() (code protocol.Code) {
	n.w.t.Helper()
	n.hint, n.next = Hint{}, time.Time{}
	var hello Hello
	n.w.check(n.kv.Update(context.Background(), func(tx store.Tx) (err error) {
		if n.e, err = Load(tx); err != nil {
			return err
		}
		hello, err = n.e.Hello(tx, []byte{1})
		return err
	}))
	if code = n.w.home.welcome(n.device(), hello); code == protocol.OK {
		n.do(func(tx store.Tx) (Hint, error) { return Hint{}, n.e.Welcomed(tx, hello) })
	}
	n.view(func(tx store.Tx) (err error) {
		if n.hint.Outbox, err = n.e.QueuedDevices(tx); err != nil {
			return err
		}
		n.hint.Rooms, err = n.e.RoomsToFollow(tx)
		return err
	})
	return code
}

// update runs one call of the engine and keeps its hints.
func (n *node) update(fn func(store.Tx) (Hint, error)) error {
	defer n.clock(threadTime())
	var hint Hint
	n.w.now = n.w.now.Add(n.skew)
	defer func() { n.w.now = n.w.now.Add(-n.skew) }()
	err := n.kv.Update(context.Background(), func(tx store.Tx) (err error) {
		hint, err = fn(tx)
		if err == nil && n.crash != nil && n.crash() {
			panic(crashed{n})
		}
		return err
	})
	if err == nil {
		n.hint.Merge(hint)
	}
	return err
}

func (n *node) do(fn func(store.Tx) (Hint, error)) {
	n.w.t.Helper()
	n.w.check(n.update(fn))
}

func (n *node) clock(since time.Duration) { n.busy += threadTime() - since }

// threadTime is the CPU time of this thread; 0 on systems that do not tell.
func threadTime() time.Duration {
	const rusageThread = 1 // of Linux
	var r syscall.Rusage
	if syscall.Getrusage(rusageThread, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func (n *node) view(fn func(store.Tx) error) {
	n.w.t.Helper()
	defer n.clock(threadTime())
	n.w.check(n.kv.View(context.Background(), fn))
}

func (n *node) chain() (c *account.Chain) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		c, err = n.e.OwnChain(tx)
		return err
	})
	return c
}

func (n *node) aik() (k key.AccountPrivate) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		_, k, err = n.e.signingKey(tx)
		return err
	})
	return k
}

func (n *node) recovery() (k key.RecoveryPrivate) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		k, _, err = n.e.RecoverySeed(tx)
		return err
	})
	return k
}

func (n *node) rsaKey() (k key.RSAPrivate) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		k, err = n.e.currentRSA(tx)
		return err
	})
	return k
}

func (n *node) self() (id envelope.Identity) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		id, err = n.e.self(tx)
		return err
	})
	return id
}

func (n *node) account() protocol.AccountID { return n.e.Identity().Account }
func (n *node) device() protocol.DeviceID   { return n.e.Identity().Device }
