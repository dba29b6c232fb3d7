package rendezvous

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func TestOTK01_SameKeyAgainChangesNothing(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	records := alice.publish(5)
	for range 3 {
		counts := alice.must(uploadRequest(&wire.UploadPrekeys{OneTimeRecords: records})).GetPrekeyCounts()
		if counts.GetOneTime() != 5 || len(counts.GetConflicts()) != 0 {
			t.Fatalf("counts after a repeated upload: %v", counts)
		}
	}
	if got := bob.claim(alice); !bytes.Equal(got.GetOneTimeRecord(), records[0]) {
		t.Error("another prekey than the first")
	}
}

// Ids are hashes, so a conflict cannot be made with honest bytes: it is put
// into the store.
func TestOTK02_ConflictsAreNamedAndTheRestIsStored(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	records := alice.oneTimeRecords(4)
	signed, rsa := alice.signedRecord()
	now := s.clock.Now()
	other := []store.OneTimePrekey{{ID: recordID(t, records[1]), Key: [32]byte{1}, Record: []byte("other"), Expires: now.Add(time.Hour)}}
	if _, err := s.store.PutOneTime(t.Context(), alice.id, other, 100, now); err != nil {
		t.Fatal(err)
	}
	if err := s.store.PutSigned(t.Context(), alice.id, store.SignedPrekey{ID: recordID(t, signed), Key: [32]byte{2}, Record: []byte("other"), Created: now, Expires: now.Add(time.Hour)}, now); err != nil {
		t.Fatal(err)
	}
	counts := alice.must(uploadRequest(&wire.UploadPrekeys{SignedRecord: signed, Rsa: rsa, OneTimeRecords: records})).GetPrekeyCounts()
	signedID, oneTimeID := recordID(t, signed), recordID(t, records[1])
	if want := [][]byte{signedID[:], oneTimeID[:]}; !slices.EqualFunc(counts.GetConflicts(), want, bytes.Equal) {
		t.Errorf("conflicts %x, want %x", counts.GetConflicts(), want)
	}
	if counts.GetOneTime() != 4 { // three stored, one from before
		t.Errorf("%d one-time prekeys", counts.GetOneTime())
	}
}

// After a conflict one upload repairs everything: it drops the published stock
// and brings new ids.
func TestOTK03_RepairInOneRound(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	old := alice.publish(5)
	fresh := alice.oneTimeRecords(2)
	signed, rsa := alice.signedRecord()
	repair := &wire.UploadPrekeys{Reset_: true, SignedRecord: signed, Rsa: rsa, OneTimeRecords: fresh}
	counts := alice.must(uploadRequest(repair)).GetPrekeyCounts()
	if counts.GetOneTime() != 2 || len(counts.GetConflicts()) != 0 {
		t.Errorf("after the reset: %v", counts)
	}
	if got := bob.claim(alice); !bytes.Equal(got.GetOneTimeRecord(), fresh[0]) {
		t.Error("the reset left an old prekey")
	}
	counts = alice.must(uploadRequest(&wire.UploadPrekeys{OneTimeRecords: old})).GetPrekeyCounts()
	if counts.GetOneTime() != 1 {
		t.Errorf("%d one-time prekeys: dropped ones came back", counts.GetOneTime())
	}
	empty := &wire.UploadPrekeys{Reset_: true}
	for range 2 { // of a stock that is empty, too
		if counts := alice.must(uploadRequest(empty)).GetPrekeyCounts(); counts.GetOneTime() != 0 {
			t.Errorf("after a bare reset: %v", counts)
		}
	}
}

func TestResetsAreLimited(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	reset := uploadRequest(&wire.UploadPrekeys{Reset_: true})
	for range 5 {
		alice.must(reset)
	}
	alice.publish(1)
	wait := alice.refused(protocol.RateLimited, reset).GetRetryAfterMs()
	if c := alice.must(uploadRequest(&wire.UploadPrekeys{})).GetPrekeyCounts(); wait == 0 || c.GetOneTime() != 1 {
		t.Errorf("retry after %d ms, %v", wait, c)
	}
	s.clock.add(time.Duration(wait) * time.Millisecond)
	alice.must(reset)
}

