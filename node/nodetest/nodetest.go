// Package nodetest runs a real rendezvous and real nodes on loopback, for the
// tests of what is built on nodes. It is for tests only, and the one place
// below node that may import the rendezvous.
//
// Everything is real (libp2p, stores on disk), so tests wait with a deadline
// for what must happen (Net.Wait) and never for a while.
package nodetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/rendezvous"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
)

// Patience is how long a test waits for what must happen.
const Patience = 30 * time.Second

// Loopback is where the nodes of a test listen.
var Loopback = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}

// NoListen is for nodes that nobody can dial: they reach each other through the
// relay only.
var NoListen = []string{}

// Net is a rendezvous and the nodes of some people who joined it.
type Net struct {
	t      testing.TB
	Home   *Home
	doors  [2]*Door  // lead to Home; the second, after Fork, to the other
	People []*Person // alice, bob, carol, ...
	guests int       // made by NewGuest
}

// Options change what New makes. The zero value is New.
type Options struct {
	Home func(*rendezvous.Config)
	Node func(i int, c *node.Config)
	Fork func(i int) bool // whom Net.Fork leads to the other rendezvous; nil: there is no Fork
}

// New starts a rendezvous and n nodes, which have joined but do not know each
// other. The test stops all of it when it ends.
func New(t testing.TB, n int) *Net { return NewWith(t, n, Options{}) }

// NewWith is New with changes.
func NewWith(t testing.TB, n int, o Options) *Net {
	t.Helper()
	net := &Net{t: t, Home: newHome(t, o.Home)}
	net.Home.Start()
	if o.Fork != nil {
		for i := range net.doors {
			net.doors[i] = newDoor(t)
			net.doors[i].leadTo(net.Home)
		}
	}
	names := []string{"alice", "bob", "carol", "dave", "erin", "frank"}
	for i := range n {
		name := fmt.Sprintf("user_%d", i)
		if i < len(names) {
			name = names[i]
		}
		p := net.newPerson(i, name)
		if o.Node != nil {
			o.Node(i, &p.Config)
		}
		switch {
		case o.Fork != nil && o.Fork(i):
			p.door = net.doors[1]
		case o.Fork != nil:
			p.door = net.doors[0]
		}
		p.Join()
		p.Start()
		net.People = append(net.People, p)
	}
	for _, p := range net.People {
		net.Wait(p.Name+" can be written to", p.Published)
	}
	return net
}

// Wait calls done until it returns true, and fails the test after Patience.
func (net *Net) Wait(what string, done func() bool) {
	net.t.Helper()
	for end := time.Now().Add(Patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			net.t.Fatalf("waited %v for: %s", Patience, what)
		}
	}
}

// Befriend makes two people contacts.
func (net *Net) Befriend(a, b *Person) {
	net.t.Helper()
	ctx := net.t.Context()
	if _, err := a.Add(ctx, api.AddRequest{Name: b.Name}); err != nil {
		net.t.Fatalf("%s adds %s: %v", a.Name, b.Name, err)
	}
	net.Wait(b.Name+" sees the request of "+a.Name, func() bool { return b.Contact(a.Name).Relation == api.Incoming })
	if _, err := b.Accept(ctx, a.Name); err != nil {
		net.t.Fatalf("%s accepts %s: %v", b.Name, a.Name, err)
	}
	net.Wait(a.Name+" sees that "+b.Name+" accepted", func() bool { return a.Contact(b.Name).Relation == api.Accepted })
}

// Person is somebody with a node. It can be stopped and started again.
type Person struct {
	*node.Node
	Name   string
	Config node.Config
	net    *Net
	number int
	door   *Door // by which the person comes to the rendezvous; nil: by its own address
	stop   func()

	ended   chan error // what Run returned, if it was not stopped
	linking chan error // what Link returned
}

