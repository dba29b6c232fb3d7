package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/proof"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
)

const (
	linkTag    = "link" // protects the connection from being trimmed
	linksBurst = 30     // of one device
)

// handleLink runs a link from its first beat to its end.
func (s *Server) handleLink(stream network.Stream) {
	defer stream.Close()
	if !s.enter() {
		s.refuseLink(stream, s.drainingRefusal())
		return
	}
	defer s.leave()

	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.CallDeadline)
	defer cancel()
	deadline, _ := ctx.Deadline()
	stream.SetDeadline(deadline)

	beat := &wire.Beat{}
	d, err := s.firstBeat(ctx, stream, beat)
	if errors.Is(err, p2p.ErrUnreadable) {
		stream.Reset()
		return
	}
	if isCopy(err) {
		tooOften := take(s.now(), 1, "readings by copies", s.rates.copies.get(d.ID))
		s.hellos.refuse(stream.Conn(), tooOften == nil)
	}
	if err != nil {
		s.refuseLink(stream, err)
		return
	}
	l := newLink(stream, d)
	welcome, err := s.joinLink(ctx, l, beat)
	defer s.leaveLink(l)
	if err != nil {
		s.refuseLink(stream, err)
		return
	}
	s.hellos.welcome(stream.Conn())
	speaking, silence := context.WithCancel(s.ctx)
	silent := make(chan struct{})
	go func() { defer close(silent); s.speak(speaking, l) }()
	serveStanding(s, &l.standing, welcome, l.next, func(b *wire.Beat) error { return s.hear(l, b) }, func() { s.leaveLink(l); silence() })
	<-silent
}

// refuseLink answers the first beat with a refusal.
func (s *Server) refuseLink(stream network.Stream, err error) {
	e := s.refusal(err)
	w := &wire.Welcome{Code: uint32(e.Code), Detail: e.Detail, RetryAfterMs: p2p.Millis(e.RetryAfter)}
	stream.SetWriteDeadline(time.Now().Add(s.cfg.Limits.WriteTimeout))
	if wire.WriteMsg(stream, w) != nil {
		stream.Reset()
	}
}

// firstBeat reads the beat that says hello, and checks who says it.
func (s *Server) firstBeat(ctx context.Context, stream network.Stream, beat *wire.Beat) (store.Device, error) {
	d, member, err := s.device(ctx, stream.Conn())
	if err != nil {
		return store.Device{}, err
	}
	if _, err := p2p.ReadFrame(stream, maxBeatFrame, beat); err != nil {
		return store.Device{}, err
	}
	if !member {
		return store.Device{}, protocol.Refuse(protocol.NotMember, "register first")
	}
	// A thief of the host key alone uses up nothing that the device needs.
	if err := take(s.now(), 1, "hellos", s.rates.hellos.get(p2p.Site(stream.Conn()))); err != nil {
		return store.Device{}, err
	}
	at, err := s.readHello(d, beat.GetHello())
	if err != nil {
		return store.Device{}, err
	}
	if err := take(s.now(), 1, "links", s.rates.links.get(d.ID)); err != nil {
		return store.Device{}, err
	}
	return d, s.checkStore(ctx, d, at)
}

// readHello reads the start of the device's store, if the device signed it.
func (s *Server) readHello(d store.Device, h *wire.Hello) (at store.StoreStart, err error) {
	if h == nil || len(h.GetStoreId()) != 16 || len(h.GetStart()) != 16 {
		return at, protocol.Refuse(protocol.BadRequest, "the first beat says hello and names the start of the store")
	}
	own := uint32(protocol.Version)
	if h.GetMinVersion() > own || h.GetMaxVersion() < own {
		return at, protocol.Refuse(protocol.UnsupportedVersion, "this rendezvous speaks version %d", own)
	}
	cert, err := account.ParseCert(d.Cert)
	if err != nil {
		return at, fmt.Errorf("read certificate: %w", err)
	}
	at = store.StoreStart{StoreID: [16]byte(h.GetStoreId()), Counter: h.GetStoreCtr(), Start: [16]byte(h.GetStart())}
	said := proof.Hello{Device: d.ID, StoreID: at.StoreID, Counter: at.Counter, Start: at.Start, Rendezvous: []byte(s.PeerID())}
	if said.Verify(cert.Signing, h.GetSig()) != nil {
		return at, protocol.Refuse(protocol.BadSignature, "the hello is not signed by the device")
	}
	return at, nil
}

