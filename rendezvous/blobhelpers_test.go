package rendezvous

import (
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func fileID(n byte) []byte { return append(make([]byte, 15), n) }

// noise is a body that no part of is like another one.
func noise(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(b)
	return b
}

// putFor is a blob for accounts.
func putFor(n byte, size int, recipients ...*device) *wire.PutBlob {
	p := &wire.PutBlob{Id: fileID(n), Size: uint64(size)}
	for _, r := range recipients {
		p.Accounts = append(p.Accounts, r.owner[:])
	}
	return p
}

func putIn(n byte, size int, p *party) *wire.PutBlob {
	id := p.id()
	return &wire.PutBlob{Id: fileID(n), Size: uint64(size), Room: id[:]}
}

// blobStream asks on a stream of its own, and returns the first answer.
func (d *device) blobStream(req *wire.Request) (network.Stream, *wire.Response) {
	d.t.Helper()
	s := d.open(protocol.BlobProtocol)
	if err := wire.WriteMsg(s, req); err != nil {
		d.t.Fatal(err)
	}
	return s, d.blobAnswer(s)
}

func (d *device) blobAnswer(s network.Stream) *wire.Response {
	d.t.Helper()
	resp := &wire.Response{}
	if err := wire.ReadMsg(s, resp); err != nil {
		d.t.Fatalf("no answer: %v", err)
	}
	return resp
}

func (d *device) beginBlob(p *wire.PutBlob) (network.Stream, *wire.Response) {
	d.t.Helper()
	return d.blobStream(&wire.Request{Call: &wire.Request_PutBlob{PutBlob: p}})
}

// offerBlob tells what is said to who wants to put a blob. Of it nothing is brought.
func (d *device) offerBlob(p *wire.PutBlob) protocol.Code {
	d.t.Helper()
	s, resp := d.beginBlob(p)
	s.Close()
	return protocol.Code(resp.GetCode())
}

// upload brings a body, from where it is there on, and returns from where that was.
func (d *device) upload(p *wire.PutBlob, body []byte) uint64 {
	d.t.Helper()
	s, resp := d.beginBlob(p)
	defer s.Close()
	expectCode(d.t, resp, protocol.OK)
	have := resp.GetBlobState().GetHave()
	if _, err := s.Write(body[have:]); err != nil {
		d.t.Fatal(err)
	}
	done := d.blobAnswer(s)
	expectCode(d.t, done, protocol.OK)
	if got := done.GetBlobState(); got.GetHave() != uint64(len(body)) || got.GetSize() != uint64(len(body)) {
		d.t.Fatalf("stored %v of %d bytes", got, len(body))
	}
	return have
}

// cutOff brings a body up to a byte and goes away. It returns once the server has taken
// that in.
func (d *device) cutOff(p *wire.PutBlob, body []byte, upTo int) {
	d.t.Helper()
	s, resp := d.beginBlob(p)
	expectCode(d.t, resp, protocol.OK)
	if _, err := s.Write(body[resp.GetBlobState().GetHave():upTo]); err != nil {
		d.t.Fatal(err)
	}
	s.CloseWrite()
	if _, err := io.Copy(io.Discard, s); isTimeout(err) {
		d.t.Fatal("the server holds on to a stream that ended")
	}
}

func expectCode(t testing.TB, resp *wire.Response, want protocol.Code) {
	t.Helper()
	if got := protocol.Code(resp.GetCode()); got != want {
		t.Fatalf("%v %s, want %v", got, resp.GetDetail(), want)
	}
}

func getRequest(by *device, n byte, from, count uint64) *wire.Request {
	return &wire.Request{Call: &wire.Request_GetBlob{GetBlob: &wire.GetBlob{By: by.owner[:], Id: fileID(n), From: from, Count: count}}}
}

// download gets a part of a blob.
func (d *device) download(by *device, n byte, from, count uint64) []byte {
	d.t.Helper()
	s, resp := d.blobStream(getRequest(by, n, from, count))
	defer s.Close()
	expectCode(d.t, resp, protocol.OK)
	body, err := io.ReadAll(s)
	if err != nil || uint64(len(body)) != resp.GetBlobState().GetCount() {
		d.t.Fatalf("%d bytes of %d: %v", len(body), resp.GetBlobState().GetCount(), err)
	}
	return body
}

func (d *device) noBlob(by *device, n byte) {
	d.t.Helper()
	for _, count := range []uint64{0, 10} {
		expectCode(d.t, d.askBlob(by, n, count), protocol.UnknownFile)
	}
	d.refused(protocol.UnknownFile, takenRequest(by, n))
}

// askBlob hears what is said of a blob.
func (d *device) askBlob(by *device, n byte, count uint64) *wire.Response {
	d.t.Helper()
	s, resp := d.blobStream(getRequest(by, n, 0, count))
	s.Reset()
	return resp
}

func takenRequest(by *device, n byte) *wire.Request {
	return &wire.Request{Call: &wire.Request_TakenBlob{TakenBlob: &wire.TakenBlob{By: by.owner[:], Id: fileID(n)}}}
}

func dropRequest(n byte) *wire.Request {
	return &wire.Request{Call: &wire.Request_DropBlob{DropBlob: &wire.DropBlob{Id: fileID(n)}}}
}

func (d *device) have(by *device, n byte) uint64 {
	d.t.Helper()
	resp := d.askBlob(by, n, 0)
	expectCode(d.t, resp, protocol.OK)
	return resp.GetBlobState().GetHave()
}

// bodies counts the bodies that the server has on its disk.
func (ts *testServer) bodies() (n int) {
	for range ts.blobs.bodies.All() {
		n++
	}
	return n
}

func (ts *testServer) bodyPath(by *device, n byte) string {
	name := store.NameBlob(by.owner, protocol.FileID(fileID(n))).String()
	return filepath.Join(ts.cfg.Dir, blobDir, name[:2], name)
}