func TestOTK05_CountsAreInEveryAnswer(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	if c := alice.link().welcome.GetPrekeys(); c == nil || c.GetCap() != protocol.PrekeyStock || c.GetOneTime() != 0 || len(c.GetSignedId()) != 0 {
		t.Errorf("counts of an empty stock: %v", c)
	}
	alice.publish(3)
	for name, c := range map[string]*wire.PrekeyCounts{
		"welcome":      alice.link().welcome.GetPrekeys(),
		"empty upload": alice.must(uploadRequest(&wire.UploadPrekeys{})).GetPrekeyCounts(),
	} {
		if c == nil || c.GetOneTime() != 3 || c.GetCap() != protocol.PrekeyStock || len(c.GetSignedId()) != 16 {
			t.Errorf("%s: %v", name, c)
		}
	}
}

func TestOTK06_StockIsCapped(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	signed, rsa := alice.signedRecord()
	records := alice.oneTimeRecords(protocol.PrekeyStock + 20)
	counts := alice.must(uploadRequest(&wire.UploadPrekeys{SignedRecord: signed, Rsa: rsa, OneTimeRecords: records})).GetPrekeyCounts()
	if counts.GetOneTime() != protocol.PrekeyStock {
		t.Errorf("%d published, cap %d", counts.GetOneTime(), protocol.PrekeyStock)
	}
	alice.refused(protocol.StockFull, uploadRequest(&wire.UploadPrekeys{OneTimeRecords: records[protocol.PrekeyStock:]}))
	// What is published already is still a success.
	alice.must(uploadRequest(&wire.UploadPrekeys{OneTimeRecords: records[:3]}))
}

func TestOTK07_OldestUploadFirst(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	records := alice.publish(4)
	records = append(records, alice.oneTimeRecords(2)...)
	alice.must(uploadRequest(&wire.UploadPrekeys{OneTimeRecords: records[4:]}))
	claimers := []*device{member(t, s, "bob"), member(t, s, "carol")}
	for i, want := range records {
		if got := claimers[i%2].claim(alice); !bytes.Equal(got.GetOneTimeRecord(), want) {
			t.Fatalf("claim %d is not the oldest upload", i)
		}
	}
	if got := claimers[0].claim(alice); len(got.GetOneTimeRecord()) != 0 || len(got.GetSignedRecord()) == 0 {
		t.Error("from an empty stock: the signed prekey alone")
	}
}

