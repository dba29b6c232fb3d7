package node_test

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/wire"
)

// The rendezvous lies about keys. Every lie ends in a refusal that says what
// happened; nothing is learnt of it, and nothing is sent to a false key.

// lied is alice, whom the rendezvous lies to, bob, her contact, with a second
// device that she has no session with yet, carol, and dave.
type lied struct {
	net                      *nodetest.Net
	alice, bob, phone, carol *nodetest.Person
	forger                   *forger
	toPhone                  atomic.Int64 // envelopes of alice for it that were brought

	mu     sync.Mutex
	lie    func(q *wire.Lookup, f *wire.Found) // changes what alice is answered; nil: the truth
	before map[string]*wire.Found              // the first answer about each name
	carols []byte                              // a one-time prekey
}

func newLied(t *testing.T) *lied {
	t.Helper()
	net := nodetest.New(t, 4)
	l := &lied{
		net: net, alice: net.People[0], bob: net.People[1], carol: net.People[2],
		forger: newForger(net), before: map[string]*wire.Found{},
	}
	net.Befriend(l.alice, l.bob)
	self := where(t, l.alice).ID
	var phone protocol.DeviceID
	net.Home.Lie(nodetest.Lie{Answer: func(to peer.ID, q *wire.Request, a *wire.Response) {
		l.forger.listen(q, a)
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, item := range q.GetPut().GetItems() {
			if to == self && bytes.Equal(item.GetDevice(), phone[:]) {
				l.toPhone.Add(1)
			}
		}
		f := a.GetFound()
		if l.before[f.GetName()] == nil {
			l.before[f.GetName()] = proto.Clone(f).(*wire.Found)
		}
		if to == self && f != nil && l.lie != nil {
			l.lie(q.GetLookup(), f)
		}
	}})
	l.phone = l.bob.Link("phone", false)
	l.mu.Lock()
	phone = deviceOf(t, l.phone)
	l.mu.Unlock()
	net.Wait("alice knows the new device", noticed(t, l.alice, engine.NoticeDeviceAdded))
	l.phone.Stop()
	net.Wait("the forger knows the log", l.forger.knowsAll)
	return l
}

func (l *lied) tell(lie func(q *wire.Lookup, f *wire.Found)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lie = lie
}

// Somebody else's keys, or a log that is not the one before, in an answer about
// bob, with whom alice is to open a session.
func TestLyingRendezvous(t *testing.T) {
	tests := map[string]struct {
		lie    func(t *testing.T, l *lied, q *wire.Lookup, f *wire.Found)
		notice string
		log    bool // the log is what is wrong: until the user accepts it nothing is sealed
	}{
		"another's prekey": {func(t *testing.T, l *lied, _ *wire.Lookup, f *wire.Found) {
			for _, b := range f.GetBundles() {
				b.OneTimeRecord = l.carols
			}
		}, engine.NoticeBadBundle, false},
		"another RSA key": {func(_ *testing.T, _ *lied, _ *wire.Lookup, f *wire.Found) {
			for _, b := range f.GetBundles() {
				b.Rsa = damaged(b.GetRsa(), 100)
			}
		}, engine.NoticeBadBundle, false},
		"a statement that bob did not sign": {func(_ *testing.T, _ *lied, _ *wire.Lookup, f *wire.Found) {
			f.Chain = damaged(f.GetChain(), len(f.GetChain())-1)
		}, engine.NoticeBadAnswer, false},
		"another account": {func(_ *testing.T, l *lied, _ *wire.Lookup, f *wire.Found) {
			f.Chain = l.before["carol"].GetChain()
		}, engine.NoticeBadAnswer, false},
		"another name": {func(_ *testing.T, l *lied, q *wire.Lookup, f *wire.Found) {
			f.Name = "carol"
		}, engine.NoticeNameSwapped, false},
		"an entry that was withdrawn": {func(t *testing.T, l *lied, q *wire.Lookup, f *wire.Found) {
			f.Inclusion = nil
		}, engine.NoticeUnproven, false},
		"an old checkpoint": {func(t *testing.T, l *lied, q *wire.Lookup, f *wire.Found) {
			l.forger.log().prove(t, f, q.GetLogSize(), time.Now().Add(-2*directory.MaxAge))
		}, engine.NoticeLogStale, false},
		"a log that was cut": {func(t *testing.T, l *lied, q *wire.Lookup, f *wire.Found) {
			log := l.forger.log()
			log.leaves = log.leaves[:len(log.leaves)-1]
			log.prove(t, f, 0, time.Now())
		}, engine.NoticeLogChanged, true},
		"a fork": {func(t *testing.T, l *lied, q *wire.Lookup, f *wire.Found) {
			log := l.forger.log()
			log.leaves[0].Account[0] ^= 1
			log.prove(t, f, q.GetLogSize(), time.Now())
		}, engine.NoticeLogChanged, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLied(t)
			if _, err := l.alice.Add(t.Context(), api.AddRequest{Name: "carol"}); err != nil { // so that she is known
				t.Fatal(err)
			}
			l.carol.Stop()
			l.carols = goneOneTime(t, l.carol)
			l.tell(func(q *wire.Lookup, f *wire.Found) {
				if f.GetName() == "bob" {
					tt.lie(t, l, q, f)
				}
			})
			sessions := len(entries(t, l.alice, ledger.Session, ledger.Created))
			m := l.alice.Say(l.bob, "for both")
			l.net.Wait("alice is told", noticed(t, l.alice, tt.notice))
			l.net.Wait("the trace says why it waits", waits(t, l.alice, m.ID))
			if n := len(entries(t, l.alice, ledger.Session, ledger.Created)); n != sessions || l.toPhone.Load() > 0 {
				t.Errorf("%d sessions more, %d envelopes for the phone", n-sessions, l.toPhone.Load())
			}
			if got := l.alarmed(t); got != tt.log {
				t.Errorf("alarm of the log: %v", got)
			}

			l.tell(nil)
			l.phone.Start()
			if tt.log {
				if _, err := l.alice.AcceptLog(t.Context(), api.AcceptRequest{N: 1}); err != nil {
					t.Fatal(err)
				}
			}
			l.net.Wait("the phone has it", has(l.phone, l.alice, "for both"))
		})
	}
}

