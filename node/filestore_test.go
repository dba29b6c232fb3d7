package node_test

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// storedGone returns whether the rendezvous has nothing of a file for somebody.
func storedGone(t *testing.T, p *nodetest.Person, by protocol.AccountID, from *nodetest.Person, id string) func() bool {
	t.Helper()
	d, err := from.File(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return func() bool {
		answer, err := p.Blobs().Source(by, d).Pieces(t.Context(), 0, 1)
		if err == nil {
			answer.Close()
		}
		return errors.Is(err, transfer.ErrGone)
	}
}

// Whoever is blocked is away for who blocked him, and gets nothing by that: neither what
// waits for him here nor what waits at the rendezvous.
func TestBlockedContactIsStoredNothing(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 4)
	alice, bob, carol, dave := net.People[0], net.People[1], net.People[2], net.People[3]
	for _, p := range net.People[1:] {
		net.Befriend(alice, p)
	}
	by := accountOf(t, alice)
	block := func(p *nodetest.Person) {
		t.Helper()
		if _, err := alice.Block(t.Context(), p.Name); err != nil {
			t.Fatal(err)
		}
	}
	carol.Stop()
	dave.Stop()
	path, _ := someFile(t, "film.mkv", 1<<20)
	stored := sendFile(t, alice, "dave", path)
	net.Wait("it is stored for dave", func() bool { return fileOf(t, alice, stored.ID).Stored })
	block(dave)
	net.Wait("it is taken back", storedGone(t, alice, by, alice, stored.ID))

	m := sendFile(t, alice, "bob", path)
	net.Wait("bob sees it", func() bool { return fileOf(t, bob, m.ID).State != "" })
	block(bob)
	net.Wait("they are away for each other", func() bool { online := bob.Contact("alice").Online; return online != nil && !*online })
	later := sendFile(t, alice, "carol", path)
	net.Wait("it is stored for carol", func() bool { return fileOf(t, alice, later.ID).Stored })
	if !storedGone(t, bob, by, bob, m.ID)() {
		t.Error("the rendezvous has it for who was blocked")
	}
}

// A file that is cancelled while it is brought to the rendezvous is not brought on.
func TestCancelledFileIsNotBroughtOn(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	bob.Stop()
	begun := make(chan struct{}, 1)
	net.Home.Host().SetStreamHandler(protocol.BlobProtocol, func(s network.Stream) { // takes nothing in
		q := &wire.Request{}
		wire.ReadMsg(s, q)
		blobAnswer(s, &wire.BlobState{Size: q.GetPutBlob().GetSize()})
		begun <- struct{}{}
	})
	path, _ := someFile(t, "film.mkv", 40<<20)
	m := sendFile(t, alice, "bob", path)
	<-begun
	doFile(t, alice, m.ID, api.FileCancel, api.FileRequest{})
	net.Wait("it is not brought on", func() bool { return fileOf(t, alice, m.ID).Progress == nil })
}

// What came to the rendezvous of a file is taken back when that was cancelled while there
// was no way to it.
func TestHalfStoredFileIsTakenBack(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	bob.Stop()
	path, _ := someFile(t, "film.mkv", 40<<20)
	m := sendFile(t, alice, "bob", path)
	net.Wait("some of it is there", func() bool {
		f := fileOf(t, alice, m.ID)
		return f.Stored || f.Progress != nil && f.Progress.Doing == api.Storing && f.Progress.Done > 0
	})
	net.Home.Stop()
	doFile(t, alice, m.ID, api.FileCancel, api.FileRequest{})
	net.Home.Start()
	net.Wait("it is taken back", storedGone(t, alice, accountOf(t, alice), alice, m.ID))
}
