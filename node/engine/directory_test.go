package engine

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// TestLyingDirectory asks a rendezvous that lies for the keys of bob, while a
// message waits for them. Nothing is sealed to a key that is not bob's, the
// lie is noticed, and the truth told later sends the message.
func TestLyingDirectory(t *testing.T) {
	cases := []struct {
		name, notice string
		lie          func(w *world, f *wire.Found, mallory *node)
	}{
		{"another account under the name", NoticeNameSwapped, func(w *world, f *wire.Found, m *node) {
			f.Chain, f.Bundles = m.chain().Bytes(), []*wire.Bundle{w.home.bundle(m.device())}
		}},
		{"the account under another name", NoticeNameSwapped, func(_ *world, f *wire.Found, _ *node) { f.Name = "robert" }},
		{"our own name", NoticeNameSwapped, func(_ *world, f *wire.Found, _ *node) { f.Name = "alice" }},
		{"no name", NoticeBadAnswer, func(_ *world, f *wire.Found, _ *node) { f.Name = "" }},
		{"chain cut short", NoticeChainFork, func(w *world, f *wire.Found, _ *node) {
			f.Chain = f.Chain[:4+int(f.Chain[2])<<8+int(f.Chain[3])]
		}},
		{"no chain", NoticeBadAnswer, func(_ *world, f *wire.Found, _ *node) { f.Chain = nil }},
		{"broken signature", NoticeBadAnswer, func(_ *world, f *wire.Found, _ *node) {
			f.Chain = bytes.Clone(f.Chain)
			f.Chain[len(f.Chain)-1] ^= 1
		}},
		{"weaker RSA key", NoticeBadBundle, func(_ *world, f *wire.Found, _ *node) { f.Bundles[0].Rsa = f.Bundles[0].Rsa[:256] }},
		{"another RSA key", NoticeBadBundle, func(_ *world, f *wire.Found, _ *node) {
			f.Bundles[0].Rsa = bytes.Clone(f.Bundles[0].Rsa)
			f.Bundles[0].Rsa[100] ^= 1
		}},
		{"prekeys of another device", NoticeBadBundle, func(w *world, f *wire.Found, m *node) {
			own := f.Bundles[0].Device
			f.Bundles[0] = w.home.bundle(m.device())
			f.Bundles[0].Device = own
		}},
		{"one-time key of another device", NoticeBadBundle, func(w *world, f *wire.Found, m *node) {
			f.Bundles[0].OneTimeRecord = w.home.bundle(m.device()).OneTimeRecord
		}},
		{"kinds swapped", NoticeBadBundle, func(_ *world, f *wire.Found, _ *node) {
			f.Bundles[0].OneTimeRecord, f.Bundles[0].SignedRecord = f.Bundles[0].SignedRecord, f.Bundles[0].OneTimeRecord
		}},
		{"a device that is not in the chain", NoticeBadBundle, func(w *world, f *wire.Found, m *node) {
			f.Bundles[0] = w.home.bundle(m.device())
		}},
		{"expired prekey", NoticeBadBundle, func(w *world, f *wire.Found, _ *node) {
			bob := w.nodes[1].e.id
			old := w.now.Add(-20 * 24 * time.Hour)
			p, err := prekey.NewSigned(old, old.Add(prekey.SignedExpires), bob.Device, bob.DSK, w.rsa.Public().Hash())
			w.check(err)
			f.Bundles[0].SignedRecord = p.Record.Marshal()
		}},
	}
	origin, _, _ := pair(t)
	origin.add("mallory")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := origin.clone(t)
			a, b, mallory := w.nodes[0], w.nodes[1], w.nodes[2]
			a.loseSessions(b)
			b.away, b.offline = true, true
			sent := len(a.sent)
			w.home.tamper = func(f *wire.Found) {
				if f.Name == "bob" {
					c.lie(w, f, mallory)
				}
			}
			id := a.send(b, "secret")
			w.pass(5 * time.Minute)
			if len(a.sent) != sent || len(w.home.devices[mallory.device()].mail) != 0 {
				t.Fatal("something was sent")
			}
			if s := a.message(id).State; s != StateQueued {
				t.Fatalf("state %s", s)
			}
			notices := slices.DeleteFunc(a.events(KindNotice), func(ev Event) bool { return ev.Cause == NoticeLogChanged })
			if len(notices) != 1 || notices[0].Cause != c.notice {
				t.Fatalf("notices %+v, want one %s", notices, c.notice)
			}
			w.home.tamper = nil
			b.away, b.offline = false, false
			if _, stands := a.alarmOfLog(); stands { // the lie is in the log, for ever
				a.acceptLog()
			}
			w.pass(30 * time.Minute)
			if s := a.message(id).State; s != StateDelivered {
				t.Fatalf("state %s after the truth was told", s)
			}
			if got := texts(b.history(a)); !slices.Equal(got, []string{"secret"}) {
				t.Fatalf("received %q", got)
			}
		})
	}
}