// Bob revokes a device, and the rendezvous shows alice the chain from before, in
// a head from before, or in a new one, of a log that has the newer entry.
func TestHiddenRevocation(t *testing.T) {
	tests := map[string]struct {
		old    bool // the head
		notice string
	}{
		"with a new head":  {false, engine.NoticeWithheld},
		"with an old head": {true, engine.NoticeLogStale},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLied(t)
			l.tell(func(q *wire.Lookup, f *wire.Found) {
				log := l.forger.log()
				if f.GetName() != "bob" || bytes.Equal(f.GetChain(), l.before["bob"].GetChain()) {
					return
				}
				f.Chain, f.Bundles = l.before["bob"].GetChain(), nil
				if !tt.old {
					log.prove(t, f, q.GetLogSize(), time.Now())
					return
				}
				log.leaves = log.leaves[:len(log.leaves)-1]
				log.prove(t, f, min(q.GetLogSize(), uint64(len(log.leaves))), time.Now().Add(-2*directory.MaxAge))
			})
			if _, err := l.bob.RevokeDevice(t.Context(), "phone", "lost"); err != nil {
				t.Fatal(err)
			}
			l.net.Wait("alice is told", noticed(t, l.alice, tt.notice))
			m := l.alice.Say(l.bob, "not for the phone")
			l.net.Wait("the trace says why it waits", waits(t, l.alice, m.ID))
			if noticed(t, l.alice, engine.NoticeDeviceRevoked)() || l.toPhone.Load() > 0 {
				t.Errorf("%d envelopes were brought for the revoked device", l.toPhone.Load())
			}
			l.tell(nil)
			l.net.Wait("alice knows of the revocation", noticed(t, l.alice, engine.NoticeDeviceRevoked))
			l.net.Wait("bob has it", has(l.bob, l.alice, "not for the phone"))
			if n := l.toPhone.Load(); n > 0 {
				t.Errorf("%d envelopes were brought for the revoked device", n)
			}
		})
	}
}

// Alice asks for carol, whom she does not know, and is shown another account: one
// that the log does not have under that name, or has as a second one.
func TestFalseAccountAtFirstSight(t *testing.T) {
	for name, inLog := range map[string]bool{"not in the log": false, "a second account of that name": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLied(t)
			if _, err := l.bob.Add(t.Context(), api.AddRequest{Name: "dave"}); err != nil { // so that the liar has his chain
				t.Fatal(err)
			}
			notice := engine.NoticeUnproven
			if inLog {
				notice = engine.NoticeLogChanged
			}
			l.tell(func(q *wire.Lookup, f *wire.Found) {
				log := l.forger.log()
				f.Chain, f.Bundles = l.before["dave"].GetChain(), nil
				if inLog {
					chain, err := account.ParseChain(f.GetChain())
					if err != nil {
						t.Error(err)
						return
					}
					log.leaves = append(log.leaves, l.forger.leafOf("carol", chain))
				}
				log.prove(t, f, q.GetLogSize(), time.Now())
			})
			if _, err := l.alice.Add(t.Context(), api.AddRequest{Name: "carol"}); codeOf(err) != api.ErrRefused {
				t.Errorf("%v", err)
			}
			if r := l.alice.Contact("carol").Relation; r != "" {
				t.Errorf("carol is %q", r)
			}
			l.net.Wait("alice is told", noticed(t, l.alice, notice))
		})
	}
}

// alarmed tells whether alice's status says that the log is wrong.
func (l *lied) alarmed(t *testing.T) bool {
	t.Helper()
	status, err := l.alice.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range status.Problems {
		if strings.Contains(p.Text, "log") {
			return true
		}
	}
	return false
}
