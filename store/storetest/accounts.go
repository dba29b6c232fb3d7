package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func testRegister(t *testing.T, r store.Rendezvous) {
	p := registration("alice", 1)
	_, err := r.Account(ctx, p.Account)
	refused(t, err, protocol.UnknownAccount)
	_, err = r.AccountByName(ctx, "alice")
	refused(t, err, protocol.UnknownAccount)
	_, err = r.Device(ctx, p.Devices[0].ID)
	refused(t, err, protocol.UnknownDevice)
	_, err = r.DeviceByPeer(ctx, p.Devices[0].PeerID)
	refused(t, err, protocol.UnknownDevice)

	ok(t, r.Register(ctx, p))
	retry := p
	retry.Chain, retry.ChainSeq, retry.Now = []byte("longer"), 2, start.Add(time.Hour)
	ok(t, r.Register(ctx, retry)) // changes nothing
	want := store.Account{ID: p.Account, Name: "alice", Chain: p.Chain, ChainSeq: 1, ChainHead: p.ChainHead, Created: start}
	got, err := r.Account(ctx, p.Account)
	ok(t, err)
	equal(t, "account", got, want)
	got, err = r.AccountByName(ctx, "alice")
	ok(t, err)
	equal(t, "account by name", got, want)

	d := p.Devices[0]
	wantDevice := store.Device{ID: d.ID, Account: p.Account, PeerID: d.PeerID, Cert: d.Cert, Created: start}
	device, err := r.Device(ctx, d.ID)
	ok(t, err)
	equal(t, "device", device, wantDevice)
	device, err = r.DeviceByPeer(ctx, d.PeerID)
	ok(t, err)
	equal(t, "device by peer", device, wantDevice)
	devices, err := r.Devices(ctx, p.Account)
	ok(t, err)
	equal(t, "devices", devices, []store.Device{wantDevice})
	devices, err = r.Devices(ctx, accountID("nobody"))
	ok(t, err)
	equal(t, "devices of nobody", len(devices), 0)

	other := registration("mallory", 1)
	other.Name = "alice"
	refused(t, r.Register(ctx, other), protocol.NameTaken)
	again := registration("alice", 1)
	again.Name = "alice2"
	refused(t, r.Register(ctx, again), protocol.AccountExists)
}

// testRegisterIsAtomic: a refused registration leaves nothing behind.
func testRegisterIsAtomic(t *testing.T, r store.Rendezvous) {
	person(t, r, "alice")
	token := store.InviteHash([]byte("token"))
	ok(t, r.CreateInvite(ctx, store.Invite{Hash: token, Uses: 1, Created: start, Expires: start.Add(time.Hour)}))
	p := registration("bob", 1)
	p.Invite = &token
	p.Devices = append(p.Devices, newDevice("alice", 0))
	refused(t, r.Register(ctx, p), protocol.DeviceExists)
	_, err := r.AccountByName(ctx, "bob")
	refused(t, err, protocol.UnknownAccount)
	_, err = r.DeviceByPeer(ctx, p.Devices[0].PeerID)
	refused(t, err, protocol.UnknownDevice)
	p.Devices = p.Devices[:1]
	ok(t, r.Register(ctx, p)) // the invite was not used up
}

// testRegisterRace: of many who want one name, one gets it.
func testRegisterRace(t *testing.T, r store.Rendezvous) {
	codes := together(32, func(i int) error {
		p := registration(fmt.Sprint("racer", i), 1)
		p.Name = "wanted"
		return r.Register(ctx, p)
	})
	equal(t, "codes", codes, map[protocol.Code]int{protocol.OK: 1, protocol.NameTaken: 31})
}

// together runs do n times in parallel and counts the codes.
func together(n int, do func(i int) error) map[protocol.Code]int {
	codes := make(chan protocol.Code)
	for i := range n {
		go func() { codes <- protocol.CodeOf(do(i)) }()
	}
	counts := map[protocol.Code]int{}
	for range n {
		counts[<-codes]++
	}
	return counts
}

