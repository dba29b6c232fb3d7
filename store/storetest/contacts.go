package storetest

import (
	"slices"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func testContacts(t *testing.T, r store.Rendezvous) {
	alice, bob, carol := accountID("alice"), accountID("bob"), accountID("carol")
	check := func(list ...protocol.AccountID) {
		t.Helper()
		for _, other := range []protocol.AccountID{alice, bob, carol} {
			got, err := r.Allows(ctx, alice, other)
			ok(t, err)
			equal(t, "allowed", got, slices.Contains(list, other))
		}
		digest, err := r.ContactsDigest(ctx, alice)
		ok(t, err)
		equal(t, "digest", digest, store.ContactsDigest(list))
	}
	check()
	for _, list := range [][]protocol.AccountID{{bob}, {carol, bob, bob}, {carol, bob}, {carol}, {}} {
		ok(t, r.SetContacts(ctx, alice, list))
		check(list...)
	}
	got, err := r.Allows(ctx, bob, alice) // nobody else's list changed
	ok(t, err)
	equal(t, "bob allows alice", got, false)

	// Replace a full list by another full list.
	var many, others []protocol.AccountID
	for i := range protocol.MaxContacts {
		many, others = append(many, hash("many %d", i)), append(others, hash("others %d", i))
	}
	ok(t, r.SetContacts(ctx, alice, many))
	ok(t, r.SetContacts(ctx, alice, others))
	check(others...)
	refused(t, r.SetContacts(ctx, alice, append(others, many[0])), protocol.TooLarge)
	check(others...)
}

func testWatchers(t *testing.T, r store.Rendezvous) {
	alice, bob, carol, dave := accountID("alice"), accountID("bob"), accountID("carol"), accountID("dave")
	ok(t, r.SetContacts(ctx, alice, []protocol.AccountID{bob, carol, dave}))
	ok(t, r.SetContacts(ctx, bob, []protocol.AccountID{alice}))
	ok(t, r.SetContacts(ctx, carol, []protocol.AccountID{bob}))
	ok(t, r.SetContacts(ctx, dave, []protocol.AccountID{carol, alice}))
	for _, c := range []struct{ of, want []protocol.AccountID }{
		{[]protocol.AccountID{alice}, []protocol.AccountID{bob, dave}},
		{[]protocol.AccountID{bob}, []protocol.AccountID{alice}},
		{[]protocol.AccountID{carol}, nil},
		{[]protocol.AccountID{hash("nobody")}, nil},
	} {
		got, err := r.Watchers(ctx, c.of[0])
		ok(t, err)
		equal(t, "watchers", got, store.SortAccounts(c.want))
	}
}
