package rendezvous

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
)

const (
	maxKnock  = 1 << 10 // a Knock, or a Knocked; bytes
	maxAsked  = 3       // devices that are asked, one after the other
	askedWait = 3 * time.Second
)

// knockPlace is where somebody knocks from, and at which room, known or not.
type knockPlace struct {
	site netip.Prefix
	room protocol.RoomID
}

// handleKnock leads a guest to a device of a member of the room who lets guests in,
// and passes their frames on, unread.
func (s *Server) handleKnock(stream network.Stream) {
	defer stream.Close()
	if !s.enter() {
		s.answerKnock(stream, s.drainingRefusal())
		return
	}
	defer s.leave()
	ctx, cancel := context.WithTimeout(s.ctx, knockLife)
	defer cancel()
	defer context.AfterFunc(ctx, func() { stream.Reset() })()
	stream.SetDeadline(time.Now().Add(s.cfg.Limits.CallDeadline))

	at, err := s.firstKnock(ctx, stream)
	if err == nil {
		err = s.lead(ctx, cancel, stream, at)
	}
	switch {
	case errors.Is(err, p2p.ErrUnreadable):
		stream.Reset()
	case err != nil:
		s.answerKnock(stream, s.refusal(err))
	}
}

// firstKnock reads which room is meant, and counts the attempt, whether there is
// such a room or not.
func (s *Server) firstKnock(ctx context.Context, stream network.Stream) (at knockPlace, err error) {
	from, _, err := s.device(ctx, stream.Conn())
	if err != nil {
		return at, err
	}
	knock := &wire.Knock{}
	size, err := p2p.ReadFrame(stream, maxKnock, knock)
	if err != nil {
		return at, err
	}
	if err := s.countCall(stream.Conn(), from, s.hellos.isWelcome(stream.Conn()), size); err != nil {
		return at, err
	}
	if len(knock.GetRoom()) != len(at.room) {
		return at, protocol.Refuse(protocol.BadRequest, "the id of a room has %d bytes", len(at.room))
	}
	at = knockPlace{p2p.Site(stream.Conn()), protocol.RoomID(knock.GetRoom())}
	return at, take(s.now(), 1, "knocks", s.rates.knocks.get(at.site), s.rates.roomKnocks.get(at))
}

// lead finds a device that answers and passes frames until one end stops. An error is
// for the guest, who is still alone.
func (s *Server) lead(ctx context.Context, cancel func(), guest network.Stream, at knockPlace) error {
	k, err := s.knocks.begin(at.site, cancel)
	if err != nil {
		return err
	}
	defer s.knocks.end(k)
	to, err := s.ask(ctx, k, at)
	if err != nil {
		return err
	}
	defer to.Close()
	defer context.AfterFunc(ctx, func() { to.Reset() })()
	if s.answerKnock(guest, nil) != nil {
		to.Reset()
		return nil
	}
	guest.SetDeadline(time.Time{}) // from now on ctx ends it
	to.SetDeadline(time.Time{})

	var p pipe
	back := make(chan struct{})
	go func() {
		defer close(back)
		p.run(to, guest)
	}()
	p.run(guest, to)
	<-back
	return nil
}

// ask knocks at devices of members who let guests in, until one answers. Whether there
// is none, nobody of them online, or no such room, is the same to who asks.
func (s *Server) ask(ctx context.Context, k *knock, at knockPlace) (network.Stream, error) {
	conns, err := s.admitters(ctx, at.room)
	if err != nil {
		return nil, err
	}
	m := &wire.Knock{Room: at.room[:], Place: s.knocks.place(at)}
	asked := 0
	for _, c := range conns {
		if asked == maxAsked {
			break
		}
		if !s.knocks.at(k, c.RemotePeer()) {
			continue // busy
		}
		asked++
		if stream := s.askOne(ctx, c, m); stream != nil {
			return stream, nil
		}
	}
	return nil, nobodyAdmits()
}

// askOne knocks at one device. It returns nil if that does not answer, or has no time.
func (s *Server) askOne(ctx context.Context, c network.Conn, m *wire.Knock) network.Stream {
	ctx, cancel := context.WithTimeout(ctx, askedWait)
	defer cancel()
	stream, err := p2p.OpenStream(ctx, c, protocol.KnockProtocol)
	if err != nil {
		return nil
	}
	deadline, _ := ctx.Deadline()
	stream.SetDeadline(deadline)
	answer := &wire.Knocked{}
	if err = wire.WriteMsg(stream, m); err == nil {
		_, err = p2p.ReadFrame(stream, maxKnock, answer)
	}
	if err != nil || answer.GetCode() != uint32(protocol.OK) {
		stream.Reset()
		return nil
	}
	return stream
}

// admitters returns the connections of the devices that may be asked to let a guest
// in, in random order; none also for a room that is not there.
func (s *Server) admitters(ctx context.Context, id protocol.RoomID) (conns []network.Conn, err error) {
	l := s.rooms.hold(id)
	defer s.rooms.release(l)
	v, err := s.viewRoom(ctx, l)
	if protocol.CodeOf(err) == protocol.UnknownRoom {
		return nil, nil
	}
	if err != nil || !v.state.Password().Open {
		return nil, err
	}
	for _, m := range v.state.Members() {
		if !v.state.Rights(m.Account).Has(room.Admit) {
			continue
		}
		for _, d := range m.Devices() {
			if c := s.hellos.conn(peer.ID(d.Cert.PeerID)); c != nil {
				conns = append(conns, c)
			}
		}
	}
	rand.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
	return conns, nil
}

// answerKnock tells the guest that a member's device answers, or why none does.
func (s *Server) answerKnock(stream network.Stream, refusal *protocol.Error) error {
	m := &wire.Knocked{}
	if refusal != nil {
		m = &wire.Knocked{Code: uint32(refusal.Code), Detail: refusal.Detail, RetryAfterMs: p2p.Millis(refusal.RetryAfter)}
	}
	stream.SetWriteDeadline(time.Now().Add(s.cfg.Limits.WriteTimeout))
	err := wire.WriteMsg(stream, m)
	if err != nil {
		stream.Reset()
	}
	return err
}

func nobodyAdmits() *protocol.Error {
	e := protocol.Refuse(protocol.NobodyAdmits, "nobody is there who lets guests in")
	e.RetryAfter = 30 * time.Second
	return e
}