func testInvites(t *testing.T, r store.Rendezvous) {
	alice, _ := person(t, r, "alice")
	byAlice := store.Invite{Hash: store.InviteHash([]byte("a")), By: alice, Uses: 2, Created: start, Expires: start.Add(time.Hour)}
	byOperator := store.Invite{Hash: store.InviteHash([]byte("b")), Uses: 1, Created: start, Expires: start.Add(time.Hour)}
	for _, inv := range []store.Invite{byAlice, byOperator, byAlice} {
		ok(t, r.CreateInvite(ctx, inv))
	}
	other := byAlice
	other.Uses = 5
	refused(t, r.CreateInvite(ctx, other), protocol.BadRequest)

	for i, c := range []struct {
		token string
		after time.Duration
		want  protocol.Code
	}{
		{"a", 0, protocol.OK},
		{"a", time.Hour, protocol.InviteExpired},
		{"unknown", 0, protocol.InviteInvalid},
		{"a", time.Minute, protocol.OK},
		{"a", time.Minute, protocol.InviteUsed},
		{"b", time.Minute, protocol.OK},
	} {
		name := fmt.Sprint("guest", i)
		p := registration(name, 1)
		token := store.InviteHash([]byte(c.token))
		p.Invite, p.Now = &token, start.Add(c.after)
		if c.want != protocol.OK {
			refused(t, r.Register(ctx, p), c.want)
			continue
		}
		ok(t, r.Register(ctx, p))
		ok(t, r.Register(ctx, p)) // a retry uses nothing up
		a, err := r.Account(ctx, p.Account)
		ok(t, err)
		equal(t, "by alice", a.InvitedBy == alice, c.token == "a")
	}

	list, err := r.Invites(ctx, &alice)
	ok(t, err)
	byAlice.Used = 2
	equal(t, "alice's invites", list, []store.Invite{byAlice})
	list, err = r.Invites(ctx, &protocol.AccountID{})
	ok(t, err)
	byOperator.Used = 1
	equal(t, "the operator's invites", list, []store.Invite{byOperator})
	list, err = r.Invites(ctx, nil)
	ok(t, err)
	equal(t, "number of all invites", len(list), 2)

	ok(t, r.RevokeInvite(ctx, byAlice.Hash, start))
	refused(t, r.RevokeInvite(ctx, byAlice.Hash, start), protocol.InviteInvalid)
	_, err = r.Sweep(ctx, start.Add(365*24*time.Hour))
	ok(t, err)
	list, err = r.Invites(ctx, nil)
	ok(t, err)
	equal(t, "invites after a year", len(list), 0)
}

// testNameTakenNeedsInvite: where registration is closed, who has no usable
// invite does not learn which names are taken; a retry needs none.
func testNameTakenNeedsInvite(t *testing.T, r store.Rendezvous) {
	person(t, r, "alice")
	none := hash("no such invite")
	p := registration("mallory", 1)
	p.Name, p.Invite = "alice", &none
	refused(t, r.Register(ctx, p), protocol.InviteInvalid)
	again := registration("alice", 2)
	again.Invite = &none
	ok(t, r.Register(ctx, again))

	good := hash("invite")
	ok(t, r.CreateInvite(ctx, store.Invite{Hash: good, Uses: 1, Created: start, Expires: start.Add(month)}))
	p.Invite = &good
	refused(t, r.Register(ctx, p), protocol.NameTaken)
	p.Name = "mallory" // a refusal uses nothing up
	ok(t, r.Register(ctx, p))
}

func testInviteRace(t *testing.T, r store.Rendezvous) {
	token := store.InviteHash([]byte("token"))
	ok(t, r.CreateInvite(ctx, store.Invite{Hash: token, Uses: 3, Created: start, Expires: start.Add(time.Hour)}))
	codes := together(32, func(i int) error {
		p := registration(fmt.Sprint("racer", i), 1)
		p.Invite = &token
		return r.Register(ctx, p)
	})
	equal(t, "codes", codes, map[protocol.Code]int{protocol.OK: 3, protocol.InviteUsed: 29})
}

// chain is a chain of an account that person registered, with statements up to
// seq; a longer one extends a shorter one.
func chain(name string, seq uint64, devices ...int) store.ChainParams {
	p := store.ChainParams{
		Account: accountID(name), Now: start.Add(time.Hour),
		Chain: []byte("chain of " + name), ChainSeq: seq, ChainHead: hash("head %d", seq),
	}
	for n := uint64(2); n <= seq; n++ {
		p.Chain = fmt.Appendf(p.Chain, ", %d", n)
	}
	for _, n := range devices {
		p.Devices = append(p.Devices, newDevice(name, n))
	}
	return p
}