func (net *Net) newPerson(i int, name string) *Person {
	net.t.Helper()
	dir := filepath.Join(net.t.TempDir(), name)
	secret, err := vault.CreateKeyFile(dir + ".key")
	if err != nil {
		net.t.Fatalf("make key file: %v", err)
	}
	p := &Person{Name: name, net: net, number: i, Config: node.Config{
		Dir: dir, Secret: secret, Listen: Loopback, Version: "test", Log: Log(net.t, name),
	}}
	net.t.Cleanup(p.Stop)
	return p
}

// Adopt lets a person who was made by hand be used like the others.
func (net *Net) Adopt(p *Person) {
	p.net = net
	net.t.Cleanup(p.Stop)
}

// RSA is the person's RSA key.
func (p *Person) RSA() key.RSAPrivate { return keytest.RSA(p.net.t, p.number%keytest.RSAKeys) }

// Join registers the person. It is the second attempt to join: the first made
// an identity with a fixed RSA key, which saves seconds, and got no further.
func (p *Person) Join() {
	t := p.net.t
	t.Helper()
	i := p.net.Home.Invite()
	if p.door != nil {
		i.Addrs = []string{p.door.Addr()}
	}
	id, err := engine.NewIdentityWith(time.Now(), p.Name, "", "test", engine.Home{Peer: i.Peer, Addrs: i.Addrs}, p.RSA())
	if err != nil {
		t.Fatalf("make identity: %v", err)
	}
	err = errors.Join(vault.Create(p.Config.Dir, p.Config.Secret), p.WithStore(func(tx store.Tx) error { return engine.Init(tx, id) }))
	if err != nil {
		t.Fatalf("store identity: %v", err)
	}
	_, err = node.Join(t.Context(), node.JoinParams{
		Dir: p.Config.Dir, Secret: p.Config.Secret, Invite: i, Name: p.Name, DeviceName: "test", Log: p.Config.Log,
	})
	if err != nil {
		t.Fatalf("%s joins: %v", p.Name, err)
	}
}

// WithStore runs fn on the store of a person whose node does not run.
func (p *Person) WithStore(fn func(store.Tx) error) error {
	v, err := vault.Open(p.Config.Dir, p.Config.Secret)
	if err != nil {
		return err
	}
	db, err := badger.Open(badger.Options{Dir: filepath.Join(p.Config.Dir, "store"), Log: p.Config.Log})
	if err != nil {
		return err
	}
	kv, err := v.Seal(db, engine.Ephemeral)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return errors.Join(kv.Update(context.Background(), fn), kv.Close())
}

// Start runs the node.
func (p *Person) Start() {
	t := p.net.t
	t.Helper()
	n, err := node.New(t.Context(), p.Config)
	if err != nil {
		t.Fatalf("make %s's node: %v", p.Name, err)
	}
	p.Node = n
	p.ended = make(chan error, 1)
	p.stop = run(t, p.Name, func(ctx context.Context) error {
		err := n.Run(ctx)
		if ctx.Err() == nil { // by itself
			p.ended <- err
			return nil
		}
		return err
	})
}

// Reborn waits for the person's node to end because its folder became another
// device, and starts it again.
func (p *Person) Reborn() {
	t := p.net.t
	t.Helper()
	select {
	case err := <-p.ended:
		if !errors.Is(err, node.ErrReborn) {
			t.Fatalf("%s's node ended: %v", p.Name, err)
		}
	case <-time.After(Patience):
		t.Fatalf("waited %v for %s to become a new device", Patience, p.Name)
	}
	p.stop = nil
	p.Start()
}

// Ended waits for the person's node to end by itself and returns why.
func (p *Person) Ended() error {
	t := p.net.t
	t.Helper()
	select {
	case err := <-p.ended:
		p.stop = nil
		return err
	case <-time.After(Patience):
		t.Fatalf("waited %v for %s's node to end", Patience, p.Name)
		return nil
	}
}

