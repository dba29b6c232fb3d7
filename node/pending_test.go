package node_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// pendingOf returns what is stored about a device on its way; nil if nothing is.
func pendingOf(t *testing.T, p *nodetest.Person) (pending *engine.Pending) {
	t.Helper()
	err := p.WithStore(func(tx store.Tx) (err error) {
		pending, err = engine.GetPending(tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pending
}

// given is what a running link leaves behind when the process dies right after
// the other device gave the account; member is the same for the engine.
func given(t *testing.T, from *nodetest.Person) (pending *engine.Pending, member engine.Membership) {
	t.Helper()
	newcomer, err := engine.NewNewcomerWith(time.Now(), "desk", keytest.RSA(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	err = from.WithStore(func(tx store.Tx) error {
		e, err := engine.Load(tx)
		if err != nil {
			return err
		}
		chain, err := e.OwnChain(tx)
		if err != nil {
			return err
		}
		if member, err = e.Membership(tx); err != nil {
			return err
		}
		chain, err = engine.CertifyDevice(time.Now(), chain, member.AIK, newcomer.Request())
		if err == nil {
			member.Chain = chain.Bytes()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := proto.Marshal(&wire.Membership{
		Name: member.Name, Display: member.Display, HomePeer: member.Home.Peer, HomeAddrs: member.Home.Addrs,
		Chain: member.Chain, AccountKey: member.AIK.Bytes(), Contacts: member.Contacts,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &engine.Pending{Newcomer: newcomer, Given: text}, member
}

// A link that was cut off after the other device gave the account goes on at
// the next start, wherever it had got to.
func TestLinkGoesOn(t *testing.T) {
	for name, filled := range map[string]bool{"nothing filled": false, "without the contacts": true} {
		t.Run(name, func(t *testing.T) {
			net := nodetest.New(t, 2)
			alice, bob := net.People[0], net.People[1]
			net.Befriend(alice, bob)
			alice.Stop()
			desk, _ := machine(t, net, "desk")
			pending, member := given(t, alice)
			err := desk.WithStore(func(tx store.Tx) error {
				err := engine.SetPending(tx, pending)
				if filled {
					member.Contacts = nil
					err = errors.Join(err, engine.InitMember(tx, time.Now(), pending.Newcomer, member))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			desk.Start()
			if who := desk.Whoami(); who.Name != "alice" {
				t.Errorf("it is %+v", who)
			}
			if c := desk.Contact("bob"); c.Name != "bob" {
				t.Errorf("bob is %+v", c)
			}
			desk.Stop()
			if pendingOf(t, desk) != nil {
				t.Error("it is still pending")
			}
		})
	}
}

// A link that got nowhere is in nobody's way: the same folder may restore with
// the same keys, or join as somebody new.
func TestLinkThatFailed(t *testing.T) {
	net := nodetest.New(t, 1)
	desk, enter := machine(t, net, "desk")
	keys := string(pendingOf(t, desk).Newcomer.Request().Marshal())
	link := node.LinkParams{Dir: enter.Dir, Secret: enter.Secret, Code: "1234-able-about-above", Home: net.Home.Invite(), DeviceName: "desk", Log: enter.Log}
	if _, err := node.Link(t.Context(), link); err == nil {
		t.Fatal("linked by a code of nobody")
	}
	if got := pendingOf(t, desk); got == nil || string(got.Newcomer.Request().Marshal()) != keys {
		t.Error("the keys are not those of the first attempt")
	}
	join := node.JoinParams{Dir: enter.Dir, Secret: enter.Secret, Invite: net.Home.Invite(), Name: "carol", DeviceName: "desk", Log: enter.Log}
	if who, err := node.Join(t.Context(), join); err != nil || who.Name != "carol" || pendingOf(t, desk) != nil {
		t.Errorf("joined as %+v, %v", who, err)
	}
}

// A folder that asked to be restored is not linked.
func TestLinkIsNoRestore(t *testing.T) {
	net := nodetest.New(t, 0)
	desk, enter := machine(t, net, "desk")
	err := desk.WithStore(func(tx store.Tx) error {
		p, err := engine.GetPending(tx)
		p.Chain = []byte("asked")
		return errors.Join(err, engine.SetPending(tx, p))
	})
	if err != nil {
		t.Fatal(err)
	}
	link := node.LinkParams{Dir: enter.Dir, Secret: enter.Secret, Code: "1234-able-about-above", Home: net.Home.Invite(), DeviceName: "desk", Log: enter.Log}
	if _, err := node.Link(t.Context(), link); !errors.Is(err, node.ErrEntering) {
		t.Errorf("linked into a folder where a restore has begun: %v", err)
	}
}
