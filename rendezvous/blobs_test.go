package rendezvous

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-chat/parley/protocol"
)

// A blob that was put is got by its recipients, in parts, and by nobody else; also after
// a restart; and is gone once all of them have it.
func TestBlob(t *testing.T) {
	t.Parallel()
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
	s.welcomeBack(alice, bob, carol, eve)
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
	t.Parallel()
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

// A peer that does not send, or does not read, is cut off; what it brought stays.
func TestBlobStalls(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	body := noise(2 << 20) // more than the buffers on its way
	alice.upload(putFor(1, len(body), bob), body)
	s.stopNow()
	s = startServer(t, func(c *Config) { c.Dir, c.Limits.BlobStall = dir, 200*time.Millisecond })
	s.welcomeBack(alice, bob)
	silent, resp := alice.beginBlob(putFor(2, len(body), bob))
	expectCode(t, resp, protocol.OK)
	silent.Write(body[:1000])
	if _, err := silent.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("who does not send: %v", err)
	}
	if have := bob.have(alice, 2); have != 1000 {
		t.Errorf("what it brought: %d bytes", have)
	}

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
	s.welcomeBack(alice)
	if from := alice.upload(put, body); from != blobChunk {
		t.Errorf("went on at %d", from)
	}
}
