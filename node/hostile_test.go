package node_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
)

// Neither somebody unknown nor a member who is no contact gets a connection.
func TestStrangersCannotConnect(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	net.Befriend(alice, bob)
	to := where(t, alice)
	carol.Stop()
	bob.Stop()
	for name, k := range map[string]key.HostPrivate{"unknown": key.NewHost(), "carol": hostKey(t, carol)} {
		h := bareHost(t, k)
		if err := h.Connect(t.Context(), to); err == nil && alive(t, h, to.ID) {
			t.Errorf("%s is let in", name)
		}
	}
	h := bareHost(t, hostKey(t, bob)) // what is tested would work for a contact
	if err := h.Connect(t.Context(), to); err != nil || !alive(t, h, to.ID) {
		t.Errorf("a contact is not let in: %v", err)
	}
}

// impostor stops somebody and puts a bare host with their key in their place,
// connected to another person.
func impostor(t *testing.T, p, to *nodetest.Person) (host.Host, peer.AddrInfo) {
	t.Helper()
	info := where(t, to)
	p.Stop()
	h := bareHost(t, hostKey(t, p))
	if err := h.Connect(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	return h, info
}

// deliver sends one frame and returns the answer's codes.
func deliver(t *testing.T, s network.Stream, envs ...[]byte) []uint32 {
	t.Helper()
	s.SetDeadline(time.Now().Add(nodetest.Patience))
	if err := wire.WriteMsg(s, &wire.Deliver{Envelopes: envs}); err != nil {
		t.Fatal(err)
	}
	answer := &wire.Delivered{}
	if err := wire.ReadMsg(s, answer); err != nil {
		t.Fatal(err)
	}
	return answer.GetCodes()
}

func openMsg(t *testing.T, h host.Host, to peer.ID) network.Stream {
	t.Helper()
	s, err := h.NewStream(t.Context(), to, protocol.MsgProtocol)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGarbageFromAContact(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	bob.Say(alice, "before")
	net.Wait("alice has it", has(alice, bob, "before"))
	last, err := alice.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h, info := impostor(t, bob, alice)

	noise := make([]byte, 1000)
	rand.Read(noise)
	s := openMsg(t, h, info.ID)
	codes := deliver(t, s, noise, nil, []byte{1}, make([]byte, protocol.MaxEnvelope+1))
	for i, c := range codes {
		if protocol.Code(c) != protocol.Undecryptable {
			t.Errorf("garbage %d: %v", i, protocol.Code(c))
		}
	}
	// The stream goes on after garbage in envelopes, and ends for garbage in
	// frames.
	bad := map[string][]byte{
		"not a message": append(binary.BigEndian.AppendUint32(nil, 1000), noise...),
		"too large":     binary.BigEndian.AppendUint32(nil, protocol.MaxFrame+1),
		"no envelope":   {0, 0, 0, 0},
	}
	for name, frame := range bad {
		s := openMsg(t, h, info.ID)
		s.SetDeadline(time.Now().Add(nodetest.Patience))
		if _, err := s.Write(frame); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s); err == nil || len(b) > 0 {
			t.Errorf("%s: answered %x, %v", name, b, err)
		}
	}
	if got := texts(alice.With(bob)); !slices.Equal(got, []string{"before"}) {
		t.Errorf("garbage made messages: %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
	defer cancel()
	for e, err := range alice.Events(ctx, last) { // IM-12: a typed event, never a body
		if err != nil || e.Kind != "undecryptable" || e.Cause == "" || e.Message != nil {
			t.Errorf("event %+v, %v", e, err)
		}
		break
	}
	h.Close()
	bob.Start()
	bob.Say(alice, "after")
	net.Wait("bob himself still gets through", has(alice, bob, "before", "after"))
}

// A peer that takes messages and never answers loses the stream; what it did
// not acknowledge goes to the mailbox.
func TestStalledPeer(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a time-out of 20 s")
	}
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "1")
	net.Wait("bob has it", has(bob, alice, "1"))
	info := where(t, alice)
	bob.Stop()
	h := bareHost(t, hostKey(t, bob))
	taken := make(chan struct{}, 100)
	h.SetStreamHandler(protocol.MsgProtocol, func(s network.Stream) {
		taken <- struct{}{}
		io.Copy(io.Discard, s)
	})
	if err := h.Connect(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	net.Wait("alice has the connection", func() bool { return alive(t, h, info.ID) && alice.Contact("bob").Path == api.Direct })
	m := alice.Say(bob, "2")
	select {
	case <-taken:
	case <-time.After(nodetest.Patience):
		t.Fatalf("not sent over the connection: %+v", alice.Message(m.ID))
	}
	if got := alice.Message(m.ID).State; got != api.Queued {
		t.Errorf("not acknowledged, but %s", got)
	}
	end := time.Now().Add(2 * nodetest.Patience)
	for alice.Message(m.ID).State != api.Stored && time.Now().Before(end) {
		time.Sleep(50 * time.Millisecond)
	}
	if got := alice.Message(m.ID); got.State != api.Stored || got.Path != api.Mailbox {
		t.Errorf("after the time-out: %+v", got)
	}
	h.Close()
	bob.Start()
	net.Wait("bob has it once", has(bob, alice, "1", "2"))
}
