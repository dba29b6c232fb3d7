package node_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// staleKey is alice, and a new device of bob, which is away. Her message to it is
// sealed to a one-time prekey that it has not: the rendezvous gave it to her, and
// neither takes nor gives mail now.
type staleKey struct {
	net        *nodetest.Net
	alice, bob *nodetest.Person
	id         string // of the message, "text"
	lookups    *atomic.Int32
}

func newStaleKey(t *testing.T, lan bool) staleKey {
	t.Helper()
	net := nodetest.NewWith(t, 2, nodetest.Options{Node: func(_ int, c *node.Config) {
		if lan {
			c.Listen, c.LAN = everywhere, true
		}
	}})
	k := staleKey{net: net, alice: net.People[0], lookups: &atomic.Int32{}}
	net.Befriend(k.alice, net.People[1])
	k.bob = net.People[1].Link("phone", false)
	net.Wait("alice knows the new device", noticed(t, k.alice, engine.NoticeDeviceAdded))
	k.bob.Config.Listen, k.bob.Config.LAN = net.People[1].Config.Listen, lan
	k.bob.Stop()
	gone := goneOneTime(t, k.bob)
	self := where(t, k.alice).ID
	net.Home.Lie(nodetest.Lie{Answer: func(to peer.ID, q *wire.Request, a *wire.Response) {
		switch {
		case q.GetFetch() != nil: // what alice put is there
			a.Result = &wire.Response_Mail{Mail: &wire.Mail{}}
		case to != self:
		case q.GetPut() != nil:
			a.Code, a.Result = uint32(protocol.Unavailable), nil
		case q.GetLookup() != nil:
			k.lookups.Add(1)
			for _, b := range a.GetFound().GetBundles() {
				b.OneTimeRecord = gone
			}
		}
	}})
	opened := len(entries(t, k.alice, ledger.Session, ledger.Created))
	k.id = k.alice.Say(k.bob, "text").ID
	net.Wait("alice has a session with it", func() bool { return len(entries(t, k.alice, ledger.Session, ledger.Created)) > opened })
	return k
}

// goneOneTime is a one-time prekey that somebody signed and has lost.
func goneOneTime(t *testing.T, p *nodetest.Person) []byte {
	t.Helper()
	var record []byte
	err := p.WithStore(func(tx store.Tx) error {
		e, err := engine.Load(tx)
		if err != nil {
			return err
		}
		pair, err := prekey.NewOneTime(time.Now(), time.Now().Add(24*time.Hour), e.Identity().Device, e.Identity().DSK)
		record = pair.Record.Marshal()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// A message was sealed to a key that is gone. Bob's device says so, gives another
// with it, and has the message, once, without anybody asking the rendezvous,
// which may be there or not.
func TestIM14_StaleKey(t *testing.T) {
	for name, away := range map[string]bool{"with a rendezvous": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			if away {
				needMulticast(t)
			}
			k := newStaleKey(t, away)
			if away {
				k.net.Home.Stop()
			}
			lookups := k.lookups.Load()
			k.bob.Start()
			if !away { // she has just tried to reach him, and would not soon again
				k.net.Wait("bob is up", k.bob.Up)
				k.alice.Stop()
				lookups = k.lookups.Load()
				k.alice.Start()
			}
			k.net.Wait("bob has it", has(k.bob, k.alice, "text"))
			if got := k.lookups.Load(); got != lookups {
				t.Errorf("the rendezvous was asked %d times", got-lookups)
			}
			given := entries(t, k.bob, ledger.OneTime, ledger.Claimed)
			if !slices.ContainsFunc(given, func(e ledger.Entry) bool { return e.Reason != "handed out by the rendezvous" }) {
				t.Error("bob gave no key of his own")
			}
			k.alice.Say(k.bob, "and on")
			k.net.Wait("they go on", has(k.bob, k.alice, "text", "and on"))
		})
	}
}

// Somebody in the place of bob's device repeats one refusal for ever, with the
// keys that came with it. Alice opens few sessions and sends little; of keys that
// are refused again and again her user is told. What was refused comes to bob
// himself, once.
func TestIM14_RefusalRepeatedForEver(t *testing.T) {
	for code, told := range map[protocol.Code]bool{protocol.StaleKey: true, protocol.NotContact: false} {
		t.Run(code.String(), func(t *testing.T) {
			k := newStaleKey(t, false)
			liar := &refuser{code: code, bundle: ownBundle(t, k.bob, k.alice)}
			h := bareHost(t, hostKey(t, k.bob))
			h.SetStreamHandler(protocol.MsgProtocol, liar.refuse)
			if err := h.Connect(t.Context(), where(t, k.alice)); err != nil {
				t.Fatal(err)
			}
			k.net.Wait("alice gives up for now", func() bool { return liar.ended.Load() > 0 })
			if n, sent := liar.count(); n > 7 || sent > 20 {
				t.Errorf("%d sessions, %d envelopes", n, sent)
			}
			if told {
				k.net.Wait("alice is told", func() bool { return notices(t, k.alice, engine.NoticeKeysRefused) > 0 })
			}
			k.net.Wait("the trace says why it waits", waits(t, k.alice, k.id))
			h.Close()
			k.net.Home.Lie(nodetest.Lie{})
			k.alice.Stop()
			k.bob.Start()
			k.alice.Start()
			k.net.Wait("bob has it, once", has(k.bob, k.alice, "text"))
		})
	}
}

// refuser answers every envelope in the same way.
type refuser struct {
	code   protocol.Code
	bundle *wire.Bundle
	ended  atomic.Int32 // streams that the sender ended

	mu       sync.Mutex
	sent     int
	sessions map[protocol.SessionID]bool // that began
}

func (r *refuser) refuse(s network.Stream) {
	defer r.ended.Add(1)
	defer s.Reset()
	for {
		frame := &wire.Deliver{}
		if wire.ReadMsg(s, frame) != nil {
			return
		}
		answer := &wire.Delivered{Bundle: r.bundle}
		for range frame.GetEnvelopes() {
			answer.Codes = append(answer.Codes, uint32(r.code))
		}
		r.note(frame.GetEnvelopes())
		if wire.WriteMsg(s, answer) != nil {
			return
		}
	}
}

func (r *refuser) note(envs [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions == nil {
		r.sessions = map[protocol.SessionID]bool{}
	}
	r.sent += len(envs)
	for _, env := range envs {
		if id, opens, err := session.PeekSession(env); err == nil && opens {
			r.sessions[id] = true
		}
	}
}

func (r *refuser) count() (sessions, envelopes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions), r.sent
}

// ownBundle is what somebody's device, which does not run, gives another.
func ownBundle(t *testing.T, of, to *nodetest.Person) (b *wire.Bundle) {
	t.Helper()
	id := deviceOf(t, to)
	err := of.WithStore(func(tx store.Tx) error {
		e, err := engine.Load(tx)
		if err != nil {
			return err
		}
		b, err = e.GiveBundle(tx, time.Now(), id, make([]byte, 16))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
