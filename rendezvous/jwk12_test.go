package rendezvous

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
)

// JWK-12: what holds for the keys that tokens are signed with holds for the chat
// keys in the directory too. Here is the rendezvous's half.

const (
	keyReaders = 8
	keyChanges = 30
)

// readers look alice up as fast as they can until change has returned.
func readers(t *testing.T, s *testServer, look func(by *device), change func()) {
	t.Helper()
	var people []*device
	for i := range keyReaders {
		people = append(people, member(t, s, fmt.Sprintf("reader_%d", i)))
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	for _, p := range people {
		wg.Go(func() {
			for !done.Load() && !t.Failed() {
				look(p)
			}
		})
	}
	change()
	done.Store(true)
	wg.Wait()
}

// JWK-01 and JWK-10: the look-up that begins after an upload was answered shows
// the new signed prekey or a later one, and no look-up is without a valid one.
func TestJWK12_NextLookupShowsTheNewKey(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(c *Config) { c.Limits.Calls = 1e6 })
	alice := member(t, s, "alice")
	alice.publish(0)
	rsa := keytest.RSA(t, 0).Public()
	newest := atomic.Int64{} // published, unix seconds
	looked := atomic.Int64{}
	look := func(by *device) {
		atLeast := newest.Load()
		resp, err := by.tryCall(lookupRequest("alice", nonce()))
		if err != nil || resp.GetCode() != 0 || len(resp.GetFound().GetBundles()) != 1 {
			t.Errorf("look-up: %v, %v", resp, err)
			return
		}
		b := resp.GetFound().GetBundles()[0]
		r, err := prekey.Parse(b.GetSignedRecord())
		if err != nil || r.Verify(alice.id, alice.dsk.Public()) != nil || r.CheckTime(s.clock.Now()) != nil || r.RSAHash != rsa.Hash() || !bytes.Equal(b.GetRsa(), rsa.Bytes()) {
			t.Errorf("no valid signed prekey: %v", err)
		}
		if r.Created.Unix() < atLeast {
			t.Errorf("a key of %v although one of %d was published before", r.Created, atLeast)
		}
		looked.Add(1)
	}
	readers(t, s, look, func() {
		for range keyChanges {
			s.clock.add(10 * time.Minute)
			now := s.clock.Now()
			record, rsa := alice.signedRecord()
			alice.must(uploadRequest(&wire.UploadPrekeys{SignedRecord: record, Rsa: rsa}))
			newest.Store(now.Unix())
		}
	})
	if looked.Load() < keyReaders {
		t.Errorf("%d look-ups", looked.Load())
	}
}

// JWK-03 and JWK-05: a device leaves the answers in the commit that revokes it.
// No look-up shows keys of a device that its own chain does not certify, and once
// the revocation was answered none shows the device, whatever is sent again.
func TestJWK12_RevokedDeviceLeavesInTheSameCommit(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(c *Config) { c.Limits.Calls, c.Limits.Strangers = 1e6, 1e6 })
	alice := member(t, s, "alice")
	alice.publish(0)
	longest := atomic.Int64{} // statements of the chain that was answered OK
	look := func(by *device) {
		atLeast := longest.Load()
		resp, err := by.tryCall(lookupRequest("alice", nonce()))
		if err != nil || resp.GetCode() != 0 {
			t.Errorf("look-up: %v, %v", resp, err)
			return
		}
		chain, err := account.ParseChain(resp.GetFound().GetChain())
		if err != nil || int64(chain.Seq()) < atLeast {
			t.Errorf("a chain of %d, and %d was answered before, %v", chain.Seq(), atLeast, err)
			return
		}
		for _, b := range resp.GetFound().GetBundles() {
			certified := slices.ContainsFunc(chain.Devices(s.clock.Now()), func(c account.Cert) bool {
				id := c.DeviceID()
				return bytes.Equal(id[:], b.GetDevice())
			})
			if !certified {
				t.Error("keys of a device that the chain beside them does not certify")
			}
		}
	}
	var revoked []*device
	readers(t, s, look, func() {
		for range 3 {
			phone := alice.second()
			longest.Store(int64(alice.chain.Seq()))
			record, rsa := phone.signedRecord()
			phone.must(uploadRequest(&wire.UploadPrekeys{SignedRecord: record, Rsa: rsa, OneTimeRecords: phone.oneTimeRecords(2)}))
			before := alice.chain
			alice.update(alice.without(phone))
			longest.Store(int64(alice.chain.Seq()))
			alice.refused(protocol.ChainConflict, updateRequest(before)) // late: it brings nothing back
			revoked = append(revoked, phone)
			s.clock.add(time.Hour) // changes are counted
		}
	})
	bundles := alice.must(lookupRequest("alice", nonce())).GetFound().GetBundles()
	for _, phone := range revoked {
		if slices.ContainsFunc(bundles, func(b *wire.Bundle) bool { return bytes.Equal(b.GetDevice(), phone.id[:]) }) {
			t.Error("a revoked device is back")
		}
	}
}