// Link starts one more device of the person's account, and says yes to it. The
// device's person has another folder and the same name. As with Join, an attempt before
// made its keys and got no further.
func (p *Person) Link(device string, history bool) *Person {
	t := p.net.t
	t.Helper()
	other := p.net.newPerson(len(p.net.People), p.Name+"_"+device)
	other.Name = p.Name
	newcomer, err := engine.NewNewcomerWith(time.Now(), device, other.RSA())
	if err != nil {
		t.Fatalf("make device: %v", err)
	}
	pending := &engine.Pending{Newcomer: newcomer}
	err = errors.Join(vault.Create(other.Config.Dir, other.Config.Secret), other.WithStore(func(tx store.Tx) error { return engine.SetPending(tx, pending) }))
	if err != nil {
		t.Fatalf("store device: %v", err)
	}
	for step, err := range p.AddDevice(t.Context()) {
		if err != nil {
			t.Fatalf("%s adds a device: %v", p.Name, err)
		}
		switch step.Stage {
		case api.AddCode:
			other.linking = make(chan error, 1)
			go func() {
				_, err := node.Link(t.Context(), node.LinkParams{
					Dir: other.Config.Dir, Secret: other.Config.Secret, Code: step.Link, DeviceName: device, History: history, Log: other.Config.Log,
				})
				other.linking <- err
			}()
		case api.AddAsked:
			if err := p.AnswerDevice(api.AddAnswer{ID: step.ID, Accept: true, History: true}); err != nil {
				t.Fatalf("%s says yes: %v", p.Name, err)
			}
		}
	}
	if err := <-other.linking; err != nil {
		t.Fatalf("link %s of %s: %v", device, p.Name, err)
	}
	other.Start()
	p.net.Wait(device+" can be written to", other.Published)
	return other
}

// Stop stops it and waits; stopping what is stopped does nothing.
func (p *Person) Stop() {
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
}

// Contact returns a contact as the person sees it; the zero value if there is
// none.
func (p *Person) Contact(name string) api.Contact {
	p.net.t.Helper()
	list, err := p.Contacts(p.net.t.Context())
	if err != nil {
		p.net.t.Fatalf("%s's contacts: %v", p.Name, err)
	}
	for _, c := range list {
		if c.Name == name {
			return c
		}
	}
	return api.Contact{}
}

// Say sends a text and returns the message.
func (p *Person) Say(to *Person, text string) api.Message {
	p.net.t.Helper()
	m, err := p.Send(p.net.t.Context(), api.SendRequest{To: to.Name, Text: text})
	if err != nil {
		p.net.t.Fatalf("%s writes to %s: %v", p.Name, to.Name, err)
	}
	return m
}

// With returns the newest thousand messages with somebody.
func (p *Person) With(other *Person) []api.Message {
	p.net.t.Helper()
	page, err := p.History(p.net.t.Context(), other.Name, 0, 1000)
	if err != nil {
		p.net.t.Fatalf("%s's history with %s: %v", p.Name, other.Name, err)
	}
	return page
}

// Message returns an own message as it is now.
func (p *Person) Message(id string) api.Message {
	p.net.t.Helper()
	trace, err := p.Trace(p.net.t.Context(), id)
	if err != nil {
		p.net.t.Fatalf("%s's message %s: %v", p.Name, id, err)
	}
	return trace.Message
}

// Up tells whether the person's node is connected to the rendezvous.
func (p *Person) Up() bool {
	p.net.t.Helper()
	s, err := p.Status(p.net.t.Context())
	if err != nil {
		p.net.t.Fatalf("%s's status: %v", p.Name, err)
	}
	return s.Rendezvous.Up
}

// Published tells whether the person's prekeys are at the rendezvous: before,
// nobody can begin to write to them.
func (p *Person) Published() bool {
	p.net.t.Helper()
	s, err := p.Status(p.net.t.Context())
	if err != nil {
		p.net.t.Fatalf("%s's status: %v", p.Name, err)
	}
	return s.Prekeys.Published > 0
}

// run runs fn beside the test and returns what stops it.
func run(t testing.TB, name string, fn func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- fn(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s ended: %v", name, err)
		}
	}
}

// Log is a logger that is silent unless PARLEY_TEST_LOG is set.
func Log(t testing.TB, name string) *slog.Logger {
	var w io.Writer = io.Discard
	if os.Getenv("PARLEY_TEST_LOG") != "" {
		w = os.Stderr
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})).With("who", name)
}
