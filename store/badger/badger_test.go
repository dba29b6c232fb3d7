package badger_test

import (
	"log/slog"
	"testing"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
	"github.com/parley-chat/parley/store/storetest"
)

func open(dir string) (store.KV, error) {
	return badger.Open(badger.Options{Dir: dir, Ballast: -1, Log: slog.New(slog.DiscardHandler)})
}

func TestKV(t *testing.T) {
	storetest.RunKV(t, func(t *testing.T) store.KV {
		kv, err := open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { kv.Close() })
		return kv
	})
}
