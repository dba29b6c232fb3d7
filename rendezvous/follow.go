package rendezvous

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
)

const (
	maxFollowFrame = 8 << 10  // bytes
	followTag      = "follow" // protects the connection from being trimmed
)

// relayLink is the standing stream of a relay that runs alone.
type relayLink struct {
	standing
	peer peer.ID
	site netip.Prefix

	approved bool        // this and what follows is guarded by standing.mu
	shown    *wire.Relay // what it announced last; replaced, never changed
	news     relayNews   // not yet written
}

// relayNews is what a relay can be told.
type relayNews struct {
	beaten   bool
	beat     uint64
	approval bool   // it may have changed
	keyEvent []byte // the newest
}

func newRelayLink(stream network.Stream) *relayLink {
	c := stream.Conn()
	return &relayLink{standing: newStanding(stream), peer: c.RemotePeer(), site: p2p.Site(c)}
}

func (f *relayLink) tellApproved(yes bool) {
	f.tell(func() { f.approved, f.news.approval = yes, true })
}

func (f *relayLink) tellKeys(event []byte) { f.tell(func() { f.news.keyEvent = event }) }

func (f *relayLink) answerBeat(seq uint64) { f.tell(func() { f.news.beaten, f.news.beat = true, seq }) }

func (f *relayLink) tell(change func()) {
	f.mu.Lock()
	change()
	f.mu.Unlock()
	f.rouse()
}

func (f *relayLink) isApproved() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.approved
}

func (f *relayLink) relay() *wire.Relay {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shown
}

// next returns what is to be written now, nil for nothing, and whether it is
// the last.
func (f *relayLink) next() (m proto.Message, last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.goodbye; e != nil {
		return &wire.Followed{Code: uint32(e.Code), Detail: e.Detail, RetryAfterMs: p2p.Millis(e.RetryAfter)}, true
	}
	if f.ended {
		return nil, true
	}
	n := f.news
	f.news = relayNews{}
	if !n.beaten && !n.approval && n.keyEvent == nil {
		return nil, false
	}
	return &wire.Followed{Beat: n.beat, Approved: f.approved, KeyEvent: n.keyEvent}, false
}

// handleFollow runs the stream of a relay from its first frame to its end.
func (s *Server) handleFollow(stream network.Stream) {
	defer stream.Close()
	f := newRelayLink(stream)
	if !s.enter() {
		s.refuseFollow(f, s.drainingRefusal())
		return
	}
	defer s.leave()
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.CallDeadline)
	defer cancel()
	deadline, _ := ctx.Deadline()
	stream.SetDeadline(deadline)

	err := s.beginFollow(ctx, f)
	defer s.leaveFollow(f)
	if errors.Is(err, p2p.ErrUnreadable) {
		stream.Reset()
		return
	}
	if err != nil {
		s.refuseFollow(f, err)
		return
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		f.write(nil, s.cfg.Limits.WriteTimeout, f.next)
	}()
	s.readFollow(f)
	s.leaveFollow(f) // members learn it now, even if the writer is stuck
	<-written
	io.Copy(io.Discard, stream) // after goodbye, until the relay hangs up: see hangUp
}

func (s *Server) refuseFollow(f *relayLink, err error) {
	f.bye(s.refusal(err))
	m, _ := f.next()
	f.writeFrame(m, s.cfg.Limits.WriteTimeout)
}

// beginFollow reads the first frame and puts the relay online.
func (s *Server) beginFollow(ctx context.Context, f *relayLink) error {
	approved, err := s.isApproved(ctx, f.peer)
	if err != nil {
		return err
	}
	from := []*rate.Limiter{s.rates.follows.get(f.peer)}
	if !approved { // who is approved shares no bucket with strangers
		from = append(from, s.rates.strangers.get(f.site))
	}
	if err := take(s.now(), 1, "streams of this relay", from...); err != nil {
		return err
	}
	first := &wire.Follow{}
	if _, err := p2p.ReadFrame(f.stream, maxFollowFrame, first); err != nil {
		return err
	}
	if f.shown, err = shownRelay(f.peer, first.GetAnnouncement()); err != nil {
		return err
	}
	return s.joinFollow(ctx, f, first)
}

