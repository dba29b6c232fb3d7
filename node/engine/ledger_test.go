package engine

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/store"
)

func (n *node) ledger() (list []ledger.Entry) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		for {
			page, err := n.e.Ledger(tx, uint64(len(list)), 1000)
			if err != nil || len(page) == 0 {
				return err
			}
			list = append(list, page...)
		}
	})
	return list
}

func (n *node) verifyLedger() (err error) {
	n.view(func(tx store.Tx) error {
		err = n.e.VerifyLedger(tx)
		return nil
	})
	return err
}

// acts collects what the ledger says of each kind of key.
func acts(list []ledger.Entry) map[ledger.Kind][]ledger.Act {
	all := map[ledger.Kind][]ledger.Act{}
	for _, e := range list {
		if !slices.Contains(all[e.Kind], e.What) {
			all[e.Kind] = append(all[e.Kind], e.What)
		}
	}
	return all
}

// The ledger tells the whole life of every kind of key, and holds no secret.
func TestKLC12_LedgerTellsEveryLife(t *testing.T) {
	w, a, b := pair(t)
	a.send(b, "begins a session")
	w.settle()
	privates := b.privates()
	b.rotate(RotateAll)
	w.now = w.now.Add(time.Minute)
	b.addRSA(keytest.RSA(t, 1))
	b.send(a, "on a new session")
	w.settle()
	for range protocol.MaxSessions + 1 { // the oldest go
		w.now = w.now.Add(time.Minute)
		b.rotate(RotateSessions)
		b.send(a, "again")
		w.pass(time.Minute)
	}
	w.pass(prekey.SignedKeep + 24*time.Hour)
	privates = append(privates, b.privates()...)

	got := acts(b.ledger())
	for kind, want := range map[ledger.Kind][]ledger.Act{
		ledger.Account: {ledger.Created}, ledger.Recovery: {ledger.Created}, ledger.Signing: {ledger.Created},
		ledger.Identity: {ledger.Created}, ledger.Host: {ledger.Created}, ledger.Certificate: {ledger.Created},
		ledger.RSA:     {ledger.Created, ledger.Published, ledger.Replaced, ledger.Destroyed},
		ledger.Signed:  {ledger.Created, ledger.Published, ledger.Used, ledger.Replaced, ledger.Destroyed},
		ledger.OneTime: {ledger.Created, ledger.Published, ledger.Used, ledger.Destroyed},
		ledger.Session: {ledger.Created, ledger.Used, ledger.LastUsed, ledger.Destroyed},
	} {
		for _, act := range want {
			if !slices.Contains(got[kind], act) {
				t.Errorf("%s: no entry says %s, only %v", kind, act, got[kind])
			}
		}
	}
	for _, row := range b.rows(tableLedger) {
		for _, secret := range privates {
			for at := 0; at+8 <= len(secret); at += 8 {
				if bytes.Contains(row.Value, secret[at:at+8]) {
					t.Fatalf("entry %d holds a part of a private key", keyNumber(row.Key))
				}
			}
		}
	}
	if err := b.verifyLedger(); err != nil {
		t.Error(err)
	}
}

// privates are the private keys in the store.
func (n *node) privates() (list [][]byte) {
	id := n.e.Identity()
	list = append(list, id.DSK.Bytes(), id.DIK.Bytes(), id.Host.Seed(), n.rsaKey().Bytes(), n.recovery().Bytes())
	for _, table := range []byte{tableSigned, tableOneTime} {
		for _, row := range n.rows(table) {
			r, err := decodeRow[pairRow](row.Value)
			n.w.check(err)
			list = append(list, r.pair[len(r.pair)-96:])
		}
	}
	for _, row := range n.rows(tableAccountKey) {
		r, err := decodeRow[accountKeyRow](row.Value)
		n.w.check(err)
		list = append(list, r.private)
	}
	return list
}

// An entry of the store that was changed, cut out or doubled is found and named.
func TestKLC12_DamagedLedgerIsFound(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	if n := len(a.ledger()); n < 100 {
		t.Fatalf("%d entries", n)
	}
	last := uint64(len(a.ledger()))
	edit := func(tx store.Tx) error {
		r, _, err := load[ledgerRow](tx, keyLedger(10))
		if err != nil {
			return err
		}
		e, err := r.parse()
		e.Reason = "something else"
		r.entry = e.Encode()
		return errors.Join(err, tx.Set(keyLedger(10), r.encode()))
	}
	rehash := func(tx store.Tx) error { // as somebody would who knows how
		before, _, err1 := load[ledgerRow](tx, keyLedger(9))
		r, _, err2 := load[ledgerRow](tx, keyLedger(10))
		e, err3 := r.parse()
		e.Reason = "something else"
		r = ledgerRow{hash: e.After(before.hash), entry: e.Encode()}
		return errors.Join(err1, err2, err3, tx.Set(keyLedger(10), r.encode()))
	}
	move := func(tx store.Tx) error {
		b, err := tx.Get(keyLedger(11))
		return errors.Join(err, tx.Set(keyLedger(10), b))
	}
	for name, test := range map[string]struct {
		fn func(store.Tx) error
		n  uint64
	}{
		"edited":           {edit, 10},
		"edited, rehashed": {rehash, 11},
		"another moved in": {move, 10},
		"cut out":          {func(tx store.Tx) error { return tx.Delete(keyLedger(10)) }, 10},
		"end cut":          {func(tx store.Tx) error { return tx.Delete(keyLedger(last)) }, last},
		"start cut":        {func(tx store.Tx) error { return tx.Delete(keyLedger(1)) }, 1},
	} {
		n := &node{w: w, name: name, kv: a.copyStore()}
		n.load()
		if err := n.verifyLedger(); err != nil {
			t.Fatal(err)
		}
		w.check(n.kv.Update(context.Background(), test.fn))
		broken, ok := errors.AsType[*ledger.Broken](n.verifyLedger())
		if !ok || broken.N != test.n {
			t.Errorf("%s: %v, want entry %d", name, broken, test.n)
		}
		var checks []KeyCheck
		n.view(func(tx store.Tx) (err error) {
			checks, err = n.e.CheckKeys(tx, w.now)
			return err
		})
		if !slices.ContainsFunc(checks, func(c KeyCheck) bool { return c.Name == "ledger" && c.Fatal }) {
			t.Errorf("%s: the check does not see it: %+v", name, checks)
		}
	}
}

// The checks find nothing in a healthy store, and name what is damaged.
func TestCheckKeys(t *testing.T) {
	w, a, b := pair(t)
	a.send(b, "hello")
	w.settle()
	problems := func(n *node) (names []string) {
		n.view(func(tx store.Tx) error {
			checks, err := n.e.CheckKeys(tx, w.now)
			for _, c := range checks {
				if c.Problem != "" {
					names = append(names, c.Name)
				}
			}
			return err
		})
		return names
	}
	if got := problems(b); got != nil {
		t.Fatalf("a healthy store: %v", got)
	}
	for table, want := range map[byte]string{tableSigned: "signed prekey", tableRSA: "signed prekey"} {
		n := &node{w: w, name: "damaged", kv: b.copyStore()}
		n.load()
		n.drop(table)
		if got := problems(n); !slices.Equal(got, []string{want}) {
			t.Errorf("without table %c: %v", table, got)
		}
	}
	w.now = w.now.Add(certLife)
	if got := problems(b); !slices.Contains(got, "certificate") || !slices.Contains(got, "signed prekey") {
		t.Errorf("after a year: %v", got)
	}
}