func testChain(t *testing.T, r store.Rendezvous) {
	refused(t, r.SetChain(ctx, chain("alice", 2)), protocol.UnknownAccount)
	alice, _ := person(t, r, "alice")
	longer := chain("alice", 5, 0, 1, 2)
	longer.Devices[0].Cert = []byte("renewed")
	ok(t, r.SetChain(ctx, longer))
	ok(t, r.SetChain(ctx, longer))
	refused(t, r.SetChain(ctx, chain("alice", 4)), protocol.ChainConflict)
	for _, seq := range []uint64{5, 6} { // a longer fork is no better
		fork := chain("alice", seq)
		fork.Chain = bytes.Replace(fork.Chain, []byte("3"), []byte("three"), 1)
		fork.ChainHead = hash("fork")
		refused(t, r.SetChain(ctx, fork), protocol.ChainConflict)
	}

	a, err := r.Account(ctx, alice)
	ok(t, err)
	equal(t, "chain", string(a.Chain), string(longer.Chain))
	equal(t, "seq", a.ChainSeq, 5)
	equal(t, "head", a.ChainHead, longer.ChainHead)
	devices, err := r.Devices(ctx, alice)
	ok(t, err)
	equal(t, "number of devices", len(devices), 3)
	if !slices.IsSortedFunc(devices, func(a, b store.Device) int { return bytes.Compare(a.ID[:], b.ID[:]) }) {
		t.Error("devices are not in order of id")
	}
	d, err := r.Device(ctx, deviceID("alice", 0))
	ok(t, err)
	equal(t, "renewed certificate", string(d.Cert), "renewed")
	equal(t, "first seen", d.Created, start)
}

// testDeviceExists is OTK-13: a device id with other keys is refused, with the
// same ones it resumes and its published keys are intact.
func testDeviceExists(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	person(t, r, "bob")
	upload(t, r, device, 100, oneTimes(0, 3)...)

	stolen := chain("bob", 2, 0)
	stolen.Devices = append(stolen.Devices, newDevice("alice", 0))
	refused(t, r.SetChain(ctx, stolen), protocol.DeviceExists)
	otherPeer := chain("alice", 2, 0)
	otherPeer.Devices[0].PeerID = []byte("another peer")
	refused(t, r.SetChain(ctx, otherPeer), protocol.DeviceExists)
	peerOfBob := chain("alice", 2, 7)
	peerOfBob.Devices[0].PeerID = newDevice("bob", 0).PeerID
	refused(t, r.SetChain(ctx, peerOfBob), protocol.DeviceExists)

	bob, err := r.Account(ctx, accountID("bob"))
	ok(t, err)
	equal(t, "bob's chain after the refusal", bob.ChainSeq, 1)
	ok(t, r.SetChain(ctx, chain("alice", 2, 0, 1)))
	n, err := r.CountPrekeys(ctx, device, start)
	ok(t, err)
	equal(t, "stock", n.OneTime, 3)
}

func testRevocation(t *testing.T, r store.Rendezvous) {
	alice, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	ok(t, r.PutSigned(ctx, device, signed(1, 0), start))
	upload(t, r, device, 100, oneTimes(0, 3)...)
	equal(t, "put", deliver(t, r, store.Quotas{}, letter(bob, device, "before")), []protocol.Code{protocol.OK})

	revoke := chain("alice", 2, 1)
	revoke.Revoked = []protocol.DeviceID{device, deviceID("alice", 9)}
	ok(t, r.SetChain(ctx, revoke))
	for _, id := range revoke.Revoked {
		d, err := r.Device(ctx, id)
		ok(t, err)
		equal(t, "revoked", d.Revoked, true)
	}
	d, err := r.DeviceByPeer(ctx, newDevice("alice", 0).PeerID)
	ok(t, err)
	equal(t, "revoked, by peer", d.Revoked, true)

	_, err = r.Claim(ctx, claim(bob, device, 1))
	refused(t, err, protocol.Revoked)
	_, err = r.SignedPrekey(ctx, device, start)
	refused(t, err, protocol.Revoked)
	refused(t, r.PutSigned(ctx, device, signed(2, 0), start), protocol.Revoked)
	_, err = r.PutOneTime(ctx, device, oneTimes(5, 6), 100, start)
	refused(t, err, protocol.Revoked)
	refused(t, r.DropOneTime(ctx, device), protocol.Revoked)
	equal(t, "put", deliver(t, r, store.Quotas{}, letter(bob, device, "after")), []protocol.Code{protocol.Revoked})
	for _, n := range []int{0, 9} { // neither comes back, not even the one never seen
		refused(t, r.SetChain(ctx, chain("alice", 3, n)), protocol.Revoked)
	}
	a, err := r.Account(ctx, alice)
	ok(t, err)
	equal(t, "chain", a.ChainSeq, 2)
}

func testSweepRevoked(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	ok(t, r.PutSigned(ctx, device, signed(1, 0), start))
	upload(t, r, device, 1000, oneTimes(0, 300)...)
	for i := range 300 {
		deliver(t, r, store.Quotas{}, letter(bob, device, fmt.Sprint(i)))
	}
	revoke := chain("alice", 2, 1)
	revoke.Revoked = []protocol.DeviceID{device}
	ok(t, r.SetChain(ctx, revoke))
	n, err := r.Sweep(ctx, start)
	ok(t, err)
	if n < 300+300 {
		t.Errorf("swept %d rows, want at least 600", n)
	}
	n, err = r.Sweep(ctx, start)
	ok(t, err)
	equal(t, "swept again", n, 0)
	u, err := r.SenderUsage(ctx, bob)
	ok(t, err)
	equal(t, "bob's usage", u, store.Usage{})
	c, err := r.CountPrekeys(ctx, device, start)
	ok(t, err)
	equal(t, "stock", c, published(0))
}