func (s *Server) joinFollow(ctx context.Context, f *relayLink, first *wire.Follow) error {
	old, err := s.relays.join(f, func() (bool, error) { return s.isApproved(ctx, f.peer) })
	if err != nil {
		return err
	}
	if old != nil {
		old.bye(protocol.Refuse(protocol.Replaced, "another stream of this relay took over"))
	}
	if s.isDraining() { // drain may have said its goodbyes before this stream was there
		return s.drainingRefusal()
	}
	if err := s.tellKeysTo(ctx, f); err != nil {
		return err
	}
	s.host.ConnManager().Protect(f.peer, followTag)
	f.answerBeat(first.GetSeq())
	if !f.isApproved() {
		s.log.Info("a relay asks to be approved", "peer", f.peer.String())
		return nil
	}
	if old == nil || !proto.Equal(old.relay(), f.relay()) {
		s.tellRelays()
	}
	return nil
}

func (s *Server) leaveFollow(f *relayLink) {
	if !s.relays.leave(f) {
		return
	}
	s.host.ConnManager().Unprotect(f.peer, followTag)
	if f.isApproved() {
		s.tellRelays()
	}
}

// readFollow reads until the relay goes, falls silent, misbehaves, or has been
// told goodbye.
func (s *Server) readFollow(f *relayLink) {
	defer f.end()
	pace := rate.NewLimiter(rate.Every(beatsInterval), beatsBurst)
	for f.awaitBeat(s.cfg.Limits.BeatDeadline) {
		m := &wire.Follow{}
		_, err := p2p.ReadFrame(f.stream, maxFollowFrame, m)
		if errors.Is(err, p2p.ErrUnreadable) {
			f.stream.Reset() // ends the writer, should it be stuck
			return
		}
		if err == nil {
			err = take(s.now(), 1, "beats", pace)
		}
		if err == nil && m.GetAnnouncement() != nil {
			err = s.setShown(f, m.GetAnnouncement())
		}
		if err != nil {
			f.bye(s.refusal(err))
			return
		}
		f.answerBeat(m.GetSeq())
	}
}

// setShown takes over what a relay announces anew.
func (s *Server) setShown(f *relayLink, a *wire.Announcement) error {
	if err := take(s.now(), 1, "announcements", s.rates.follows.get(f.peer)); err != nil {
		return err
	}
	shown, err := shownRelay(f.peer, a)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.shown = shown
	f.mu.Unlock()
	if f.isApproved() {
		s.tellRelays()
	}
	return nil
}

// shownRelay is what members are told of a relay.
func shownRelay(id peer.ID, a *wire.Announcement) (*wire.Relay, error) {
	if a == nil || a.GetLimits() == nil {
		return nil, protocol.Refuse(protocol.BadRequest, "the first frame announces addresses and limits")
	}
	if len(a.GetAddrs()) > protocol.MaxAddrs {
		return nil, protocol.Refuse(protocol.TooLarge, "more than %d addresses", protocol.MaxAddrs)
	}
	l := a.GetLimits()
	r := &wire.Relay{Peer: []byte(id), Limits: &wire.RelayLimits{Reservations: l.GetReservations(), Bytes: l.GetBytes(), Ms: l.GetMs()}}
	for _, b := range a.GetAddrs() {
		m, err := ma.NewMultiaddrBytes(b)
		if err != nil || len(b) > protocol.MaxAddr {
			return nil, protocol.Refuse(protocol.BadRequest, "malformed address")
		}
		if isServer(m) {
			r.Addrs = append(r.Addrs, bytes.Clone(b))
		}
	}
	return r, nil
}

// isServer tells whether an address may be one of a relay: it begins with an IP
// address or a host name, and names neither a peer nor another relay.
func isServer(m ma.Multiaddr) bool {
	begins := []int{ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6}
	return len(m) > 0 && slices.Contains(begins, m[0].Protocol().Code) && !p2p.IsCircuit(m) &&
		!slices.ContainsFunc(m, func(c ma.Component) bool { return c.Protocol().Code == ma.P_P2P })
}