// loseSessions forgets every session with another node.
func (n *node) loseSessions(other *node) {
	n.do(func(tx store.Tx) (Hint, error) {
		w, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return Hint{}, err
		}
		d, err := w.device(other.device())
		if err != nil {
			return Hint{}, err
		}
		for _, s := range slices.Clone(d.sessions) {
			if err := w.forgetSession(other.device(), d, s.ID, "test"); err != nil {
				return Hint{}, err
			}
		}
		return w.end()
	})
}

// A chain that forks after what is known is refused, even if every signature
// in it is good.
func TestForkedChain(t *testing.T) {
	w, a, b := pair(t)
	one, err := b.chain().RotateAIK(w.now, b.aik(), key.NewAccount())
	w.check(err)
	other, err := b.chain().RotateAIK(w.now, b.aik(), key.NewAccount())
	w.check(err)
	set := func(c *account.Chain) error {
		return a.update(func(tx store.Tx) (Hint, error) {
			return a.e.SetAccount(tx, w.now, w.now, w.home.prove(a, &wire.Found{Name: "bob", Chain: c.Bytes()}))
		})
	}
	w.check(set(one))
	w.check(set(one))
	for _, c := range []*account.Chain{other, b.chain()} {
		if err := set(c); !errors.Is(err, ErrChainFork) {
			t.Errorf("%v, want a fork", err)
		}
	}
}

func TestSecondAccountUnderAName(t *testing.T) {
	w, a, b := pair(t)
	mallory := w.add("mallory")
	err := a.update(func(tx store.Tx) (Hint, error) {
		return a.e.Add(tx, w.now, w.home.prove(a, &wire.Found{Name: "bob", Chain: mallory.chain().Bytes()}), "")
	})
	if !errors.Is(err, ErrNameSwapped) {
		t.Fatalf("%v", err)
	}
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Remove(tx, w.now, b.account()) })
	err = a.update(func(tx store.Tx) (Hint, error) {
		return a.e.Add(tx, w.now, w.home.prove(a, &wire.Found{Name: "bob", Chain: mallory.chain().Bytes()}), "")
	})
	if !errors.Is(err, ErrNameSwapped) {
		t.Fatalf("after removal: %v", err)
	}
}

func TestStaleDirectory(t *testing.T) {
	w, a, b := pair(t)
	a.offline = true
	stale := func() (list []protocol.AccountID) {
		a.view(func(tx store.Tx) (err error) {
			list, err = a.e.Stale(tx, w.now)
			return err
		})
		return slices.DeleteFunc(list, func(id protocol.AccountID) bool { return id == a.account() })
	}
	if len(stale()) != 0 {
		t.Error("a fresh record is stale")
	}
	w.now = w.now.Add(25 * time.Hour)
	if got := stale(); !slices.Equal(got, []protocol.AccountID{b.account()}) {
		t.Errorf("stale %v", got)
	}
	a.send(b, "still allowed")
	w.now = w.now.Add(30 * 24 * time.Hour)
	if err := a.trySend(b, protocol.NewMsgID(), "too old"); !errors.Is(err, ErrStaleDirectory) {
		t.Errorf("%v", err)
	}
	a.lookUp(b.account(), false)
	if len(stale()) != 0 || a.trySend(b, protocol.NewMsgID(), "again") != nil {
		t.Error("a look-up did not help")
	}
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Changed(tx, w.now, []protocol.AccountID{b.account()}) })
	if len(stale()) != 1 {
		t.Error("a changed record is not stale")
	}
}