func TestOTK08_ParallelClaimsGetDistinctKeys(t *testing.T) {
	t.Parallel()
	const accounts, each, perTarget = 67, 3, 60
	s := startServer(t, func(c *Config) { c.Limits.Strangers = 1000 })
	alice := member(t, s, "alice")
	records := alice.publish(protocol.PrekeyStock)
	var claimers []*device
	for i := range accounts {
		claimers = append(claimers, member(t, s, fmt.Sprintf("claimer_%d", i)))
	}
	var mu sync.Mutex
	var got [][]byte
	var wg sync.WaitGroup
	for i := range accounts * each {
		wg.Go(func() {
			resp, err := claimers[i%accounts].tryCall(lookupRequest("alice", nonce()))
			if err != nil || resp.GetCode() != 0 || len(resp.GetFound().GetBundles()) != 1 {
				t.Errorf("claim %d: %v %v", i, err, resp)
				return
			}
			b := resp.GetFound().GetBundles()[0]
			if len(b.GetSignedRecord()) == 0 {
				t.Errorf("claim %d has no signed prekey", i)
			}
			if len(b.GetOneTimeRecord()) > 0 {
				mu.Lock()
				got = append(got, b.GetOneTimeRecord())
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, r := range got {
		seen[string(r)] = true
	}
	if len(seen) != len(got) || len(got) != perTarget {
		t.Errorf("%d one-time prekeys, %d distinct, want %d", len(got), len(seen), perTarget)
	}
	// The response of an upload was lost, and all is uploaded again: nothing
	// that was claimed comes back.
	counts := alice.must(uploadRequest(&wire.UploadPrekeys{OneTimeRecords: records})).GetPrekeyCounts()
	if counts.GetOneTime() != protocol.PrekeyStock-perTarget {
		t.Fatalf("%d left after the repeated upload", counts.GetOneTime())
	}
	s.clock.add(time.Hour)
	for i := range protocol.PrekeyStock - perTarget {
		r := claimers[i].claim(alice).GetOneTimeRecord()
		if len(r) == 0 || seen[string(r)] {
			t.Fatalf("claim %d after the repeated upload: issued twice or none", i)
		}
		seen[string(r)] = true
	}
}

func TestClaimsAreLimited(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	alice.publish(20)
	last := nonce()
	for i := range 3 {
		n := last
		if i < 2 {
			n = nonce()
		}
		b := bob.must(lookupRequest("alice", n)).GetFound().GetBundles()[0]
		if len(b.GetOneTimeRecord()) == 0 {
			t.Fatalf("claim %d got no one-time prekey", i)
		}
	}
	if b := bob.claim(alice); len(b.GetOneTimeRecord()) != 0 || len(b.GetSignedRecord()) == 0 {
		t.Error("the fourth claim of the hour gets the signed prekey alone")
	}
	again := bob.must(lookupRequest("alice", last)).GetFound().GetBundles()[0]
	if len(again.GetOneTimeRecord()) == 0 {
		t.Error("a retry of the last claim is free")
	}
	if b := member(t, s, "carol").claim(alice); len(b.GetOneTimeRecord()) == 0 {
		t.Error("each claimer has a limit of its own")
	}
	s.clock.add(20 * time.Minute)
	if b := bob.claim(alice); len(b.GetOneTimeRecord()) == 0 {
		t.Error("three an hour come back one by one")
	}
}

func TestZeroNonceIsNotFree(t *testing.T) {
	c, now := newClaimBucket(), time.Unix(1_800_000_000, 0)
	empty := rate.NewLimiter(rate.Every(time.Hour), 1)
	empty.AllowN(now, 1)
	if c.allow(now, [16]byte{}, empty) {
		t.Error("the first claim was free")
	}
	if !c.allow(now, [16]byte{}, rate.NewLimiter(rate.Every(time.Hour), 1)) || !c.allow(now, [16]byte{}, empty) {
		t.Error("a claim or its retry was refused")
	}
}

func TestClaimRetryGetsTheSame(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	alice.publish(5)
	n := nonce()
	first := bob.must(lookupRequest("alice", n)).GetFound().GetBundles()[0]
	again := bob.must(lookupRequest("alice", n)).GetFound().GetBundles()[0]
	if !bytes.Equal(first.GetOneTimeRecord(), again.GetOneTimeRecord()) {
		t.Error("the same nonce got another prekey")
	}
	if c := alice.must(uploadRequest(&wire.UploadPrekeys{})).GetPrekeyCounts(); c.GetOneTime() != 4 {
		t.Errorf("%d left, want 4", c.GetOneTime())
	}
}

func TestLowStockIsPushed(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	alice.publish(protocol.PrekeyRefill + 1)
	link := alice.link()
	bob.claim(alice) // leaves PrekeyRefill: enough
	for _, h := range link.settled() {
		if h.GetPrekeys() != nil {
			t.Errorf("pushed with a full half: %v", h)
		}
	}
	bob.claim(alice)
	h := link.await("prekey counts", func(h *wire.Hint) bool { return h.GetPrekeys() != nil })
	if h.GetPrekeys().GetOneTime() != protocol.PrekeyRefill-1 || h.GetPrekeys().GetCap() != protocol.PrekeyStock {
		t.Errorf("pushed %v", h.GetPrekeys())
	}
}

func TestIM01_WeakRSAIsRefused(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	good := keytest.RSA(t, 0).Public().Bytes()

	even := bytes.Clone(good)
	even[511] &^= 1
	short := make([]byte, 512) // 2048 bits in 512 bytes
	copy(short[256:], good[:256])
	short[511] |= 1
	long := append([]byte{1}, good...)
	low := bytes.Clone(good)
	low[0] &= 0x7f
	for name, modulus := range map[string][]byte{
		"even": even, "2048 bits padded": short, "2048 bits": good[:256], "513 bytes": long, "top bit clear": low, "none": nil,
	} {
		t.Run(name, func(t *testing.T) {
			now := s.clock.Now()
			p, err := prekey.NewSigned(now, now.Add(time.Hour), alice.id, alice.dsk, sha256.Sum256(modulus))
			if err != nil {
				t.Fatal(err)
			}
			alice.refused(protocol.BadRequest, uploadRequest(&wire.UploadPrekeys{SignedRecord: p.Record.Marshal(), Rsa: modulus}))
		})
	}
	record, _ := alice.signedRecord()
	other := keytest.RSA(t, 1).Public().Bytes()
	alice.refused(protocol.BadSignature, uploadRequest(&wire.UploadPrekeys{SignedRecord: record, Rsa: other}))

	alice.publish(1)
	rsa := member(t, s, "bob").claim(alice).GetRsa()
	if bits := new(big.Int).SetBytes(rsa).BitLen(); bits != 4096 {
		t.Errorf("the published modulus has %d bits", bits)
	}
}

func TestUploadRefused(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	own := alice.oneTimeRecords(2)
	signed, rsa := alice.signedRecord()
	flipped := bytes.Clone(own[0])
	flipped[len(flipped)-1] ^= 1
	s.clock.add(2 * clockSlack)
	late := alice.oneTimeRecords(1)
	s.clock.add(-2 * clockSlack)
	for name, c := range map[string]struct {
		upload *wire.UploadPrekeys
		code   protocol.Code
	}{
		"garbage":            {&wire.UploadPrekeys{OneTimeRecords: [][]byte{{1, 2, 3}}}, protocol.BadRequest},
		"signature":          {&wire.UploadPrekeys{OneTimeRecords: [][]byte{own[1], flipped}}, protocol.BadSignature},
		"of another device":  {&wire.UploadPrekeys{OneTimeRecords: bob.oneTimeRecords(1)}, protocol.BadSignature},
		"signed as one-time": {&wire.UploadPrekeys{OneTimeRecords: [][]byte{signed}}, protocol.BadRequest},
		"one-time as signed": {&wire.UploadPrekeys{SignedRecord: own[0], Rsa: rsa}, protocol.BadRequest},
		"from the future":    {&wire.UploadPrekeys{OneTimeRecords: late}, protocol.BadRequest},
	} {
		t.Run(name, func(t *testing.T) { alice.refused(c.code, uploadRequest(c.upload)) })
	}
	if c := alice.must(uploadRequest(&wire.UploadPrekeys{})).GetPrekeyCounts(); c.GetOneTime() != 0 || len(c.GetSignedId()) != 0 {
		t.Errorf("a refused upload left something: %v", c)
	}
}

// A device without a prekey has no bundle; the look-up still works.
func TestLookupOfUnpreparedDevice(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	found := bob.must(lookupRequest("alice", nonce())).GetFound()
	if len(found.GetBundles()) != 0 || !bytes.Equal(found.GetChain(), alice.chain.Bytes()) {
		t.Errorf("bundles %v", found.GetBundles())
	}
	alice.publish(1)
	s.clock.add(prekey.SignedExpires + time.Second)
	if found := bob.must(lookupRequest("alice", nonce())).GetFound(); len(found.GetBundles()) != 0 {
		t.Error("an expired signed prekey was given out")
	}
}
