package rendezvous

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
)

const (
	maxPairJoin  = 1 << 10  // the first frame; bytes
	maxPairData  = 64 << 10 // of one PairFrame
	maxPairTotal = 1 << 20  // of all frames with their headers, in one direction
	maxPairFrame = maxPairData + 8
	minPairCount = 64 // what a small frame counts: it costs a packet
)

// pairing is two streams, or one that waits for the other. The goroutine that
// handles a stream reads it and writes to the other one.
type pairing struct {
	number string
	owner  protocol.DeviceID
	opener network.Stream
	joiner network.Stream // guarded by broker.mu until joined is closed

	told   chan struct{} // closed once the opener has its number
	joined chan struct{} // closed once the joiner may be written to
	pipe
}

// pipe passes frames between two streams, in both directions.
type pipe struct {
	parting atomic.Bool // one end hung up; the other has yet to
}

// handlePair is one side of a pairing, from its first frame to its end.
func (s *Server) handlePair(stream network.Stream) {
	defer stream.Close()
	if !s.enter() {
		s.refusePair(stream, s.drainingRefusal())
		return
	}
	defer s.leave()
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.CallDeadline)
	defer cancel()
	deadline, _ := ctx.Deadline()
	stream.SetDeadline(deadline)

	number, from, err := s.firstPairFrame(ctx, stream)
	switch {
	case err != nil:
	case number == "":
		err = s.openPair(stream, from)
	default:
		err = s.joinPair(stream, number)
	}
	switch {
	case errors.Is(err, p2p.ErrUnreadable):
		stream.Reset()
	case err != nil:
		s.refusePair(stream, err)
	}
}

// firstPairFrame reads which pairing is meant, and counts the attempt.
func (s *Server) firstPairFrame(ctx context.Context, stream network.Stream) (number string, from store.Device, err error) {
	from, member, err := s.device(ctx, stream.Conn())
	if err != nil {
		return "", from, err
	}
	join := &wire.PairJoin{}
	size, err := p2p.ReadFrame(stream, maxPairJoin, join)
	if err != nil {
		return "", from, err
	}
	welcome := s.hellos.isWelcome(stream.Conn())
	if err := s.countCall(stream.Conn(), from, welcome, size); err != nil {
		return "", from, err
	}
	if join.GetSlot() != "" {
		return join.GetSlot(), from, take(s.now(), 1, "attempts to pair", s.rates.pairJoins.get(p2p.Site(stream.Conn())))
	}
	if !member {
		return "", from, protocol.Refuse(protocol.NotMember, "a device that is registered begins a pairing")
	}
	if !welcome {
		return "", from, helloFirst()
	}
	return "", from, take(s.now(), 1, "pairings", s.rates.pairOpens.get(from.ID))
}

// refusePair says why a pairing does not come about.
func (s *Server) refusePair(stream network.Stream, err error) {
	e := s.refusal(err)
	s.tellPair(stream, &wire.PairJoined{Code: uint32(e.Code), Detail: e.Detail, RetryAfterMs: p2p.Millis(e.RetryAfter)})
}

func (s *Server) tellPair(stream network.Stream, m *wire.PairJoined) error {
	stream.SetWriteDeadline(time.Now().Add(s.cfg.Limits.WriteTimeout))
	err := wire.WriteMsg(stream, m)
	if err != nil {
		stream.Reset()
	}
	return err
}

// openPair waits for the other side and then passes frames to it. An error is
// for the opener, which is still alone.
func (s *Server) openPair(stream network.Stream, from store.Device) error {
	p, err := s.pairs.open(stream, from.ID)
	if err != nil {
		return err
	}
	defer s.pairs.forget(p)
	wait, _ := s.pairs.times()
	err = s.tellPair(stream, &wire.PairJoined{Slot: p.number, TtlMs: p2p.Millis(wait)})
	s.pairs.await(p) // also after an error: somebody may have guessed the number
	if err != nil {
		return p2p.ErrUnreadable
	}

	frame := &wire.PairFrame{}
	size, err := p2p.ReadFrame(stream, maxPairFrame, frame) // the first comes after the join
	select {
	case <-p.joined:
		p.pass(stream, p.joiner, frame, size, err)
		return nil
	default:
	}
	if !s.pairs.forget(p) {
		stream.Reset() // joined in this very moment; the joiner sees it end
		return nil
	}
	switch {
	case err == nil:
		return protocol.Refuse(protocol.BadRequest, "nobody has joined yet")
	case isTimeout(err):
		return pairingOver()
	}
	return err
}

// joinPair finds the other side and passes frames to it. An error is for the
// joiner: there is no such pairing.
func (s *Server) joinPair(stream network.Stream, number string) error {
	p, err := s.pairs.join(stream, number)
	if err != nil {
		return err
	}
	defer s.pairs.forget(p)
	select {
	case <-p.told:
	case <-s.ctx.Done():
		return s.drainingRefusal()
	}
	_, life := s.pairs.times()
	end := time.Now().Add(life)
	ready := &wire.PairJoined{Ready: true}
	if s.tellPair(stream, ready) != nil {
		p.opener.Reset()
		return nil
	}
	stream.SetDeadline(end)
	p.opener.SetReadDeadline(end)
	close(p.joined) // before the opener is told: it may answer at once
	if s.tellPair(p.opener, ready) != nil {
		stream.Reset()
		return nil
	}
	p.opener.SetWriteDeadline(end)

	p.run(stream, p.opener)
	return nil
}

// run passes frames on in one direction, until one end stops.
func (p *pipe) run(from, to network.Stream) {
	frame := &wire.PairFrame{}
	size, err := p2p.ReadFrame(from, maxPairFrame, frame)
	p.pass(from, to, frame, size, err)
}

// pass is run, beginning with a frame that was read.
func (p *pipe) pass(from, to network.Stream, frame *wire.PairFrame, size int, err error) {
	total := 0
	for err == nil {
		total += max(4+size, minPairCount)
		if len(frame.GetData()) > maxPairData || total > maxPairTotal {
			break
		}
		if err = wire.WriteMsg(to, &wire.PairFrame{Data: frame.GetData()}); err != nil {
			break
		}
		frame.Reset()
		size, err = p2p.ReadFrame(from, maxPairFrame, frame)
	}
	switch {
	case errors.Is(err, io.EOF):
		p.parting.Store(true)
		hangUp(to)
	case p.parting.Load(): // the other one did; this is hangUp's deadline
	default:
		from.Reset()
		to.Reset()
	}
}

func pairingOver() *protocol.Error {
	return protocol.Refuse(protocol.PairingOver, "there is no such pairing, or no more")
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && e.Timeout()
}
