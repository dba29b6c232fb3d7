package rendezvous

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
)

// A blob that was put is got by its recipients, in parts, and by nobody else; also after
// a restart; and is gone once all of them have it.
func TestBlob(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice, bob, carol, eve := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol"), member(t, s, "eve")
	alice.setContacts(bob, carol)
	bob.setContacts(alice)
	carol.setContacts(alice)
	body := noise(5<<20 + 123)
	put := putFor(1, len(body), bob, carol)
	if from := alice.upload(put, body); from != 0 {
		t.Errorf("began at %d", from)
	}
	if from := alice.upload(put, body); from != uint64(len(body)) {
		t.Errorf("again, from %d", from)
	}
	state := bob.askBlob(alice, 1, 0).GetBlobState()
	if want := uint64(s.clock.Now().Add(protocol.MailboxTTL).UnixMilli()); state.GetExpiresMs() != want || state.GetHave() != uint64(len(body)) {
		t.Errorf("state %v, want it to expire at %d", state, want)
	}
	alice.noBlob(bob, 1) // the name is the author's
	eve.noBlob(alice, 1)
	eve.noBlob(alice, 2)

	s.stopNow()
	s = startServer(t, func(c *Config) { c.Dir = dir })
	for _, d := range []*device{alice, bob, carol, eve} {
		d.server, d.host = s, newPeer(t, s, d.hosts)
		d.greet()
	}
	for _, d := range []*device{alice, bob, carol} {
		if got := d.download(alice, 1, 0, 1<<60); !bytes.Equal(got, body) {
			t.Fatalf("%s got %d bytes", d.name, len(got))
		}
	}
	size := uint64(len(body))
	for _, c := range []struct{ from, count, want uint64 }{{0, 0, 0}, {0, 1, 1}, {1 << 20, 100, 100}, {size - 1, 100, 1}, {size, 1, 0}, {1 << 63, 1 << 63, 0}, {5, 1<<64 - 1, size - 5}} {
		got := bob.download(alice, 1, c.from, c.count)
		if uint64(len(got)) != c.want || c.want > 0 && !bytes.Equal(got, body[c.from:c.from+c.want]) {
			t.Errorf("%+v: %d bytes", c, len(got))
		}
	}
	eve.noBlob(alice, 1)

	bob.must(takenRequest(alice, 1))
	bob.must(takenRequest(alice, 1))
	if bob.have(alice, 1) != size || s.bodies() != 1 {
		t.Error("it is gone before carol has it")
	}
	carol.must(takenRequest(alice, 1))
	for _, d := range []*device{alice, bob, carol} {
		d.noBlob(alice, 1)
	}
	if n := s.bodies(); n != 0 {
		t.Errorf("%d bodies", n)
	}
}

// An upload that is cut at any byte goes on there, whoever cuts it; what was told to be
// there is, and may be got already.
func TestBlobResumes(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	body := noise(9 << 20)
	put := putFor(1, len(body), bob)
	have := 0
	for _, upTo := range []int{0, 1, 2, blobChunk - 1, blobChunk + 1, 1 << 20, blobStep + 5, 2 * blobStep, len(body) - 1} {
		alice.cutOff(put, body, upTo)
		if got := int(bob.have(alice, 1)); got != upTo {
			t.Fatalf("cut at %d: %d bytes are there", upTo, got)
		}
		if got := bob.download(alice, 1, uint64(have), 1<<40); !bytes.Equal(got, body[have:upTo]) {
			t.Fatalf("from %d to %d: %d bytes", have, upTo, len(got))
		}
		have = upTo
	}
	if from := alice.upload(put, body); from != uint64(have) {
		t.Errorf("went on at %d, not %d", from, have)
	}
	if got := bob.download(alice, 1, 0, 1<<40); !bytes.Equal(got, body) {
		t.Errorf("%d bytes", len(got))
	}
}

// A newer stream for the same blob takes over from one that hangs, and what that brought
// counts.
func TestBlobTakenOver(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	body := noise(1 << 20)
	put := putFor(1, len(body), bob)
	hangs, resp := alice.beginBlob(put)
	expectCode(t, resp, protocol.OK)
	hangs.Write(body[:300_000])
	eventually(t, "the server has read some", func() bool {
		info, err := os.Stat(s.bodyPath(alice, 1))
		return err == nil && info.Size() > 0
	})
	if from := alice.upload(put, body); from == 0 || from > 300_000 {
		t.Errorf("went on at %d", from)
	}
	if _, err := hangs.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the old stream: %v", err)
	}
	if got := bob.download(alice, 1, 0, 1<<40); !bytes.Equal(got, body) {
		t.Errorf("%d bytes", len(got))
	}
}

