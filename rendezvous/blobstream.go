package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/blob"
)

const (
	maxBlobRequest = 2 << 10  // the first frame; bytes
	maxBlobPart    = 32 << 20 // bytes of one answer
	blobChunk      = 64 << 10 // bytes that are read, or written, at a time
	blobStep       = 4 << 20  // bytes that are made durable at a time
	blobOutChunks  = 65_536   // that one device gets in an hour: 4 GiB
	blobCheck      = 1 << 20  // bytes that go out before it is looked again whether they may
)

// handleBlob is one stream: a blob comes in, or a part of one goes out. When the server
// drains it ends at once; what came counts.
func (s *Server) handleBlob(stream network.Stream) {
	defer stream.Close()
	if !s.enter() {
		s.refuseBlob(stream, s.drainingRefusal())
		return
	}
	defer s.leave()
	defer context.AfterFunc(s.hearing, func() { stream.Reset() })()
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.CallDeadline) // for what comes before the bytes
	defer cancel()
	deadline, _ := ctx.Deadline()
	stream.SetDeadline(deadline)

	from, req, err := s.blobRequest(ctx, stream)
	if err == nil {
		switch c := req.Call.(type) {
		case *wire.Request_PutBlob:
			err = s.putBlob(ctx, stream, from, c.PutBlob)
		case *wire.Request_GetBlob:
			err = s.getBlob(ctx, stream, from, c.GetBlob)
		default:
			err = protocol.Refuse(protocol.BadRequest, "no call that is known on this stream")
		}
	}
	switch {
	case errors.Is(err, p2p.ErrUnreadable):
		stream.Reset()
	case err != nil:
		s.refuseBlob(stream, err)
	}
}

// blobRequest reads what is asked for and by whom, and counts it.
func (s *Server) blobRequest(ctx context.Context, stream network.Stream) (from store.Device, req *wire.Request, err error) {
	from, member, err := s.device(ctx, stream.Conn())
	if err != nil {
		return from, nil, err
	}
	req = &wire.Request{}
	size, err := p2p.ReadFrame(stream, maxBlobRequest, req)
	if err != nil {
		return from, nil, err
	}
	welcome := member && s.hellos.isWelcome(stream.Conn())
	switch err := s.countCall(stream.Conn(), from, welcome, size); {
	case err != nil:
		return from, nil, err
	case !member:
		return from, nil, protocol.Refuse(protocol.NotMember, "register first")
	case !welcome:
		return from, nil, helloFirst()
	}
	if from.Guest {
		err = s.checkGuestCall(ctx, from, req)
	}
	return from, req, err
}

// refuseBlob says why a blob is not taken, or not given, and lets the peer read it also
// while it still sends.
func (s *Server) refuseBlob(stream network.Stream, err error) {
	e := s.refusal(err)
	if s.tellBlob(stream, &wire.Response{Code: uint32(e.Code), Detail: e.Detail, RetryAfterMs: p2p.Millis(e.RetryAfter)}) != nil {
		return
	}
	hangUp(stream)
	io.Copy(io.Discard, stream)
}

func (s *Server) tellBlob(stream network.Stream, m *wire.Response) error {
	stream.SetWriteDeadline(time.Now().Add(s.cfg.Limits.WriteTimeout))
	if err := wire.WriteMsg(stream, m); err != nil {
		stream.Reset()
		return fmt.Errorf("%w: %w", p2p.ErrUnreadable, err)
	}
	return nil
}

func (s *Server) tellBlobState(stream network.Stream, state *wire.BlobState) error {
	return s.tellBlob(stream, &wire.Response{Result: &wire.Response_BlobState{BlobState: state}})
}

// putBlob takes a blob in, from where it is here on. A newer stream for the same blob
// ends this one.
func (s *Server) putBlob(ctx context.Context, stream network.Stream, from store.Device, p *wire.PutBlob) error {
	if err := take(s.now(), 1, "blobs", s.rates.blobPuts.get(from.ID)); err != nil {
		return err
	}
	wanted, err := s.newBlob(ctx, from, p)
	if err != nil {
		return err
	}
	release, err := s.blobs.turns.take(ctx, wanted.Name, func() { stream.Reset() })
	if err != nil {
		return fmt.Errorf("wait for who writes a blob: %w", err)
	}
	defer release()
	here, err := s.blobs.bodies.Len(wanted.Name)
	if err != nil {
		return err
	}
	room, err := s.blobs.bodies.Reserve(wanted.Size - min(here, wanted.Size))
	if err != nil {
		return diskFull(err)
	}
	defer room.Release()
	l := s.cfg.Limits.forDevice(from.Guest)
	b, err := s.store.PutBlob(ctx, wanted, store.BlobQuotas{Count: l.BlobCount, Bytes: l.BlobQuota}, s.now())
	if err != nil {
		return fmt.Errorf("begin blob: %w", err)
	}
	body, err := s.blobs.bodies.Grow(b.Name, b.Have)
	if err != nil {
		return diskFull(err)
	}
	defer body.Close()
	in := &intake{s: s, stream: stream, body: body, room: room, blob: b, marked: b.Have}
	if err := in.begin(); err != nil {
		return err
	}
	if err := in.read(); err != nil {
		return err
	}
	return in.tell()
}

