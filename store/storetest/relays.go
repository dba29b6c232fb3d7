package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// relaysAre checks who is approved.
func relaysAre(t testing.TB, r store.Rendezvous, want ...store.Relay) {
	t.Helper()
	all, err := r.Relays(ctx)
	ok(t, err)
	equal(t, "relays", all, want)
}

func testRelays(t *testing.T, r store.Rendezvous) {
	relaysAre(t, r)
	a, b := store.Relay{Peer: []byte("\x00\x24a"), Added: start}, store.Relay{Peer: []byte("\x00\x24b"), Added: start.Add(time.Hour)}
	ok(t, r.AddRelay(ctx, b))
	ok(t, r.AddRelay(ctx, a))
	relaysAre(t, r, a, b)
	ok(t, r.AddRelay(ctx, store.Relay{Peer: a.Peer, Added: start.Add(time.Minute)})) // again
	relaysAre(t, r, a, b)
	ok(t, r.RemoveRelay(ctx, a.Peer, start))
	relaysAre(t, r, b)
	if err := r.RemoveRelay(ctx, a.Peer, start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removed again: %v", err)
	}
	for _, peer := range [][]byte{nil, bytes.Repeat([]byte("x"), 65)} {
		refused(t, r.AddRelay(ctx, store.Relay{Peer: peer, Added: start}), protocol.BadRequest)
	}
	relaysAre(t, r, b)
	journalAdded(t, r, 0, "relay approved "+protocol.PeerText(b.Peer), "relay approved "+protocol.PeerText(a.Peer), "relay removed "+protocol.PeerText(a.Peer))
}

func testRelaysAreCapped(t *testing.T, r store.Rendezvous) {
	relay := func(n int) store.Relay { return store.Relay{Peer: fmt.Appendf(nil, "relay %03d", n), Added: start} }
	for n := range protocol.MaxRelays {
		ok(t, r.AddRelay(ctx, relay(n)))
	}
	refused(t, r.AddRelay(ctx, relay(protocol.MaxRelays)), protocol.TooLarge)
	ok(t, r.AddRelay(ctx, relay(1)))
	ok(t, r.RemoveRelay(ctx, relay(1).Peer, start))
	ok(t, r.AddRelay(ctx, relay(protocol.MaxRelays)))
}
