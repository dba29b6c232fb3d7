package engine

import (
	"testing"

	"github.com/parley-chat/parley/protocol/wire"
)

func TestContactBatches(t *testing.T) {
	var list []*wire.ContactState
	for i := range 200 {
		list = append(list, &wire.ContactState{SinceMs: uint64(i), Chain: make([]byte, i*400)})
	}
	next := 0
	for batch := range ContactBatches(list) {
		size := 0
		for _, c := range batch {
			if c.GetSinceMs() != uint64(next) {
				t.Fatalf("contact %d is at place %d", c.GetSinceMs(), next)
			}
			next++
			size += len(c.GetChain())
		}
		if len(batch) == 0 || size > contactBatch+80<<10 {
			t.Errorf("a batch of %d contacts and %d bytes", len(batch), size)
		}
	}
	if next != len(list) {
		t.Errorf("%d of %d contacts", next, len(list))
	}
}
