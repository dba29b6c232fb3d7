package rendezvous

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
)

func TestBlobRefused(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.BlobBytes = 1000 })
	alice, bob, eve, stranger := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "eve"), newDevice(t, s, "stranger")
	befriend(alice, bob)
	p := newParty(t, alice, bob)
	many, odd, both, short := putFor(1, 10), putFor(1, 10, bob), putFor(1, 10, bob), putFor(1, 10, bob)
	for range maxBlobAccounts + 1 {
		many.Accounts = append(many.Accounts, bob.owner[:])
	}
	odd.Accounts = [][]byte{{1}}
	both.Room = putIn(1, 10, p).Room
	short.Id = short.Id[:15]
	huge := putFor(1, 10, bob)
	huge.Size = 1<<64 - 1
	for name, c := range map[string]struct {
		by   *device
		put  *wire.PutBlob
		want protocol.Code
	}{
		"too large":               {alice, putFor(1, 1001, bob), protocol.TooLarge},
		"huge":                    {alice, huge, protocol.TooLarge},
		"empty":                   {alice, putFor(1, 0, bob), protocol.BadRequest},
		"for nobody":              {alice, putFor(1, 10), protocol.BadRequest},
		"for accounts and a room": {alice, both, protocol.BadRequest},
		"for too many":            {alice, many, protocol.TooLarge},
		"for no account":          {alice, odd, protocol.BadRequest},
		"a short id":              {alice, short, protocol.BadRequest},
		"to who has not accepted": {eve, putFor(1, 10, alice), protocol.NotContact},
		"to nobody known":         {alice, putFor(1, 10, stranger), protocol.NotContact},
		"into a room of others":   {eve, putIn(1, 10, p), protocol.UnknownRoom},
		"of a stranger":           {stranger, putFor(1, 10, alice), protocol.NotMember},
	} {
		if got := c.by.offerBlob(c.put); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	for name, req := range map[string]*wire.Request{"another call": lookupRequest("bob", nil), "no call": {}} {
		stream, resp := alice.blobStream(req)
		if got := protocol.Code(resp.GetCode()); got != protocol.BadRequest {
			t.Errorf("%s: %v", name, got)
		}
		stream.Close()
	}
	alice.refused(protocol.BadRequest, &wire.Request{Call: &wire.Request_PutBlob{PutBlob: putFor(1, 10, bob)}})
	if u, err := s.store.Totals(t.Context()); err != nil || u.Blobs.Count != 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

// What an account puts counts before a byte of it came.
func TestBlobQuota(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.BlobBytes, c.Limits.BlobQuota, c.Limits.BlobCount = 1000, 2500, 3 })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	p := newParty(t, alice, bob)
	offer := func(put *wire.PutBlob, want protocol.Code) {
		t.Helper()
		if got := alice.offerBlob(put); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	offer(putFor(1, 1000, bob), protocol.OK)
	offer(putIn(2, 1000, p), protocol.OK)
	offer(putFor(3, 501, bob), protocol.BlobFull)
	offer(putFor(3, 500, bob), protocol.OK)
	offer(putFor(3, 499, bob), protocol.BadRequest)
	alice.must(dropRequest(1))
	offer(putFor(4, 1, bob), protocol.OK)
	offer(putFor(5, 1, bob), protocol.BlobFull)
	st, err := s.Status(t.Context())
	if err != nil || st.Blobs != 3 || st.BlobBytes != 1501 {
		t.Errorf("status: %d blobs of %d bytes, %v", st.Blobs, st.BlobBytes, err)
	}
}

