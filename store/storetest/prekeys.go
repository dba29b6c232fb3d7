package storetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

const month = 30 * 24 * time.Hour

func oneTime(n int) store.OneTimePrekey {
	return store.OneTimePrekey{
		ID: prekeyID(n), Key: hash("key %d", n), Record: fmt.Appendf(nil, "record %d", n), Expires: start.Add(month),
	}
}

func oneTimes(from, to int) (keys []store.OneTimePrekey) {
	for n := from; n < to; n++ {
		keys = append(keys, oneTime(n))
	}
	return keys
}

// signed prekeys with higher n are newer.
func signed(n int, expires time.Duration) store.SignedPrekey {
	if expires == 0 {
		expires = 14 * 24 * time.Hour
	}
	return store.SignedPrekey{
		ID: prekeyID(1000 + n), Key: hash("signed %d", n), Record: fmt.Appendf(nil, "signed record %d", n),
		RSA: fmt.Appendf(nil, "modulus %d", n), Created: start.Add(time.Duration(n) * time.Minute), Expires: start.Add(expires),
	}
}

func claim(by protocol.AccountID, device protocol.DeviceID, nonce int) store.ClaimParams {
	h := hash("nonce %d", nonce)
	return store.ClaimParams{Claimer: by, Device: device, Nonce: [16]byte(h[:]), Now: start}
}

// published is the count of a stock of these keys, given as from, to, from, to.
func published(signed int, ranges ...int) store.PrekeyCount {
	var ids [][]byte
	for i := 0; i < len(ranges); i += 2 {
		for n := ranges[i]; n < ranges[i+1]; n++ {
			id := prekeyID(n)
			ids = append(ids, id[:])
		}
	}
	slices.SortFunc(ids, bytes.Compare)
	return store.PrekeyCount{OneTime: len(ids), Signed: signed, Digest: sha256.Sum256(bytes.Join(ids, nil))}
}

func upload(t testing.TB, r store.Rendezvous, device protocol.DeviceID, limit int, keys ...store.OneTimePrekey) store.UploadResult {
	t.Helper()
	res, err := r.PutOneTime(ctx, device, keys, limit, start)
	ok(t, err)
	return res
}

func mustClaim(t testing.TB, r store.Rendezvous, p store.ClaimParams) store.Claimed {
	t.Helper()
	c, err := r.Claim(ctx, p)
	ok(t, err)
	return c
}

// withStock registers alice, who publishes a signed prekey and n others, and
// bob.
func withStock(t testing.TB, r store.Rendezvous, n int) (device protocol.DeviceID, bob protocol.AccountID) {
	t.Helper()
	_, device = person(t, r, "alice")
	bob, _ = person(t, r, "bob")
	ok(t, r.PutSigned(ctx, device, signed(1, 0), start))
	upload(t, r, device, 1000, oneTimes(0, n)...)
	return device, bob
}

// testSameKey is OTK-01: the same id with the same key is success any number
// of times, whatever the signature, and the stock stays as it was.
func testSameKey(t *testing.T, r store.Rendezvous) {
	device, bob := withStock(t, r, 5)
	for i := range 3 {
		again := oneTimes(0, 5)
		for j := range again {
			again[j].Record = fmt.Appendf(nil, "signature %d", i)
		}
		res := upload(t, r, device, 1000, again...)
		equal(t, "result", res, store.UploadResult{Count: published(1, 0, 5)})
		other := signed(1, 0)
		other.Record = fmt.Appendf(nil, "signature %d", i)
		ok(t, r.PutSigned(ctx, device, other, start))
	}
	c := mustClaim(t, r, claim(bob, device, 1))
	equal(t, "first record", string(c.OneTime), "record 0")
	equal(t, "signed record", string(c.Signed.Record), "signed record 1")
}