// diskFull tells a full disk by a code of its own: the sender has other ways.
func diskFull(err error) error {
	if errors.Is(err, store.ErrFull) {
		return protocol.Refuse(protocol.BlobFull, "the rendezvous's disk is full")
	}
	return err
}

// intake is a blob on its way in.
type intake struct {
	s      *Server
	stream network.Stream
	body   *blob.Growing
	room   *blob.Room
	blob   store.Blob
	marked int64 // bytes that the store knows to be durable
}

// begin tells the sender where to go on.
func (in *intake) begin() error {
	if in.body.Len() != in.marked {
		if err := in.mark(); err != nil {
			return err
		}
	}
	return in.tell()
}

// tell says how much is here for good.
func (in *intake) tell() error {
	return in.s.tellBlobState(in.stream, &wire.BlobState{
		Size: uint64(in.blob.Size), Have: uint64(in.marked), ExpiresMs: uint64(in.blob.Expires.UnixMilli()),
	})
}

// read takes in what is missing. Whatever ends it, what came whole until then counts.
func (in *intake) read() error {
	buf := make([]byte, blobChunk)
	for in.body.Len() < in.blob.Size {
		in.stream.SetReadDeadline(time.Now().Add(in.s.cfg.Limits.BlobStall))
		n, ended := io.ReadFull(in.stream, buf[:min(blobChunk, in.blob.Size-in.body.Len())])
		if _, err := in.body.Write(buf[:n]); err != nil {
			return diskFull(err)
		}
		in.room.Used(int64(n))
		if have := in.body.Len(); have > in.marked && (ended != nil || have == in.blob.Size || have-in.marked >= blobStep) {
			if err := in.mark(); err != nil {
				return err
			}
			if err := in.room.Check(); have < in.blob.Size && err != nil {
				return diskFull(err)
			}
		}
		if ended != nil {
			return fmt.Errorf("%w: %w", p2p.ErrUnreadable, ended)
		}
	}
	return nil
}

// mark makes durable what came, also when the server is about to end.
func (in *intake) mark() error {
	if err := in.body.Sync(); err != nil {
		return diskFull(err)
	}
	if err := in.s.store.MarkBlob(in.s.ctx, in.blob.Name, in.body.Len()); err != nil {
		return fmt.Errorf("mark blob: %w", err)
	}
	in.marked = in.body.Len()
	return nil
}

// getBlob gives a part of a blob, as far as it is here.
func (s *Server) getBlob(ctx context.Context, stream network.Stream, from store.Device, g *wire.GetBlob) error {
	if err := take(s.now(), 1, "parts of blobs", s.rates.blobGets.get(from.ID)); err != nil {
		return err
	}
	b, _, err := s.blobFor(ctx, from, g.GetBy(), g.GetId())
	if err != nil {
		return err
	}
	state, err := s.blobState(b)
	if err != nil {
		return err
	}
	state.Count = min(g.GetCount(), state.Have-min(g.GetFrom(), state.Have), maxBlobPart)
	if state.Count == 0 {
		return s.tellBlobState(stream, state)
	}
	if err := take(s.now(), chunksOf(state.Count), "bytes of blobs", s.rates.blobOut.get(from.ID)); err != nil {
		return err
	}
	body, err := s.blobs.bodies.Open(b.Name)
	if err != nil {
		return err // just deleted, or else it is our fault
	}
	defer body.Close()
	if err := s.tellBlobState(stream, state); err != nil {
		return err
	}
	part := io.NewSectionReader(body, int64(g.GetFrom()), int64(state.Count))
	buf := make([]byte, blobChunk)
	for left := int64(state.Count); ; {
		n, err := io.CopyBuffer(patient{stream, s.cfg.Limits.BlobStall}, io.LimitReader(part, blobCheck), buf)
		left -= n
		if err == nil && left == 0 {
			return nil
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF // the body was cut meanwhile
		}
		if err == nil {
			_, _, err = s.blobFor(s.ctx, from, g.GetBy(), g.GetId())
		}
		if err != nil {
			return fmt.Errorf("%w: %d bytes did not go out: %w", p2p.ErrUnreadable, left, err)
		}
	}
}

// chunksOf is how many chunks so many bytes are, of an answer.
func chunksOf(count uint64) int { return int((count + blobChunk - 1) / blobChunk) }

// patient gives each Write so much time.
type patient struct {
	stream network.Stream
	each   time.Duration
}

func (p patient) Write(b []byte) (int, error) {
	p.stream.SetWriteDeadline(time.Now().Add(p.each))
	return p.stream.Write(b)
}