// What is dropped, or has expired, is gone with its body; an upload of it ends.
func TestBlobDroppedAndExpired(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	body := noise(100_000)
	alice.upload(putFor(1, len(body), bob), body)
	alice.upload(putFor(2, len(body), bob), body)
	bob.must(dropRequest(1)) // it is not his: his own, of which there is none
	running, resp := alice.beginBlob(putFor(3, len(body), bob))
	expectCode(t, resp, protocol.OK)
	for n := range byte(3) {
		alice.must(dropRequest(n + 1))
		bob.noBlob(alice, n+1)
	}
	if _, err := running.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the upload goes on: %v", err)
	}
	if n := s.bodies(); n != 0 {
		t.Errorf("%d bodies", n)
	}

	alice.upload(putFor(1, len(body), bob), body)
	late, resp := alice.beginBlob(putFor(4, len(body), bob))
	expectCode(t, resp, protocol.OK)
	s.clock.add(protocol.MailboxTTL)
	bob.noBlob(alice, 1)
	if _, err := s.store.Sweep(t.Context(), s.clock.Now()); err != nil {
		t.Fatal(err)
	}
	late.Write(body)
	expectCode(t, alice.blobAnswer(late), protocol.UnknownFile)
	eventually(t, "the upload has ended", func() bool {
		if err := s.sweepBodies(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s.bodies() == 0
	})
}

func TestBlobRefused(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.BlobBytes, c.Limits.BlobQuota, c.Limits.BlobCount = 1000, 2500, 3 })
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
		stream, resp := c.by.beginBlob(c.put)
		if got := protocol.Code(resp.GetCode()); got != c.want {
			t.Errorf("%s: %v %s, want %v", name, got, resp.GetDetail(), c.want)
		}
		stream.Close()
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

	full := func(put *wire.PutBlob, want protocol.Code) {
		t.Helper()
		stream, resp := alice.beginBlob(put)
		stream.Close()
		expectCode(t, resp, want)
	}
	full(putFor(1, 1000, bob), protocol.OK) // it counts before a byte of it came
	full(putIn(2, 1000, p), protocol.OK)
	full(putFor(3, 501, bob), protocol.BlobFull)
	full(putFor(3, 500, bob), protocol.OK)
	full(putFor(3, 499, bob), protocol.BadRequest)
	alice.must(dropRequest(1))
	full(putFor(4, 1, bob), protocol.OK)
	full(putFor(5, 1, bob), protocol.BlobFull)
	st, err := s.Status(t.Context())
	if err != nil || st.Blobs != 3 || st.BlobBytes != 1501 {
		t.Errorf("status: %d blobs of %d bytes, %v", st.Blobs, st.BlobBytes, err)
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
		stream, resp := d.beginBlob(put)
		stream.Close()
		expectCode(t, resp, want)
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

// A peer that does not send, or does not read, is cut off; what it brought stays.
func TestBlobStalls(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	s := startServer(t, func(c *Config) { c.Limits.BlobStall = 200 * time.Millisecond })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	body := noise(32 << 20)
	put := putFor(1, len(body), bob)
	silent, resp := alice.beginBlob(put)
	expectCode(t, resp, protocol.OK)
	silent.Write(body[:1000])
	if _, err := silent.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("who does not send: %v", err)
	}
	if have := bob.have(alice, 1); have != 1000 {
		t.Errorf("what it brought: %d bytes", have)
	}

	alice.upload(put, body)
	deaf, resp := bob.blobStream(getRequest(alice, 1, 0, 1<<40))
	expectCode(t, resp, protocol.OK)
	eventually(t, "who does not read is cut off", func() bool { return s.blobStreams() == 0 })
	if n, err := io.Copy(io.Discard, deaf); err == nil || n == int64(len(body)) {
		t.Errorf("who did not read: %d bytes, %v", n, err)
	}
	s.stopNow()
	alice.host.Close()
	bob.host.Close()
	goleak.VerifyNone(t, ignore)
}

func (ts *testServer) blobStreams() (n int) {
	for _, c := range ts.host.Network().Conns() {
		for _, s := range c.GetStreams() {
			if s.Protocol() == protocol.BlobProtocol {
				n++
			}
		}
	}
	return n
}

// A server that drains does not wait for uploads, and keeps what came.
func TestBlobWhileDraining(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	body := noise(1 << 20)
	put := putFor(1, len(body), bob)
	running, resp := alice.beginBlob(put)
	expectCode(t, resp, protocol.OK)
	running.Write(body[:blobChunk])
	eventually(t, "the server has read it", func() bool {
		info, err := os.Stat(s.bodyPath(alice, 1))
		return err == nil && info.Size() == blobChunk
	})
	began := time.Now()
	s.stopNow()
	if took := time.Since(began); took > drainTimeout/2 {
		t.Errorf("it took %v", took)
	}
	s = startServer(t, func(c *Config) { c.Dir = dir })
	alice.server, alice.host = s, newPeer(t, s, alice.hosts)
	alice.greet()
	if from := alice.upload(put, body); from != blobChunk {
		t.Errorf("went on at %d", from)
	}
}
