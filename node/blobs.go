package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/wire"
)

// A sealed file that waits at the rendezvous is a blob: the list of its pieces, unless it
// is in the descriptor, the sealed pieces, and noise up to a size that tells little of the
// file's own (SPEC "Blobs").

const blobStall = 30 * time.Second // without progress; the rendezvous's own

// pathStored is how a file comes that was fetched from the rendezvous, for users.
const pathStored = "stored"

// blobLayout is where the parts of a blob are; bytes.
type blobLayout struct{ list, pieces, size int64 }

func layoutOf(d *file.Descriptor) blobLayout {
	l := blobLayout{pieces: file.SealedSize(d.Size)}
	if d.Inline == nil {
		l.list = int64(file.PieceCount(d.Size) * len(file.Hash{}))
	}
	l.size = envelope.Padme(l.list + l.pieces)
	return l
}

// blobAudience says who may get a blob, besides the own account: accounts, or the members
// of a room.
type blobAudience struct {
	accounts []protocol.AccountID
	room     protocol.RoomID
}

func (a blobAudience) request(id protocol.FileID, size int64) *wire.Request {
	put := &wire.PutBlob{Id: id[:], Size: uint64(size)}
	for _, account := range a.accounts {
		put.Accounts = append(put.Accounts, account[:])
	}
	if len(a.accounts) == 0 {
		put.Room = a.room[:]
	}
	return &wire.Request{Call: &wire.Request_PutBlob{PutBlob: put}}
}

// maxBlob is the largest blob that is brought to a rendezvous, whatever that says it takes;
// bytes.
const maxBlob = 1 << 30

// takesBlob tells whether the rendezvous, as it said when it last welcomed us, stores a
// file as large as this one.
func (h *home) takesBlob(d *file.Descriptor) bool {
	return layoutOf(d).size <= min(h.blobLimit.Load(), maxBlob)
}

// putBlob brings a file to the rendezvous, sealed, and returns when all of it is there for
// good, and until when. Called again after it was cut off, it goes on where it was.
// progress, unless nil, is told how many bytes are there. BlobFull, TooLarge and NotContact
// are final for now; ErrOffline is not; file.ErrChanged means that there is nothing to bring.
func (h *home) putBlob(ctx context.Context, to blobAudience, d *file.Descriptor, l file.List, pieces transfer.Pieces, progress func(done int64)) (until time.Time, err error) {
	at := layoutOf(d)
	s, state, err := h.openBlob(ctx, to.request(d.ID, at.size))
	if err != nil {
		return until, err
	}
	defer s.Reset() // does nothing to one that ended
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if state.GetSize() != uint64(at.size) || state.GetHave() > uint64(at.size) {
		return until, fmt.Errorf("%w: the rendezvous speaks of another blob", ErrOffline)
	}
	until = time.UnixMilli(int64(min(state.GetExpiresMs(), math.MaxInt64)))
	stored := make(chan error, 1)
	go func() {
		err := readStored(s, at.size)
		if err != nil {
			s.Reset() // it takes no more, so do not wait to be rid of the rest
		}
		stored <- err
	}()
	b := blobWriter{layout: at, list: l, pieces: pieces, to: &steady{s: s, done: int64(state.GetHave()), tell: progress}}
	failed := b.write()
	if failed != nil && !errors.Is(failed, errBlobCut) {
		s.Reset() // it is our fault
		<-stored
		return until, failed
	}
	if failed == nil {
		s.SetReadDeadline(time.Now().Add(blobStall))
	}
	return until, h.checkGreeted(<-stored)
}

// openBlob asks on a stream of its own and reads the first answer.
func (h *home) openBlob(ctx context.Context, req *wire.Request) (network.Stream, *wire.BlobState, error) {
	if !h.isUp() {
		return nil, nil, ErrOffline
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := h.n.host.NewStream(onlyConnected(ctx), h.info.ID, protocol.BlobProtocol)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: open stream: %w", ErrOffline, err)
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	state, err := askBlob(s, req)
	if !stop() && err == nil {
		err = fmt.Errorf("%w: %w", ErrOffline, context.Cause(ctx))
	}
	if err != nil {
		s.Reset()
		return nil, nil, h.checkGreeted(err)
	}
	return s, state, nil
}

func askBlob(s network.Stream, req *wire.Request) (*wire.BlobState, error) {
	if err := wire.WriteMsg(s, req); err != nil {
		return nil, fmt.Errorf("%w: ask for a blob: %w", ErrOffline, err)
	}
	return readBlobState(s)
}

func readBlobState(s network.Stream) (*wire.BlobState, error) {
	resp := &wire.Response{}
	if err := readFrame(s, resp); err != nil {
		return nil, fmt.Errorf("%w: hear of a blob: %w", ErrOffline, err)
	}
	if err := refusalIn(resp); err != nil {
		return nil, err
	}
	return resp.GetBlobState(), nil
}

// readStored waits until the rendezvous says that all is there.
func readStored(s network.Stream, size int64) error {
	state, err := readBlobState(s)
	if err == nil && state.GetHave() != uint64(size) {
		err = fmt.Errorf("%w: the rendezvous has %d bytes of %d", ErrOffline, state.GetHave(), size)
	}
	return err
}

// blobWriter writes a blob from where the rendezvous has it on.
type blobWriter struct {
	layout blobLayout
	list   file.List
	pieces transfer.Pieces
	to     *steady
}

func (b *blobWriter) write() error {
	if b.to.done < b.layout.list {
		if _, err := b.to.Write(b.list.Bytes()[b.to.done:]); err != nil {
			return err
		}
	}
	buf := make([]byte, 0, file.SealedPieceSize)
	for b.to.done < b.layout.list+b.layout.pieces {
		at := b.to.done - b.layout.list
		sealed, err := b.pieces.Piece(int(at/file.SealedPieceSize), buf)
		if err != nil {
			return fmt.Errorf("seal what is brought to the rendezvous: %w", err)
		}
		if _, err := b.to.Write(sealed[at%file.SealedPieceSize:]); err != nil {
			return err
		}
	}
	_, err := io.CopyN(b.to, rand.Reader, b.layout.size-b.to.done)
	return err
}

// errBlobCut is what writing to a stream that broke returns: why is for the answer to say.
var errBlobCut = errors.New("the stream to the rendezvous broke")

// steady writes to a stream that has to move on.
type steady struct {
	s    network.Stream
	done int64
	tell func(done int64) // nil: nobody
}

func (w *steady) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		w.s.SetDeadline(time.Now().Add(blobStall))
		n, err := w.s.Write(p[:min(len(p), transfer.Step)])
		p, written, w.done = p[n:], written+n, w.done+int64(n)
		if err != nil {
			return written, fmt.Errorf("%w: %w", errBlobCut, err)
		}
		if w.tell != nil {
			w.tell(w.done)
		}
	}
	return written, nil
}

