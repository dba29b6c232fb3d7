package storetest

import (
	"testing"

	"github.com/parley-chat/parley/store"
)

func testTotals(t *testing.T, r store.Rendezvous) {
	total := func(want store.Totals) {
		t.Helper()
		got, err := r.Totals(ctx)
		ok(t, err)
		equal(t, "totals", got, want)
	}
	total(store.Totals{})
	_, device := person(t, r, "alice")
	bob, other := person(t, r, "bob")
	deliver(t, r, store.Quotas{}, letter(bob, device, "one"), letter(bob, other, "three"))
	total(store.Totals{Accounts: 2, Mail: store.Usage{Count: 2, Bytes: 8}})
	ack(t, r, device, "one")
	total(store.Totals{Accounts: 2, Mail: store.Usage{Count: 1, Bytes: 5}})
	putBlob(t, r, blobBy("alice", 1, 100, "bob"))
	putBlob(t, r, blobBy("bob", 1, 20, "alice"))
	total(store.Totals{Accounts: 2, Mail: store.Usage{Count: 1, Bytes: 5}, Blobs: store.Usage{Count: 2, Bytes: 120}})
}
