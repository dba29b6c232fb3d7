package rendezvous

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
)

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
