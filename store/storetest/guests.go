package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func visitor(name string) store.GuestParams {
	return store.GuestParams{
		Account: accountID(name), Chain: []byte("chain of " + name), ChainSeq: 1, ChainHead: hash("head of %s", name),
		Device: newDevice(name, 0), Now: start,
	}
}

// visit makes an entry by which accounts come into a room, or leave it.
func visit(room string, seq uint64, came, went []protocol.AccountID) store.NewRoomEntry {
	e := roomEntry(room, seq)
	e.Came, e.Went = append(e.Came, came...), went
	return e
}

func testGuests(t *testing.T, r store.Rendezvous) {
	alice, _ := person(t, r, "alice")
	log, err := r.LogSize(ctx)
	ok(t, err)
	journal, err := r.AuditHead(ctx)
	ok(t, err)

	p := visitor("bert")
	ok(t, r.RegisterGuest(ctx, p))
	ok(t, r.RegisterGuest(ctx, p))
	a, err := r.Account(ctx, p.Account)
	ok(t, err)
	equal(t, "account", a, store.Account{ID: p.Account, Chain: p.Chain, ChainSeq: 1, ChainHead: p.ChainHead, Created: start})
	d, err := r.DeviceByPeer(ctx, p.Device.PeerID)
	ok(t, err)
	equal(t, "device", d, store.Device{ID: p.Device.ID, Account: p.Account, PeerID: p.Device.PeerID, Cert: p.Device.Cert, Created: start, Guest: true})

	after, err := r.LogSize(ctx)
	ok(t, err)
	equal(t, "entries of the log", after, log)
	noted, err := r.AuditHead(ctx)
	ok(t, err)
	equal(t, "the journal", noted, journal)

	named := visitor("bert")
	named.Account = alice
	refused(t, r.RegisterGuest(ctx, named), protocol.AccountExists)
	thief := visitor("carl")
	thief.Device.PeerID = newDevice("alice", 0).PeerID
	refused(t, r.RegisterGuest(ctx, thief), protocol.DeviceExists)
	thief = visitor("carl")
	thief.Device = newDevice("alice", 1)
	refused(t, r.RegisterGuest(ctx, thief), protocol.DeviceExists)
	_, err = r.Account(ctx, thief.Account)
	refused(t, err, protocol.UnknownAccount)

	again := registration("bert", 1)
	refused(t, r.Register(ctx, again), protocol.AccountExists)
	testGuestIsForgotten(t, r, p)
}

// testGuestIsForgotten: a guest is there while it is in a room and for some days after,
// then comes again as if it were new.
func testGuestIsForgotten(t *testing.T, r store.Rendezvous, p store.GuestParams) {
	t.Helper()
	known := func(now time.Time, want bool) {
		t.Helper()
		_, err := r.Sweep(ctx, now)
		ok(t, err)
		_, err = r.Account(ctx, p.Account)
		_, errDevice := r.DeviceByPeer(ctx, p.Device.PeerID)
		if (err == nil) != want || (errDevice == nil) != want {
			t.Fatalf("%v after the start: %v, %v", now.Sub(start), err, errDevice)
		}
	}
	appendRoom(t, r, visit("climbing", 0, []protocol.AccountID{p.Account}, nil))
	now := start
	for range 30 {
		now = now.Add(26 * time.Hour)
		known(now, true)
	}
	appendRoom(t, r, visit("climbing", 1, nil, []protocol.AccountID{p.Account}))
	left := now
	known(left.Add(store.GuestMemory-26*time.Hour), true)
	known(left.Add(store.GuestMemory), false)
	devices, err := r.Devices(ctx, p.Account)
	ok(t, err)
	equal(t, "devices", len(devices), 0)

	p.Now = left.Add(store.GuestMemory)
	ok(t, r.RegisterGuest(ctx, p))
	known(p.Now.Add(time.Hour), true)
	p.Now = p.Now.Add(2 * 24 * time.Hour)
	ok(t, r.RegisterGuest(ctx, p)) // and is remembered from now on
	known(p.Now.Add(store.GuestMemory-time.Hour), true)
	known(p.Now.Add(store.GuestMemory), false)
}

// testGuestSweptInSteps: what is kept of a guest's device goes with it, however much it
// is, and its mail counts for nobody any more.
func testGuestSweptInSteps(t *testing.T, r store.Rendezvous) {
	bob, _ := person(t, r, "bob")
	p := visitor("bert")
	ok(t, r.RegisterGuest(ctx, p))
	ok(t, r.PutSigned(ctx, p.Device.ID, signed(1, 0), start))
	upload(t, r, p.Device.ID, 1000, oneTimes(0, 300)...)
	for i := range 300 {
		m := letter(bob, p.Device.ID, fmt.Sprint(i))
		m.Expires = start.Add(10 * store.GuestMemory)
		deliver(t, r, store.Quotas{}, m)
	}
	_, err := r.Sweep(ctx, start.Add(store.GuestMemory))
	ok(t, err)
	_, err = r.Account(ctx, p.Account)
	refused(t, err, protocol.UnknownAccount)
	u, err := r.SenderUsage(ctx, bob)
	ok(t, err)
	equal(t, "bob's usage", u, store.Usage{})

	p.Now = start.Add(store.GuestMemory)
	ok(t, r.RegisterGuest(ctx, p))
	c, err := r.CountPrekeys(ctx, p.Device.ID, p.Now)
	ok(t, err)
	equal(t, "stock", c, published(0))
}