// testConflict is OTK-02: an id bound to another key is named, and all other
// keys of the batch are stored.
func testConflict(t *testing.T, r store.Rendezvous) {
	device, bob := withStock(t, r, 2)
	batch := oneTimes(0, 6)
	batch[1].Key = hash("another key")
	batch[4].ID = batch[3].ID // two keys under one id in one batch
	res := upload(t, r, device, 1000, batch...)
	equal(t, "conflicts", res.Conflicts, []protocol.PrekeyID{prekeyID(1), prekeyID(3)})
	equal(t, "stored", res.Stored, 3)
	equal(t, "count", res.Count, published(1, 0, 4, 5, 6))
	for i, want := range []int{0, 1, 2, 3, 5} {
		c := mustClaim(t, r, claim(bob, device, i))
		equal(t, "claimed", string(c.OneTime), fmt.Sprintf("record %d", want))
	}

	other := signed(1, 0)
	other.Key = hash("another key")
	refused(t, r.PutSigned(ctx, device, other, start), protocol.KeyConflict)
}

// testCap is OTK-06 on this side.
func testCap(t *testing.T, r store.Rendezvous) {
	device, bob := withStock(t, r, 0)
	res := upload(t, r, device, 10, oneTimes(0, 12)...)
	equal(t, "stored", res.Stored, 10)
	equal(t, "full", res.Full, []protocol.PrekeyID{prekeyID(10), prekeyID(11)})
	equal(t, "count", res.Count, published(1, 0, 10))
	res = upload(t, r, device, 10, oneTimes(8, 11)...) // known ones are no news
	equal(t, "again", res, store.UploadResult{Full: []protocol.PrekeyID{prekeyID(10)}, Count: res.Count})

	mustClaim(t, r, claim(bob, device, 1))
	res = upload(t, r, device, 10, oneTimes(10, 12)...)
	equal(t, "stored after a claim", res.Stored, 1)
	n, err := r.CountPrekeys(ctx, device, start)
	ok(t, err)
	equal(t, "count", n, published(1, 1, 11))
	n, err = r.CountPrekeys(ctx, deviceID("nobody", 0), start)
	ok(t, err)
	equal(t, "count of nobody", n, published(0))
	_, err = r.PutOneTime(ctx, deviceID("nobody", 0), oneTimes(0, 1), 10, start)
	refused(t, err, protocol.UnknownDevice)
}

// testClaimOrder is OTK-07.
func testClaimOrder(t *testing.T, r store.Rendezvous) {
	device, bob := withStock(t, r, 0)
	for _, batch := range [][]store.OneTimePrekey{oneTimes(20, 30), oneTimes(0, 10), oneTimes(10, 20)} {
		upload(t, r, device, 100, batch...)
	}
	for i := range 30 {
		c := mustClaim(t, r, claim(bob, device, i))
		equal(t, "claimed", string(c.OneTime), fmt.Sprintf("record %d", (i+20)%30))
		equal(t, "left", c.Left, 29-i)
	}
}

// testParallelClaims is OTK-08: 200 parallel claimers get distinct keys.
func testParallelClaims(t *testing.T, r store.Rendezvous) {
	device, _ := withStock(t, r, 180)
	var mu sync.Mutex
	got := map[string]int{}
	together(200, func(i int) error {
		c, err := r.Claim(ctx, claim(hash("claimer %d", i), device, 1))
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got[string(c.OneTime)]++
		return err
	})
	equal(t, "claims without a one-time key", got[""], 20)
	delete(got, "")
	equal(t, "distinct keys", len(got), 180)
}

// testClaimedStaysClaimed is OTK-08: a key that was claimed and is uploaded
// again after a lost response is not issued again.
func testClaimedStaysClaimed(t *testing.T, r store.Rendezvous) {
	device, bob := withStock(t, r, 3)
	mustClaim(t, r, claim(bob, device, 1))
	mustClaim(t, r, claim(bob, device, 2))
	res := upload(t, r, device, 100, oneTimes(0, 3)...)
	equal(t, "result", res, store.UploadResult{Count: published(1, 2, 3)})
	_, err := r.Sweep(ctx, start.Add(48*time.Hour)) // the answers for retries are gone by now
	ok(t, err)
	res = upload(t, r, device, 100, oneTimes(0, 3)...)
	equal(t, "stored after a sweep", res.Stored, 0)
	equal(t, "claimed", string(mustClaim(t, r, claim(bob, device, 3)).OneTime), "record 2")
	equal(t, "claimed at last", mustClaim(t, r, claim(bob, device, 4)).OneTime, nil)

	other := oneTime(0) // still bound
	other.Key = hash("another key")
	res = upload(t, r, device, 100, other)
	equal(t, "conflicts", res.Conflicts, []protocol.PrekeyID{prekeyID(0)})
}

