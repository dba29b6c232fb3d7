package engine

import (
	"bytes"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func (n *node) give(to protocol.DeviceID, nonce byte) (b *wire.Bundle, err error) {
	n.w.t.Helper()
	err = n.update(func(tx store.Tx) (h Hint, err error) {
		b, err = n.e.GiveBundle(tx, n.w.now, to, bytes.Repeat([]byte{nonce}, 16))
		return h, err
	})
	return b, err
}

func (n *node) wantedOf(other *node) (list []protocol.DeviceID) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		list, err = n.e.WantedOf(tx, n.w.now, other.account())
		return err
	})
	return list
}

func (n *node) setBundles(of *node, bundles ...*wire.Bundle) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.SetBundles(tx, n.w.now, of.account(), bundles) })
}

// A session begins with a prekey of the device itself: nothing is taken off the
// published stock, and no rendezvous is needed.
func TestSessionWithoutRendezvous(t *testing.T) {
	w, a, b := pair(t)
	w.pass(time.Minute)
	a.offline, b.offline = true, true
	published := len(b.shelf().oneTime)
	if list := a.wantedOf(b); list != nil {
		t.Errorf("wanted although there is a session: %v", list)
	}
	a.loseSessions(b)
	id := a.send(b, "no rendezvous needed")
	if list := a.wantedOf(b); len(list) != 1 || list[0] != b.device() {
		t.Fatalf("wanted: %v", list)
	}
	bundle, err := b.give(a.device(), 1)
	w.check(err)
	again, err := b.give(a.device(), 1)
	w.check(err)
	if !bytes.Equal(bundle.OneTimeRecord, again.OneTimeRecord) || len(bundle.OneTimeRecord) == 0 {
		t.Error("the same question got another answer")
	}
	w.check(a.setBundles(b, bundle))
	w.settle()
	if m := a.message(id); m.State != StateDelivered || len(b.history(a)) != 1 {
		t.Errorf("the message is %s", m.State)
	}
	if a.wantedOf(b) != nil || len(b.shelf().oneTime) != published {
		t.Error("still wanted, or a published key was used")
	}
	record, err := prekey.Parse(bundle.OneTimeRecord)
	w.check(err)
	for _, row := range b.rows(tableOneTime) {
		if protocol.PrekeyID(row.Key[1:]) == record.ID() {
			t.Error("the private half is still there")
		}
	}
	if other, err := b.give(a.device(), 1); err != nil || bytes.Equal(other.OneTimeRecord, bundle.OneTimeRecord) {
		t.Errorf("a used prekey is given again: %v", err)
	}
}

// Prekeys are given to devices of contacts, few of them, and kept like others.
func TestGiveBundleIsBounded(t *testing.T) {
	w, a, b := pair(t)
	c := w.add("carol")
	w.settle()
	code := func(err error) protocol.Code { return protocol.CodeOf(err) }
	if _, err := b.give(c.device(), 1); code(err) != protocol.NotContact {
		t.Errorf("a stranger: %v", err)
	}
	c.ask(b)
	w.settle()
	if _, err := b.give(c.device(), 1); code(err) != protocol.NotContact {
		t.Errorf("somebody who asked to be a contact: %v", err)
	}
	err := b.update(func(tx store.Tx) (Hint, error) {
		_, err := b.e.GiveBundle(tx, w.now, a.device(), []byte("short"))
		return Hint{}, err
	})
	if code(err) != protocol.BadRequest {
		t.Errorf("a short nonce: %v", err)
	}
	before := len(b.rows(tableOneTime))
	for i := range 6 {
		if _, err := b.give(a.device(), byte(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.give(a.device(), 7); code(err) != protocol.RateLimited {
		t.Errorf("the seventh: %v", err)
	}
	if n := len(b.rows(tableOneTime)); n != before+6 {
		t.Errorf("%d private halves more", n-before)
	}
	w.now = w.now.Add(10 * time.Minute)
	if _, err := b.give(a.device(), 7); err != nil {
		t.Errorf("later: %v", err)
	}
	w.pass(prekey.OneTimeKeep + 24*time.Hour)
	if n := len(b.rows(tableOneTime)); n > 2*protocol.PrekeyStock {
		t.Errorf("%d private halves are kept", n)
	}
	b.do(func(tx store.Tx) (Hint, error) { return b.e.Block(tx, w.now, a.account()) })
	if _, err := b.give(a.device(), 8); code(err) != protocol.NotContact {
		t.Errorf("a blocked contact: %v", err)
	}
}

// What is known of the account must be fresh: else one of its devices may have
// been revoked, and the rendezvous is asked.
func TestBundlesNeedFreshRecord(t *testing.T) {
	w, a, b := pair(t)
	w.settle()
	bundle, err := b.give(a.device(), 1)
	w.check(err)
	a.loseSessions(b)
	a.offline = true
	a.send(b, "waits")
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Changed(tx, w.now, []protocol.AccountID{b.account()}) })
	if list := a.wantedOf(b); list != nil {
		t.Errorf("changed: %v", list)
	}
	if err := a.setBundles(b, bundle); err != ErrStaleDirectory {
		t.Errorf("changed: %v", err)
	}
	a.lookUp(b.account(), false)
	w.now = w.now.Add(refreshAfter + time.Minute)
	if err := a.setBundles(b, bundle); err != ErrStaleDirectory {
		t.Errorf("after a day: %v", err)
	}
	a.lookUp(b.account(), false)
	bad := &wire.Bundle{Device: bundle.Device, SignedRecord: bundle.SignedRecord, Rsa: w.rsa.Public().Bytes(), OneTimeRecord: a.shelf().oneTime[0]}
	w.check(a.setBundles(b, bad))
	w.settle()
	if len(b.history(a)) != 0 {
		t.Error("something was sealed to a bundle that does not verify")
	}
	w.check(a.setBundles(b, bundle))
	w.settle()
	if len(b.history(a)) != 1 {
		t.Error("the good bundle was not used")
	}
}