// checkStore takes note of the start of the device's store, unless it shows that
// the store is a copy.
func (s *Server) checkStore(ctx context.Context, d store.Device, at store.StoreStart) error {
	err := s.store.CheckStore(ctx, d.ID, at)
	switch protocol.CodeOf(err) {
	case protocol.OK:
		return nil
	case protocol.DeviceCloned:
		s.noteRefusal(ctx, d, audit.Cloned)
	case protocol.StoreRolledBack:
		s.noteRefusal(ctx, d, audit.RolledBack)
	}
	return fmt.Errorf("check store of device: %w", err)
}

// helloAgain takes note of a start of the store that is told later in a link.
func (s *Server) helloAgain(l *link, h *wire.Hello) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.CallDeadline)
	defer cancel()
	d, err := s.store.Device(ctx, l.device)
	if err != nil {
		return fmt.Errorf("find device: %w", err)
	}
	at, err := s.readHello(d, h)
	if err != nil {
		return err
	}
	return s.checkStore(ctx, d, at)
}

func isCopy(err error) bool {
	code := protocol.CodeOf(err)
	return code == protocol.DeviceCloned || code == protocol.StoreRolledBack
}

// joinLink puts the link online and makes the welcome. It reads what the
// welcome says after the link is online, so that no hint falls in between.
func (s *Server) joinLink(ctx context.Context, l *link, first *wire.Beat) (*wire.Welcome, error) {
	if err := l.setAddrs(first); err != nil {
		return nil, err
	}
	old, online, err := s.presence.join(l, func() ([]protocol.AccountID, error) {
		return s.store.Watchers(ctx, l.account)
	})
	if err != nil {
		return nil, fmt.Errorf("put link online: %w", err)
	}
	if old != nil {
		old.bye(protocol.Refuse(protocol.Replaced, "a newer connection took over"))
	}
	s.host.ConnManager().Protect(l.stream.Conn().RemotePeer(), linkTag)
	if s.isDraining() { // drain may have said its goodbyes before this link was there
		return nil, s.drainingRefusal()
	}
	if d, err := s.store.Device(ctx, l.device); err != nil { // the same for a revocation
		return nil, fmt.Errorf("find device: %w", err)
	} else if d.Revoked {
		return nil, revokedRefusal()
	}
	rooms, err := s.store.RoomsOf(ctx, l.account)
	if err != nil {
		return nil, fmt.Errorf("read rooms: %w", err)
	}
	for _, r := range rooms {
		l.tellRoom(roomNews{r.ID, r.Seq, r.Cursor})
	}
	if len(rooms) > 0 {
		l.topics.announce()
	}
	l.answerBeat(first.GetSeq())
	return s.welcome(ctx, l, online)
}

func (s *Server) welcome(ctx context.Context, l *link, online []protocol.AccountID) (*wire.Welcome, error) {
	counts, err := s.prekeyCounts(ctx, l.device)
	if err != nil {
		return nil, err
	}
	digest, err := s.store.ContactsDigest(ctx, l.account)
	if err != nil {
		return nil, fmt.Errorf("read contacts: %w", err)
	}
	waiting, err := s.store.MailboxUsage(ctx, l.device)
	if err != nil {
		return nil, fmt.Errorf("read mailbox: %w", err)
	}
	heads, err := s.heads(ctx, l.account)
	if err != nil {
		return nil, err
	}
	headsDigest := proof.HeadsDigest(heads)
	w := &wire.Welcome{
		Version:        uint32(protocol.Version),
		NowMs:          uint64(s.now().UnixMilli()),
		Limits:         s.cfg.Limits.forDevice(l.guest).wire(),
		Prekeys:        counts,
		ContactsDigest: digest[:],
		HeadsDigest:    headsDigest[:],
		Mail:           waiting.Count > 0,
	}
	for _, id := range online {
		w.Presence = append(w.Presence, &wire.Presence{Account: id[:], Online: true})
	}
	return w, nil
}

func (s *Server) leaveLink(l *link) {
	if s.presence.leave(l) {
		s.host.ConnManager().Unprotect(l.stream.Conn().RemotePeer(), linkTag)
		if l.guest {
			s.departures.note(l.account, s.now())
		}
	}
}

// hear takes in a later beat of a link.
func (s *Server) hear(l *link, beat *wire.Beat) error {
	if beat.GetHello() != nil {
		if err := s.helloAgain(l, beat.GetHello()); err != nil {
			return err
		}
	}
	if err := l.setAddrs(beat); err != nil {
		return err
	}
	l.answerBeat(beat.GetSeq())
	return nil
}