// testDropOneTime: keys that were taken back are never handed out, and their
// answers to earlier claims stay.
func testDropOneTime(t *testing.T, r store.Rendezvous) {
	device, bob := withStock(t, r, 5)
	refused(t, r.DropOneTime(ctx, deviceID("nobody", 0)), protocol.UnknownDevice)
	mustClaim(t, r, claim(bob, device, 1))
	for range 2 {
		ok(t, r.DropOneTime(ctx, device))
		n, err := r.CountPrekeys(ctx, device, start)
		ok(t, err)
		equal(t, "count", n, published(1))
	}
	equal(t, "claimed", mustClaim(t, r, claim(bob, device, 2)).OneTime, nil)
	equal(t, "the earlier claim", string(mustClaim(t, r, claim(bob, device, 1)).OneTime), "record 0")
	res := upload(t, r, device, 100, oneTimes(0, 7)...) // two of them are new
	equal(t, "result", res, store.UploadResult{Stored: 2, Count: published(1, 5, 7)})
	equal(t, "claimed", string(mustClaim(t, r, claim(bob, device, 3)).OneTime), "record 5")
	late := start.Add(month)
	_, err := r.Sweep(ctx, late) // everything has expired
	ok(t, err)
	n, err := r.CountPrekeys(ctx, device, late)
	ok(t, err)
	equal(t, "count at last", n, published(0))
}

// testBoundCap: ids stay bound after their keys were taken back, so there is a
// limit to how many; it is gone when they expire.
func testBoundCap(t *testing.T, r store.Rendezvous) {
	device, _ := withStock(t, r, 0)
	stored, n := 0, 0
	for ; n < 10_000; n += 500 {
		res := upload(t, r, device, 1000, oneTimes(n, n+500)...)
		stored += res.Stored
		equal(t, "stored or full", res.Stored+len(res.Full), 500)
		ok(t, r.DropOneTime(ctx, device))
	}
	equal(t, "stored in all", stored, 5000)
	late := start.Add(month)
	_, err := r.Sweep(ctx, late)
	ok(t, err)
	k := oneTime(n)
	k.Expires = late.Add(month)
	res, err := r.PutOneTime(ctx, device, []store.OneTimePrekey{k}, 1000, late)
	ok(t, err)
	equal(t, "stored after the others expired", res.Stored, 1)
}

func testClaimRetry(t *testing.T, r store.Rendezvous) {
	device, bob := withStock(t, r, 3)
	carol, _ := person(t, r, "carol")
	first := mustClaim(t, r, claim(bob, device, 1))
	equal(t, "retry", first.Retry, false)
	ok(t, r.PutSigned(ctx, device, signed(2, 0), start))
	_, err := r.Sweep(ctx, start.Add(23*time.Hour))
	ok(t, err)

	retry := claim(bob, device, 1)
	retry.Now = start.Add(24*time.Hour - time.Second)
	again := mustClaim(t, r, retry)
	equal(t, "retry", again.Retry, true)
	equal(t, "same one-time prekey", string(again.OneTime), string(first.OneTime))
	equal(t, "same signed prekey", again.Signed, first.Signed)
	equal(t, "left", again.Left, 2)

	// The nonce is the claimer's own and the device's own.
	byCarol := mustClaim(t, r, claim(carol, device, 1))
	equal(t, "carol's", string(byCarol.OneTime), "record 1")
	equal(t, "carol's signed", string(byCarol.Signed.Record), "signed record 2")
	other := deviceID("alice", 1)
	ok(t, r.PutSigned(ctx, other, signed(1, 0), start))
	equal(t, "of the other device", mustClaim(t, r, claim(bob, other, 1)).OneTime, nil)

	// A claim that found the stock empty stays so.
	mustClaim(t, r, claim(bob, device, 2))
	equal(t, "of an empty stock", mustClaim(t, r, claim(bob, device, 3)).OneTime, nil)
	upload(t, r, device, 100, oneTimes(5, 6)...)
	equal(t, "its retry", mustClaim(t, r, claim(bob, device, 3)).OneTime, nil)
}