// testChainRace: of many who extend one chain, each in its own way, one does.
func testChainRace(t *testing.T, r store.Rendezvous) {
	alice, _ := person(t, r, "alice")
	codes := together(16, func(i int) error {
		p := chain("alice", 2, 0, 1)
		p.Chain = fmt.Appendf(p.Chain, " by %d.", i) // the point: 1 is no beginning of 10
		return r.SetChain(ctx, p)
	})
	equal(t, "codes", codes, map[protocol.Code]int{protocol.OK: 1, protocol.ChainConflict: 15})
	a, err := r.Account(ctx, alice)
	ok(t, err)
	equal(t, "seq", a.ChainSeq, 2)
}

// testHeads: the heads are those of whoever of the list is registered, and of
// the owner, as they are now.
func testHeads(t *testing.T, r store.Rendezvous) {
	alice, _ := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	person(t, r, "carol") // on nobody's list
	check := func(owner protocol.AccountID, want ...store.Head) {
		t.Helper()
		slices.SortFunc(want, func(a, b store.Head) int { return bytes.Compare(a.Account[:], b.Account[:]) })
		got, err := r.Heads(ctx, owner)
		ok(t, err)
		equal(t, "heads", got, want)
	}
	head := func(id protocol.AccountID, hash [32]byte) store.Head {
		return store.Head{Account: id, Hash: [16]byte(hash[:16])}
	}
	alices, bobs := head(alice, hash("head of alice")), head(bob, hash("head of bob"))
	check(alice, alices)
	ok(t, r.SetContacts(ctx, alice, []protocol.AccountID{bob, accountID("nobody"), alice}))
	check(alice, alices, bobs)
	check(bob, bobs)
	ok(t, r.SetChain(ctx, chain("bob", 4, 0)))
	check(alice, alices, head(bob, hash("head 4")))
	refused(t, r.SetChain(ctx, chain("bob", 3, 0)), protocol.ChainConflict)
	check(bob, head(bob, hash("head 4")))
	check(accountID("nobody"))
}

// testStoreID: the pair of counter and start tells a copy and a store that was
// set back; what is refused changes nothing.
func testStoreID(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	mine, copied := [16]byte{1}, [16]byte{2}
	for i, c := range []struct {
		id      [16]byte
		counter uint64
		start   byte
		want    protocol.Code
	}{
		{mine, 5, 1, protocol.OK},
		{mine, 5, 1, protocol.OK},               // a retry
		{mine, 5, 2, protocol.StoreRolledBack},  // two that count alike
		{mine, 5, 1, protocol.OK},               // the first of them
		{mine, 9, 3, protocol.OK},               // this memory was set back, it may be
		{mine, 8, 4, protocol.StoreRolledBack},  // that store was
		{mine, 5, 1, protocol.StoreRolledBack},  // also with a start that was right
		{copied, 9, 3, protocol.DeviceCloned},   // made anew with the same keys
		{copied, 100, 9, protocol.DeviceCloned}, // however far it counted
		{mine, 9, 3, protocol.OK},               // a retry, after all that
		{mine, 10, 3, protocol.OK},              // a start is told from others by both numbers
		{mine, 1<<64 - 1, 5, protocol.OK},       // the last there is
		{mine, 0, 6, protocol.StoreRolledBack},  // and does not begin again
		{mine, 1<<64 - 1, 5, protocol.OK},       //
		{mine, 1<<64 - 1, 6, protocol.StoreRolledBack},
	} {
		err := r.CheckStore(ctx, device, store.StoreStart{StoreID: c.id, Counter: c.counter, Start: [16]byte{c.start}})
		if got := protocol.CodeOf(err); got != c.want {
			t.Fatalf("start %d: %v, want %v", i, err, c.want)
		}
	}
	other := deviceID("alice", 1) // has a store of its own
	ok(t, r.CheckStore(ctx, other, store.StoreStart{StoreID: copied, Counter: 1}))
}

// testStoreRace: of copies that start at once with one counter, one is taken.
func testStoreRace(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	codes := together(16, func(i int) error {
		return r.CheckStore(ctx, device, store.StoreStart{Counter: 7, Start: [16]byte{byte(i)}})
	})
	equal(t, "codes", codes, map[protocol.Code]int{protocol.OK: 1, protocol.StoreRolledBack: 15})
}
