package embedded_test

import (
	"testing"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
	"github.com/parley-chat/parley/store/embedded"
	"github.com/parley-chat/parley/store/memory"
	"github.com/parley-chat/parley/store/storetest"
)

func openBadger(dir string) (store.KV, error) {
	return badger.Open(badger.Options{Dir: dir, Ballast: -1})
}

func over(t testing.TB, kv store.KV) store.Rendezvous {
	t.Helper()
	t.Cleanup(func() { kv.Close() })
	s, err := embedded.New(t.Context(), kv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMemory(t *testing.T) {
	storetest.RunRendezvous(t, func(t *testing.T) store.Rendezvous { return over(t, memory.New()) })
}

func TestBadger(t *testing.T) {
	storetest.RunRendezvous(t, func(t *testing.T) store.Rendezvous {
		kv, err := openBadger(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return over(t, kv)
	})
}