func TestSecondDeviceAndRevocation(t *testing.T) {
	w, a, b := pair(t)
	b2 := w.addDevice(b)
	w.publish("bob", b2.chain())
	w.settle()
	if n := a.events(KindNotice); len(n) != 1 || n[0].Cause != NoticeDeviceAdded {
		t.Fatalf("notices %+v", n)
	}
	befriendDevice(w, b2, a)
	id := a.send(b, "to both")
	w.settle()
	for _, n := range []*node{b, b2} {
		if got := texts(n.history(a)); !slices.Equal(got, []string{"to both"}) {
			t.Fatalf("received %q", got)
		}
	}
	if s := a.message(id).State; s != StateDelivered {
		t.Fatalf("state %s", s)
	}

	b2.away, b2.offline = true, true
	queued := a.send(b, "before the revocation")
	chain, err := b2.chain().RevokeDevice(w.now, b.aik(), b2.device(), account.Lost, w.now)
	w.check(err)
	w.publish("bob", chain)
	w.settle()
	a.send(b, "after it")
	w.settle()
	mail := len(w.home.devices[b2.device()].mail)
	w.settle()
	if got := texts(b.history(a)); !slices.Equal(got, []string{"to both", "before the revocation", "after it"}) {
		t.Fatalf("received %q", got)
	}
	if s := a.message(queued).State; s != StateDelivered {
		t.Fatalf("state %s of a message that one device got", s)
	}
	if mail > 1 {
		t.Errorf("%d envelopes went to the revoked device", mail)
	}
	for _, table := range []byte{tableOut, tableKept, tableWaiting} {
		for _, pair := range a.rows(table) {
			if keyDeviceOf(pair.Key) == b2.device() {
				t.Error("something is left for the revoked device")
			}
		}
	}
}

// befriendDevice gives a device its contact, as syncing own devices would.
func befriendDevice(w *world, n, other *node) {
	f := n.found(other.name, false)
	n.do(func(tx store.Tx) (Hint, error) {
		if _, err := n.e.SetAccount(tx, w.now, w.now, f); err != nil {
			return Hint{}, err
		}
		x, err := n.e.begin(tx, w.now)
		if err != nil {
			return Hint{}, err
		}
		p, err := x.peer(other.account())
		if err != nil {
			return Hint{}, err
		}
		if err := x.relate(other.account(), p, Accepted, KindContact); err != nil {
			return Hint{}, err
		}
		return x.end()
	})
}

// A stranger's account that does not become a contact is forgotten, and there
// are never too many.
func TestVisitorsAreForgotten(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	rows := len(a.rows(tablePeer))
	chains := make([]*wire.Found, maxVisitors+1)
	for i := range chains {
		id, err := NewIdentityWith(w.now, "stranger", "", "", Home{}, w.rsa)
		w.check(err)
		chains[i] = &wire.Found{Name: "stranger_" + strconv.Itoa(i), Chain: id.Membership.Chain}
	}
	for i, f := range chains {
		err := a.update(func(tx store.Tx) (Hint, error) { return a.e.SetAccount(tx, w.now, w.now, w.home.prove(a, f)) })
		if full := i == maxVisitors; full != errors.Is(err, ErrTooMany) {
			t.Fatalf("stranger %d: %v", i, err)
		}
	}
	own := map[byte]int{tableChain: 1, tableCert: 1}
	w.pass(25 * time.Hour)
	if n := len(a.rows(tablePeer)); n != rows {
		t.Errorf("%d accounts are left", n)
	}
	for _, table := range []byte{tableChain, tableName, tableDevice, tableCert} {
		if n := len(a.rows(table)); n != own[table] {
			t.Errorf("%d rows are left in table %c", n, table)
		}
	}
	w.check(a.kv.Update(context.Background(), func(tx store.Tx) error {
		_, err := a.e.SetAccount(tx, w.now, w.now, w.home.prove(a, chains[maxVisitors]))
		return err
	}))
}
