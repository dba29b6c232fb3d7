package node_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
	"github.com/parley-chat/parley/store/memory"
)

// sealedRows returns what the store of a person whose node does not run holds
// of private keys and sessions, sealed as it is on disk.
func sealedRows(t *testing.T, p *nodetest.Person) (rows []store.Pair) {
	t.Helper()
	db, err := badger.Open(badger.Options{Dir: filepath.Join(p.Config.Dir, "store"), Log: p.Config.Log})
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(t.Context(), func(tx store.Tx) error {
		for pair, err := range tx.Scan(nil, nil) {
			if err != nil {
				return err
			}
			if engine.Ephemeral(pair.Key) {
				rows = append(rows, pair)
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return rows
}

// opening counts how many of the rows somebody opens who has the secret and the
// data directory as it is now.
func opening(t *testing.T, p *nodetest.Person, rows []store.Pair) (n int) {
	t.Helper()
	v, err := vault.Open(p.Config.Dir, p.Config.Secret)
	if err != nil {
		t.Fatal(err)
	}
	below := memory.New()
	kv, err := v.Seal(below, engine.Ephemeral)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if err := below.Update(t.Context(), func(tx store.Tx) error { return tx.Set(row.Key, row.Value) }); err != nil {
			t.Fatal(err)
		}
		err := kv.View(t.Context(), func(tx store.Tx) error {
			_, err := tx.Get(row.Key)
			return err
		})
		if err == nil {
			n++
		} else if !errors.Is(err, store.ErrDamaged) {
			t.Fatal(err)
		}
	}
	return n
}

// A node that starts gives its wrap key up, and goes on talking: what was on
// its disk before, of private keys and sessions, nobody opens any more.
func TestKLC06_StartingANodeShredsWhatWasBefore(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	net.Wait("delivered", reached(alice, alice.Say(bob, "before").ID, api.Delivered))
	wrap := filepath.Join(alice.Config.Dir, "wrap")
	alice.Stop()
	before := sealedRows(t, alice)
	if n := opening(t, alice, before); n < 50 || n != len(before) {
		t.Fatalf("%d of %d rows open before", n, len(before))
	}
	old, err := os.ReadFile(wrap)
	if err != nil {
		t.Fatal(err)
	}
	alice.Start()
	net.Wait("the wrap key is replaced", func() bool {
		now, err := os.ReadFile(wrap)
		return err == nil && string(now) != string(old) && len(now) == len(old) // longer while both keys are there
	})
	net.Wait("delivered", reached(alice, alice.Say(bob, "after").ID, api.Delivered))
	net.Wait("answered", reached(bob, bob.Say(alice, "answer").ID, api.Delivered))
	alice.Stop()
	if n := opening(t, alice, before); n > 0 {
		t.Errorf("%d of %d rows of before still open", n, len(before))
	}
	after := sealedRows(t, alice)
	if n := opening(t, alice, after); n != len(after) {
		t.Errorf("%d of %d rows open", n, len(after))
	}
	for _, row := range after {
		if binary.BigEndian.Uint16(row.Value[1:]) == 0 {
			t.Errorf("row %x is under the master's own key", row.Key)
		}
	}
}

func TestKLC11_ChangeSecretNeedsTheNodeDown(t *testing.T) {
	net := nodetest.New(t, 1)
	alice := net.People[0]
	to := vault.FromPassphrase([]byte("correct horse"))
	if err := node.ChangeSecret(alice.Config.Dir, alice.Config.Secret, to, alice.Config.Log); !errors.Is(err, store.ErrLocked) {
		t.Errorf("while it runs: %v", err)
	}
	alice.Stop()
	if err := node.ChangeSecret(alice.Config.Dir, to, to, alice.Config.Log); !errors.Is(err, vault.ErrWrongSecret) {
		t.Errorf("with the wrong secret: %v", err)
	}
	if err := node.ChangeSecret(alice.Config.Dir, alice.Config.Secret, to, alice.Config.Log); err != nil {
		t.Fatal(err)
	}
	alice.Config.Secret = to
	alice.Start()
	net.Wait("alice is up", alice.Up)
}