// A guest has a sixteenth of what a member has, and is told so.
func TestBlobQuotaOfGuests(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.BlobQuota, c.Limits.BlobCount = 1600, 32 })
	alice := member(t, s, "alice")
	p := newGuestRoom(t, alice)
	p.do(alice, room.SetRoleRights{Role: room.RoleGuest, Rights: room.Access})
	bert := visiting(t, s, p, alice, "bert")
	for d, want := range map[*device]uint64{alice: 1600, bert: 100} {
		if got := d.link().welcome.GetLimits().GetBlobBytes(); got != want {
			t.Errorf("%s is told %d bytes, want %d", d.name, got, want)
		}
	}
	for _, c := range []struct {
		n    byte
		size int
		want protocol.Code
	}{{1, 101, protocol.TooLarge}, {1, 60, protocol.OK}, {2, 41, protocol.BlobFull}, {2, 20, protocol.OK}, {3, 20, protocol.BlobFull}} {
		if got := bert.offerBlob(putIn(c.n, c.size, p)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestGST12_BlobsOfRooms: a file in a room is for who may read there now: not for others,
// not for who was removed, nor for a guest whose time is over; and it comes only from who
// may send files.
func TestGST12_BlobsOfRooms(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, carol, eve := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol"), member(t, s, "eve")
	p := newGuestRoom(t, alice)
	for _, d := range []*device{bob, carol} {
		p.do(alice, room.Invite{Account: d.owner})
		p.do(d, room.Join{Chain: d.chain.Bytes()})
	}
	bert := visiting(t, s, p, alice, "bert")
	body := noise(100_000)
	carol.upload(putIn(1, len(body), p), body)
	for _, d := range []*device{alice, bob, carol, bert} {
		if got := d.download(carol, 1, 0, 1<<40); !bytes.Equal(got, body) {
			t.Errorf("%s got %d bytes", d.name, len(got))
		}
	}
	eve.noBlob(carol, 1)

	refused := func(d *device, put *wire.PutBlob, want protocol.Code) {
		t.Helper()
		if got := d.offerBlob(put); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	refused(bert, putIn(2, 10, p), protocol.StaleEpoch) // guests send no files here
	refused(bert, putFor(2, 10, alice), protocol.NotMember)
	p.do(alice, room.SetRoleRights{Role: room.RoleGuest, Rights: room.Access})
	bert.upload(putIn(2, 10, p), body[:10])
	s.clock.add(25 * time.Hour)
	p.do(alice, room.GuestExpire{Account: bert.owner})
	bert.noBlob(carol, 1)
	refused(bert, putIn(3, 10, p), protocol.UnknownRoom)

	p.do(alice, room.Remove{Account: bob.owner})
	bob.noBlob(carol, 1)
	refused(bob, putIn(2, 10, p), protocol.Banned)
	p.do(alice, room.SetMemberRights{Account: carol.owner, Muted: true})
	refused(carol, putIn(2, 10, p), protocol.StaleEpoch)

	alice.must(takenRequest(carol, 1)) // everybody else has it who may
	carol.noBlob(carol, 1)
	if n := s.bodies(); n != 1 {
		t.Errorf("%d bodies", n)
	}
}

// TestBlobOfWhoEndedTheContact: who is taken off the author's list gets nothing of what
// waits for him, also if it came here before, or comes after.
func TestBlobOfWhoEndedTheContact(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, carol := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol")
	alice.setContacts(bob, carol)
	bob.setContacts(alice)
	carol.setContacts(alice)
	body := noise(1000)
	alice.upload(putFor(1, len(body), bob, carol), body)
	alice.setContacts(carol)
	alice.upload(putFor(2, len(body), bob, carol), body)
	for n := range byte(2) {
		bob.noBlob(alice, n+1)
		for _, d := range []*device{alice, carol} {
			if got := d.download(alice, n+1, 0, 1<<40); !bytes.Equal(got, body) {
				t.Errorf("%s got %d bytes of blob %d", d.name, len(got), n+1)
			}
		}
	}
	befriend(alice, bob)
	if got := bob.download(alice, 1, 0, 1<<40); !bytes.Equal(got, body) {
		t.Errorf("a contact again got %d bytes", len(got))
	}
}

// TestGST12_RemovedWhileFetching: what is on its way to who was removed from a room is
// cut off, however slowly he reads.
func TestGST12_RemovedWhileFetching(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	p := newParty(t, alice, bob)
	body := noise(4 * blobCheck)
	alice.upload(putIn(1, len(body), p), body)
	stream, resp := bob.blobStream(getRequest(alice, 1, 0, 1<<40))
	expectCode(t, resp, protocol.OK)
	p.do(alice, room.Remove{Account: bob.owner})
	if got, err := io.ReadAll(stream); err == nil || isTimeout(err) || len(got) >= 2*blobCheck {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// What one device fetches is bounded, also in bytes.
func TestBlobBytesAreLimited(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	body := noise(blobChunk + 1)
	alice.upload(putFor(1, len(body), bob), body)
	s.rates.blobOut.get(bob.id).ReserveN(s.clock.Now(), blobOutChunks-3)
	bob.download(alice, 1, 0, 1<<40) // two chunks
	refused := bob.askBlob(alice, 1, 1<<40)
	expectCode(t, refused, protocol.RateLimited)
	bob.have(alice, 1) // which costs none
	s.clock.add(time.Duration(refused.GetRetryAfterMs()) * time.Millisecond)
	bob.download(alice, 1, 0, 1<<40)
}
