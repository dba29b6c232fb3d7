package embedded_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
	"github.com/parley-chat/parley/store/embedded"
	"github.com/parley-chat/parley/store/memory"
	"github.com/parley-chat/parley/store/storetest"
)

func openBadger(dir string) (store.KV, error) {
	return badger.Open(badger.Options{Dir: dir, Ballast: -1, Log: slog.New(slog.DiscardHandler)})
}

func over(kv store.KV) (store.Rendezvous, error) { return embedded.New(context.Background(), kv) }

func mustOver(t testing.TB, kv store.KV) store.Rendezvous {
	t.Helper()
	t.Cleanup(func() { kv.Close() })
	r, err := over(kv)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var (
	claims  = storetest.Claims(over)
	letters = storetest.Letters(over)
	chains  = storetest.Chains(over)
	entries = storetest.Entries(over)
	deeds   = storetest.Deeds(over)
	rooms   = storetest.Rooms(over)
)

func TestMain(m *testing.M) {
	storetest.Main(m, openBadger, claims, letters, chains, entries, deeds, rooms)
}

func TestMemory(t *testing.T) {
	t.Parallel()
	storetest.RunRendezvous(t, func(t *testing.T) store.Rendezvous { return mustOver(t, memory.New()) })
}

func TestBadger(t *testing.T) {
	t.Parallel()
	storetest.RunRendezvous(t, func(t *testing.T) store.Rendezvous {
		kv, err := openBadger(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return mustOver(t, kv)
	})
}

// TestOTK04_KillDuringClaims: no prekey goes to two claims, whatever the moment
// of the kill.
func TestOTK04_KillDuringClaims(t *testing.T) { claims.Run(t, openBadger, 10) }

func TestKillDuringPut(t *testing.T) { letters.Run(t, openBadger, 10) }

func TestKillDuringChains(t *testing.T) { chains.Run(t, openBadger, 10) }

// TestKillDuringAppends: a chain and its entry of the log are there together, and
// what was once the log stays its beginning.
func TestKillDuringAppends(t *testing.T) { entries.Run(t, openBadger, 10) }

// TestKLC12_KillDuringDeeds: what is done and its entry of the operator's journal are
// there together, and what was once the journal stays its beginning.
func TestKLC12_KillDuringDeeds(t *testing.T) { deeds.Run(t, openBadger, 10) }

func TestKillDuringRooms(t *testing.T) { rooms.Run(t, openBadger, 10) }

// TestNewerSchema: a store of a newer version is refused and not touched.
func TestNewerSchema(t *testing.T) {
	kv := memory.New()
	mustOver(t, kv)
	mustOver(t, kv) // the same version opens again
	key := store.Key('V')
	if err := kv.Update(t.Context(), func(tx store.Tx) error { return tx.Set(key, []byte{200}) }); err != nil {
		t.Fatal(err)
	}
	if _, err := over(kv); err == nil {
		t.Error("a newer store was opened")
	}
	err := kv.View(t.Context(), func(tx store.Tx) error {
		value, err := tx.Get(key)
		if string(value) != "\xc8" {
			t.Errorf("the schema is now %x", value)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
