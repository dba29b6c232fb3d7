package memory_test

import (
	"testing"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
	"github.com/parley-chat/parley/store/storetest"
)

func TestKV(t *testing.T) {
	storetest.RunKV(t, func(t *testing.T) store.KV { return memory.New() })
}