func testClaimWithoutStock(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	_, err := r.Claim(ctx, claim(bob, deviceID("nobody", 0), 1))
	refused(t, err, protocol.UnknownDevice)
	upload(t, r, device, 100, oneTimes(0, 1)...)
	_, err = r.Claim(ctx, claim(bob, device, 1)) // no signed prekey: nothing is used up
	refused(t, err, protocol.Unavailable)
	_, err = r.SignedPrekey(ctx, device, start)
	refused(t, err, protocol.Unavailable)
	ok(t, r.PutSigned(ctx, device, signed(1, 0), start))
	equal(t, "claimed", string(mustClaim(t, r, claim(bob, device, 1)).OneTime), "record 0")
	c := mustClaim(t, r, claim(bob, device, 2))
	equal(t, "claimed", c.OneTime, nil)
	equal(t, "signed", string(c.Signed.Record), "signed record 1")
}

func testSignedPrekeys(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	refused(t, r.PutSigned(ctx, deviceID("nobody", 0), signed(1, 0), start), protocol.UnknownDevice)
	for _, step := range []struct{ put, newest, count int }{
		{3, 3, 1}, {2, 3, 2}, {1, 3, 2}, {5, 5, 2}, {4, 5, 2}, {2, 5, 2},
	} {
		ok(t, r.PutSigned(ctx, device, signed(step.put, 0), start))
		got, err := r.SignedPrekey(ctx, device, start)
		ok(t, err)
		equal(t, "newest", got, signed(step.newest, 0))
		n, err := r.CountPrekeys(ctx, device, start)
		ok(t, err)
		equal(t, "count", n, published(step.count))
	}
}

func testPrekeyExpiry(t *testing.T, r store.Rendezvous) {
	device, bob := withStock(t, r, 0)
	late := start.Add(2 * time.Hour)
	ok(t, r.PutSigned(ctx, device, signed(2, time.Hour), start)) // newer, but expires first
	keys := oneTimes(0, 6)
	for _, i := range []int{0, 1, 3} {
		keys[i].Expires = start.Add(time.Hour)
	}
	keys[5].Expires = start
	res := upload(t, r, device, 100, keys...)
	equal(t, "expired", res.Expired, []protocol.PrekeyID{prekeyID(5)})
	equal(t, "count", res.Count, published(2, 0, 5))

	got, err := r.SignedPrekey(ctx, device, late)
	ok(t, err)
	equal(t, "signed", string(got.Record), "signed record 1")
	p := claim(bob, device, 1)
	p.Now = late
	equal(t, "claimed", string(mustClaim(t, r, p).OneTime), "record 2")
	n, err := r.Sweep(ctx, late)
	ok(t, err)
	if n == 0 {
		t.Error("nothing swept")
	}
	c, err := r.CountPrekeys(ctx, device, late)
	ok(t, err)
	equal(t, "count", c, published(1, 4, 5))
	p = claim(bob, device, 2)
	p.Now = late
	last := mustClaim(t, r, p)
	equal(t, "claimed", string(last.OneTime), "record 4")
	equal(t, "left", last.Left, 0)

	// After everything expired nothing is left, and expired keys stay out.
	gone := start.Add(2 * month)
	_, err = r.Sweep(ctx, gone)
	ok(t, err)
	res, err = r.PutOneTime(ctx, device, oneTimes(0, 6), 100, gone)
	ok(t, err)
	equal(t, "stored", res.Stored, 0)
	equal(t, "expired", len(res.Expired), 6)
	n, err = r.Sweep(ctx, gone)
	ok(t, err)
	equal(t, "swept again", n, 0)
	p.Now = gone
	_, err = r.Claim(ctx, p)
	refused(t, err, protocol.Unavailable)
}
