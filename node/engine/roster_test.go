package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/store"
)

// Keys of the store are not sealed: neither names nor texts may be in them.
func TestKeysHoldNoNamesOrTexts(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("quicksilver_alice"), w.add("quicksilver_bob")
	w.befriend(a, b)
	a.send(b, "quicksilver text")
	b.away = true
	a.send(b, "quicksilver late")
	w.settle()
	for _, n := range w.nodes {
		w.check(n.kv.View(context.Background(), func(tx store.Tx) error {
			for pair, err := range tx.Scan([]byte{0}, nil) {
				if err != nil {
					return err
				}
				if bytes.Contains(pair.Key, []byte("quicksilver")) {
					t.Errorf("key %q", pair.Key)
				}
			}
			return nil
		}))
	}
	a.view(func(tx store.Tx) error {
		c, err := a.e.ContactByName(tx, "quicksilver_bob")
		if err != nil || c.Account != b.account() {
			t.Errorf("%v", err)
		}
		if _, err := a.e.ContactByName(tx, "nobody"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		return nil
	})
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"": false, "ab": false, "abc": true, "a_1": true, "Abc": false, "a b": false, "аlice": false,
		strings.Repeat("x", 32): true, strings.Repeat("x", 33): false,
	} {
		if (ValidName(name) == nil) != ok {
			t.Errorf("name %q", name)
		}
	}
	for in, want := range map[string]string{"": "", " Bob  B ": "Bob B", "日本": "日本"} {
		if got, err := CleanDisplay(in); err != nil || got != want {
			t.Errorf("display %q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"a\x1b[31m", "x\u202ey", "\xff", "   ", strings.Repeat("x", 65), strings.Repeat("x", 1<<20)} {
		if got, err := CleanDisplay(in); err == nil {
			t.Errorf("display %q is %q", in, got)
		}
	}
}

func TestPeers(t *testing.T) {
	w, a, _ := pair(t)
	c := w.add("carol")
	a.ask(c)
	a.view(func(tx store.Tx) error {
		peers, err := a.e.Peers(tx)
		if err != nil || len(peers) != 2 {
			t.Fatalf("%v, %v", peers, err)
		}
		for _, p := range peers {
			n := w.nodeOf(p.Device)
			if p.Account != n.account() || !bytes.Equal(p.PeerID, n.self().Cert.PeerID) {
				t.Errorf("%+v", p)
			}
		}
		return nil
	})
}

func TestEventsAndHistoryPages(t *testing.T) {
	w, a, b := pair(t)
	for i := range 25 {
		a.send(b, fmt.Sprint(i))
	}
	w.settle()
	b.view(func(tx store.Tx) error {
		page, err := b.e.History(tx, a.account(), 0, 10)
		if err != nil || texts(page)[0] != "15" || texts(page)[9] != "24" {
			t.Errorf("newest page %q, %v", texts(page), err)
		}
		page, err = b.e.History(tx, a.account(), page[0].Position, 10)
		if err != nil || texts(page)[0] != "5" || texts(page)[9] != "14" {
			t.Errorf("page before %q, %v", texts(page), err)
		}
		last, err := b.e.LastEvent(tx)
		if err != nil {
			return err
		}
		list, err := b.e.Events(tx, last-3, 10)
		if err != nil || len(list) != 3 || list[0].Seq != last-2 {
			t.Errorf("%d events after %d: %v", len(list), last-3, err)
		}
		return err
	})
	m := a.history(b)[3]
	a.view(func(tx store.Tx) error {
		for _, n := range []int{6, 7, 8, 13, 26} {
			if id, err := a.e.FindMessage(tx, m.ID.String()[:n]); err != nil || id != m.ID {
				t.Errorf("%d characters: %v, %v", n, id, err)
			}
		}
		for _, bad := range []string{"", "abc", "zzzzzz!!", "aaaaaaaaaaaaaaaaaaaaaaaaaa"} {
			if _, err := a.e.FindMessage(tx, bad); !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		return nil
	})
}
