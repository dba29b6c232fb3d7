package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous"
)

// offered is a file that is ready to be given.
type offered struct {
	content []byte
	path    string
	d       *file.Descriptor
	list    file.List
	*transfer.Original
}

func offer(t testing.TB, size int) *offered {
	t.Helper()
	o := &offered{content: make([]byte, size), path: filepath.Join(t.TempDir(), "holiday.bin")}
	rand.NewChaCha8([32]byte{byte(size)}).Read(o.content)
	if err := os.WriteFile(o.path, o.content, 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := transfer.Open(o.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if o.d, o.list, err = transfer.Prepare(t.Context(), c, "holiday.bin", nil); err != nil {
		t.Fatal(err)
	}
	if o.Original, err = transfer.NewOriginal(c, o.d, o.list); err != nil {
		t.Fatal(err)
	}
	return o
}

func accountOf(t testing.TB, p *nodetest.Person) protocol.AccountID {
	t.Helper()
	st, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var id protocol.AccountID
	if err := id.UnmarshalText([]byte(st.Account)); err != nil {
		t.Fatal(err)
	}
	return id
}

// bring puts a file for accounts, once.
func (o *offered) bring(t testing.TB, by *nodetest.Person, to ...protocol.AccountID) error {
	return by.Blobs().Put(t.Context(), to, protocol.RoomID{}, o.d, o.list, o, nil)
}

// fetchStored fetches a file from the rendezvous, as who knows only the descriptor.
func (o *offered) fetchStored(t testing.TB, p *nodetest.Person, by protocol.AccountID) error {
	t.Helper()
	sources := []transfer.Source{p.Blobs().Source(by, o.d)}
	l, err := transfer.FetchList(t.Context(), o.d, sources, transfer.Options{})
	if err != nil {
		return err
	}
	part, err := transfer.OpenPart(t.TempDir(), "tag", o.d, l)
	if err != nil {
		return err
	}
	defer part.Close()
	if err := part.Check(t.Context(), nil); err != nil {
		return err
	}
	if err := transfer.Fetch(t.Context(), part, sources, transfer.Options{}); err != nil {
		return err
	}
	path, err := part.Finish(t.Context())
	if err != nil {
		return err
	}
	got, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(got, o.content) {
		err = fmt.Errorf("another file of %d bytes", len(got))
	}
	return err
}

// A file that was brought to the rendezvous is there for the contact when its author is
// away, whatever its size; with the recipient's word it goes.
func TestStoredFile(t *testing.T) {
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	net.Befriend(alice, bob)
	by, to := accountOf(t, alice), accountOf(t, bob)
	var files []*offered
	for _, size := range []int{0, 1, file.PieceSize - 1, file.PieceSize, 3*file.PieceSize + 5, 64 * file.PieceSize} { // the last needs a list
		o := offer(t, size)
		files = append(files, o)
		if !alice.Blobs().Takes(o.d) {
			t.Errorf("a file of %d bytes is too large", size)
		}
		if err := o.bring(t, alice, to); err != nil {
			t.Fatalf("a file of %d bytes: %v", size, err)
		}
		have, whole, err := bob.Blobs().Stat(t.Context(), by, o.d.ID)
		if err != nil || have != whole || have < file.SealedSize(int64(size)) {
			t.Errorf("a file of %d bytes: %d of %d are there, %v", size, have, whole, err)
		}
	}
	alice.Stop()
	for _, o := range files {
		if err := o.fetchStored(t, bob, by); err != nil {
			t.Errorf("a file of %d bytes: %v", len(o.content), err)
		}
		if len(o.content) == 0 {
			continue // there is nothing to ask for
		}
		if err := o.fetchStored(t, carol, by); !errors.Is(err, transfer.ErrGone) {
			t.Errorf("a stranger: %v", err)
		}
		for range 2 {
			if err := bob.Blobs().Taken(t.Context(), by, o.d.ID); err != nil {
				t.Error(err)
			}
		}
		if err := o.fetchStored(t, bob, by); !errors.Is(err, transfer.ErrGone) {
			t.Errorf("it was taken: %v", err)
		}
	}
}

// TestStoredFileHidesItsSize: sizes that are near each other look alike to the rendezvous.
func TestStoredFileHidesItsSize(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	by, to := accountOf(t, alice), accountOf(t, bob)
	seen := map[int64]bool{}
	for _, size := range []int{2_000_000, 2_000_001, 2_010_000, 2_020_000} {
		o := offer(t, size)
		if err := o.bring(t, alice, to); err != nil {
			t.Fatal(err)
		}
		_, whole, err := alice.Blobs().Stat(t.Context(), by, o.d.ID)
		if err != nil || whole > int64(size)*112/100 {
			t.Errorf("%d bytes for a file of %d, %v", whole, size, err)
		}
		seen[whole] = true
		if err := o.fetchStored(t, bob, by); err != nil {
			t.Error(err)
		}
	}
	if len(seen) != 1 {
		t.Errorf("%d sizes: %v", len(seen), seen)
	}
}

// breaking are the pieces of a file; before one of them is given, each time, something
// happens.
type breaking struct {
	transfer.Pieces
	mu     sync.Mutex
	before map[int]func() // by piece; once
	asked  []int
}

func (b *breaking) Piece(k int, buf []byte) ([]byte, error) {
	b.mu.Lock()
	happens := b.before[k]
	delete(b.before, k)
	b.asked = append(b.asked, k)
	b.mu.Unlock()
	if happens != nil {
		happens()
	}
	return b.Pieces.Piece(k, buf)
}

// A file goes on where it was cut, whatever cut it, on either way.
func TestStoredFileResumes(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	by, to := accountOf(t, alice), accountOf(t, bob)
	o := offer(t, 12*file.PieceSize+9)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := &breaking{Pieces: o.Original, before: map[int]func(){
		6:  func() { net.Home.Stop(); net.Home.Start() },
		8:  func() { alice.HelloFirst() }, // ends the connection
		10: cancel,
	}}
	var begins []int64
	bring := func(ctx context.Context) error {
		first := true
		return alice.Blobs().Put(ctx, []protocol.AccountID{to}, protocol.RoomID{}, o.d, o.list, p, func(done int64) {
			if first {
				begins, first = append(begins, done), false
			}
		})
	}
	cuts := 0
	net.Wait("all of it is there", func() bool {
		err := bring(ctx)
		if err != nil && ctx.Err() != nil {
			ctx = t.Context()
		}
		if err != nil && !errors.Is(err, node.ErrOffline) {
			t.Fatalf("cut: %v", err)
		}
		if err != nil {
			cuts++
		}
		return err == nil
	})
	if cuts < 3 || len(p.before) > 0 {
		t.Errorf("%d cuts; %d did not happen", cuts, len(p.before))
	}
	if last := begins[len(begins)-1]; last < 4*file.SealedPieceSize {
		t.Errorf("it began at %v", begins)
	}
	if err := bring(ctx); err != nil {
		t.Errorf("again: %v", err)
	}
	net.Wait("bob is online", bob.Up)
	if err := o.fetchStored(t, bob, by); err != nil {
		t.Error(err)
	}
}

// What cannot be stored says why, and leaves nothing that a recipient could take for it.
func TestStoredFileRefused(t *testing.T) {
	net := nodetest.NewWith(t, 3, nodetest.Options{Home: func(c *rendezvous.Config) {
		c.Limits.BlobBytes, c.Limits.BlobQuota = 5<<20, 6<<20
	}})
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	net.Befriend(alice, bob)
	by, to := accountOf(t, alice), accountOf(t, bob)
	large, small, changed := offer(t, 5<<20), offer(t, 4<<20), offer(t, 1_500_000)
	if alice.Blobs().Takes(large.d) || !alice.Blobs().Takes(small.d) {
		t.Error("the rendezvous takes 5 MiB, with what sealing adds")
	}
	for name, c := range map[string]struct {
		o    *offered
		to   protocol.AccountID
		want protocol.Code
	}{
		"too large":     {large, to, protocol.TooLarge},
		"to a stranger": {small, accountOf(t, carol), protocol.NotContact},
	} {
		if err := c.o.bring(t, alice, c.to); protocol.CodeOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := small.bring(t, alice, to); err != nil {
		t.Fatal(err)
	}
	if err := offer(t, 3<<20).bring(t, alice, to); protocol.CodeOf(err) != protocol.BlobFull {
		t.Errorf("above the quota: %v", err)
	}
	if err := alice.Blobs().Drop(t.Context(), small.d.ID); err != nil {
		t.Error(err)
	}
	if err := small.fetchStored(t, bob, by); !errors.Is(err, transfer.ErrGone) {
		t.Errorf("dropped: %v", err)
	}

	changed.content[1_200_000]++
	if err := os.WriteFile(changed.path, changed.content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := changed.bring(t, alice, to); !errors.Is(err, file.ErrChanged) {
		t.Errorf("a file that changed: %v", err)
	}
	have, _, err := alice.Blobs().Stat(t.Context(), by, changed.d.ID)
	if err != nil || have > file.SealedPieceSize {
		t.Errorf("%d bytes of a file that changed are there, %v", have, err)
	}
	if _, err := bob.Blobs().Source(by, changed.d).Pieces(t.Context(), 1, 1); err == nil || errors.Is(err, transfer.ErrGone) {
		t.Errorf("a piece that may still come: %v", err)
	}
	net.Home.Stop()
	net.Wait("alice is offline", func() bool { return !alice.Up() })
	if err := small.bring(t, alice, to); !errors.Is(err, node.ErrOffline) {
		t.Errorf("offline: %v", err)
	}
}

// blobAnswer is what a rendezvous that lies says of a blob.
func blobAnswer(s network.Stream, state *wire.BlobState) {
	wire.WriteMsg(s, &wire.Response{Result: &wire.Response_BlobState{BlobState: state}})
}

// A rendezvous that lies, breaks off or falls silent costs nobody more than the file's
// way over it: nothing is taken for stored or fetched, and who waits can stop.
func TestStoredFileFromALiar(t *testing.T) {
	net := nodetest.NewWith(t, 1, nodetest.Options{Home: func(c *rendezvous.Config) {
		c.Limits.BlobBytes, c.Limits.BlobQuota = math.MaxInt64, math.MaxInt64
	}})
	alice := net.People[0]
	net.Wait("the rendezvous has said what it takes", alice.Up)
	if takes := alice.Blobs().Takes; !takes(&file.Descriptor{Size: 900 << 20}) || takes(&file.Descriptor{Size: 1 << 30}) {
		t.Error("what is brought to a rendezvous is not at most 1 GiB")
	}
	by := accountOf(t, alice)
	o := offer(t, 2*file.PieceSize)
	if err := o.bring(t, alice, by); err != nil {
		t.Fatal(err)
	}
	_, whole, err := alice.Blobs().Stat(t.Context(), by, o.d.ID)
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(whole)
	silent := make(chan struct{}, 1) // told when the rendezvous has said all that it says
	for name, lie := range map[string]func(s network.Stream){
		"nothing":      func(network.Stream) {},
		"no frame":     func(s network.Stream) { s.Write([]byte{0xff, 0xff, 0xff, 0xff, 1}) },
		"no state":     func(s network.Stream) { wire.WriteMsg(s, &wire.Response{}) },
		"another size": func(s network.Stream) { blobAnswer(s, &wire.BlobState{Size: size + 1, Have: size + 1, Count: 100}) },
		"more than whole": func(s network.Stream) {
			blobAnswer(s, &wire.BlobState{Size: size, Have: 1 << 63, Count: 1 << 63})
		},
		"half of it": func(s network.Stream) {
			blobAnswer(s, &wire.BlobState{Size: size, Have: 1 << 20, Count: 1 << 20})
			s.Write(make([]byte, 1000))
		},
		"not all stored": func(s network.Stream) {
			blobAnswer(s, &wire.BlobState{Size: size, Count: 1 << 20})
			blobAnswer(s, &wire.BlobState{Size: size, Have: size - 1})
		},
		"a refusal in the middle": func(s network.Stream) {
			blobAnswer(s, &wire.BlobState{Size: size, Count: 1 << 20})
			wire.WriteMsg(s, &wire.Response{Code: uint32(protocol.BlobFull)})
		},
		"silence": func(s network.Stream) {
			blobAnswer(s, &wire.BlobState{Size: size, Count: 1 << 20})
			silent <- struct{}{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			net.Home.Host().SetStreamHandler(protocol.BlobProtocol, func(s network.Stream) {
				wire.ReadMsg(s, &wire.Request{})
				lie(s)
				if name != "silence" {
					s.CloseWrite()
				}
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stopWhenSilent := func() {
				if name == "silence" {
					go func() { <-silent; cancel() }()
				}
			}
			stopWhenSilent()
			if err := alice.Blobs().Put(ctx, []protocol.AccountID{by}, protocol.RoomID{}, o.d, o.list, o, nil); err == nil {
				t.Error("the file is stored")
			}
			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
			stopWhenSilent()
			answer, err := alice.Blobs().Source(by, o.d).Pieces(ctx, 0, 1)
			if err != nil {
				return
			}
			defer answer.Close()
			sealed := make([]byte, file.SealedPieceSize)
			if _, err := io.ReadFull(answer, sealed); err == nil && o.list.Holds(0, sealed) {
				t.Error("the piece was fetched")
			}
		})
	}
}