// takenBlob says that this account needs a blob no more. That there is none is success.
func (h *home) takenBlob(ctx context.Context, by protocol.AccountID, id protocol.FileID) error {
	_, err := h.call(ctx, &wire.Request{Call: &wire.Request_TakenBlob{TakenBlob: &wire.TakenBlob{By: by[:], Id: id[:]}}})
	if protocol.CodeOf(err) == protocol.UnknownFile {
		return nil
	}
	return err
}

// dropBlob takes a file of this account's away from the rendezvous.
func (h *home) dropBlob(ctx context.Context, id protocol.FileID) error {
	_, err := h.call(ctx, &wire.Request{Call: &wire.Request_DropBlob{DropBlob: &wire.DropBlob{Id: id[:]}}})
	return err
}

// storedFile is a file at the rendezvous, put there by an account: a transfer.Source.
type storedFile struct {
	h  *home
	by protocol.AccountID
	d  *file.Descriptor
}

func (f *storedFile) String() string { return "the rendezvous" }

// Pieces implements transfer.Source. With the last piece it asks for what fills the blob
// up: the rendezvous is not to see where the file ends.
func (f *storedFile) Pieces(ctx context.Context, first, count int) (transfer.Answer, error) {
	at := layoutOf(f.d)
	from := at.list + int64(first)*file.SealedPieceSize
	want := int64(count) * file.SealedPieceSize
	if first+count < file.PieceCount(f.d.Size) {
		return f.part(ctx, from, want, want)
	}
	return f.part(ctx, from, at.list+at.pieces-from, at.size-from)
}

// List implements transfer.Source.
func (f *storedFile) List(ctx context.Context) (transfer.Answer, error) {
	at := layoutOf(f.d)
	return f.part(ctx, 0, at.list, at.list)
}

// part asks for so many bytes, of which the first want are of use. There may be fewer,
// while the blob is still being brought.
func (f *storedFile) part(ctx context.Context, from, want, ask int64) (transfer.Answer, error) {
	s, state, err := f.h.openBlob(ctx, &wire.Request{Call: &wire.Request_GetBlob{GetBlob: &wire.GetBlob{
		By: f.by[:], Id: f.d.ID[:], From: uint64(from), Count: uint64(ask),
	}}})
	if protocol.CodeOf(err) == protocol.UnknownFile {
		return transfer.Answer{}, fmt.Errorf("%w: %w", transfer.ErrGone, err)
	}
	if err != nil {
		return transfer.Answer{}, err
	}
	if state.GetCount() == 0 || state.GetSize() != uint64(layoutOf(f.d).size) {
		s.Reset()
		return transfer.Answer{}, errors.New("the rendezvous does not have this part yet")
	}
	a := &storedPart{s: s, stop: context.AfterFunc(ctx, func() { s.Reset() })}
	a.left.Store(want)
	return transfer.Answer{ReadCloser: a, Path: pathStored}, nil
}

// storedPart is bytes of a blob on their way, and what comes behind those of use.
type storedPart struct {
	s    network.Stream
	stop func() bool // of what ends the stream with its context
	left atomic.Int64
}

func (p *storedPart) Read(b []byte) (int, error) {
	left := p.left.Load()
	if left == 0 {
		return 0, io.EOF
	}
	n, err := p.s.Read(b[:min(int64(len(b)), left)])
	p.left.Add(-int64(n))
	return n, err
}

// Close ends the stream; if all of use was read, after the rest was: where one stops to
// read would tell where the file ends.
func (p *storedPart) Close() error {
	if p.left.Load() == 0 {
		p.s.SetReadDeadline(time.Now().Add(lastWords))
		io.Copy(io.Discard, p.s)
	}
	p.stop()
	return p.s.Reset()
}
