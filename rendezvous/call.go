package rendezvous

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
)

const (
	maxStrangerFrame = protocol.MaxChain + 1<<10 // bytes
	callUnit         = 64 << 10                  // a call counts once, and once more per so many bytes
	strangerUnit     = 4 << 10                   // the same for strangers: what they send is chains to verify
)

// handleCall is one stream: one request, one answer.
func (s *Server) handleCall(stream network.Stream) {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.CallDeadline)
	defer cancel()
	deadline, _ := ctx.Deadline()
	stream.SetDeadline(deadline)

	if !s.enter() {
		s.answer(stream, nil, s.drainingRefusal())
		return
	}
	defer s.leave()

	resp := &wire.Response{}
	err := s.call(ctx, stream, resp)
	if errors.Is(err, p2p.ErrUnreadable) {
		stream.Reset() // gone, or too slow
		return
	}
	s.answer(stream, resp, err)
}

// call reads the request, finds out who asks, and fills in the result.
func (s *Server) call(ctx context.Context, stream network.Stream, resp *wire.Response) error {
	from, member, err := s.device(ctx, stream.Conn())
	revoked := protocol.CodeOf(err) == protocol.Revoked
	if err != nil && !revoked {
		return err
	}
	welcome := member && s.hellos.isWelcome(stream.Conn())
	limit := maxStrangerFrame
	if welcome {
		limit = protocol.MaxFrame
	}
	req := &wire.Request{}
	size, err := p2p.ReadFrame(stream, limit, req)
	if err != nil {
		return err
	}
	if err := s.countCall(stream.Conn(), from, welcome, size); err != nil {
		return err
	}
	if revoked {
		return s.showRevocation(ctx, from, req.GetLookup(), resp)
	}
	switch c := req.Call.(type) {
	case *wire.Request_Register:
		return s.register(ctx, []byte(stream.Conn().RemotePeer()), c.Register, resp)
	case *wire.Request_RegisterGuest:
		return s.registerGuest(ctx, []byte(stream.Conn().RemotePeer()), c.RegisterGuest, resp)
	case *wire.Request_UpdateChain:
		return s.updateChain(ctx, stream.Conn(), from, c.UpdateChain, resp)
	case *wire.Request_FetchChain:
		return s.fetchChain(ctx, stream.Conn(), c.FetchChain, resp)
	case *wire.Request_GetKeySet:
		return s.getKeySet(ctx, c.GetKeySet, resp)
	}
	if !member {
		return protocol.Refuse(protocol.NotMember, "register first")
	}
	if !welcome {
		return s.callBeforeHello(ctx, stream.Conn(), from, req, resp)
	}
	return s.memberCall(ctx, from, req, resp)
}

// callBeforeHello is what a registered device is served on a connection where
// its hello was not welcomed: what it needs to become another device.
func (s *Server) callBeforeHello(ctx context.Context, conn network.Conn, from store.Device, req *wire.Request, resp *wire.Response) error {
	switch c := req.Call.(type) {
	case *wire.Request_Lookup:
		if isOwnAccount(from, c.Lookup) {
			return s.lookup(ctx, from, c.Lookup, resp)
		}
	case *wire.Request_Fetch:
		if s.hellos.mayRead(conn) {
			return s.fetchAsCopy(ctx, conn, from, c.Fetch, resp)
		}
	}
	return helloFirst()
}

// fetchAsCopy lets a store that was refused as a copy read once what waits,
// since it becomes another device and might have been the only one to read it.
// That is all, and seldom: it may as well be a thief's.
func (s *Server) fetchAsCopy(ctx context.Context, conn network.Conn, from store.Device, f *wire.Fetch, resp *wire.Response) error {
	if err := s.fetch(ctx, from, f, resp); err != nil {
		return err
	}
	if !resp.GetMail().GetMore() {
		s.hellos.forget(conn)
	}
	return nil
}

// countCall takes a call off what the caller may make. Who only has a device's
// host key uses up nothing of what the device may make.
func (s *Server) countCall(c network.Conn, from store.Device, welcome bool, size int) error {
	if welcome {
		return take(s.now(), 1+size/callUnit, "calls", s.rates.calls.get(from.ID))
	}
	return take(s.now(), 1+size/strangerUnit, "calls", s.rates.strangers.get(p2p.Site(c)))
}

// device finds out who is at the other end: the connection's key is the login.
// Of a revoked device it returns which it is, and the refusal.
func (s *Server) device(ctx context.Context, c network.Conn) (d store.Device, member bool, err error) {
	d, err = s.store.DeviceByPeer(ctx, []byte(c.RemotePeer()))
	if protocol.CodeOf(err) == protocol.UnknownDevice {
		return store.Device{}, false, nil
	}
	if err != nil {
		return store.Device{}, false, fmt.Errorf("find device of peer: %w", err)
	}
	if d.Revoked {
		s.noteRefusal(ctx, d, audit.Refused)
		return d, false, revokedRefusal()
	}
	return d, true, nil
}

// showRevocation is the one thing that a revoked device is still told: the chain
// of its account, so that it need not believe our word. Everything else is
// refused.
func (s *Server) showRevocation(ctx context.Context, from store.Device, l *wire.Lookup, resp *wire.Response) error {
	if !isOwnAccount(from, l) {
		return revokedRefusal()
	}
	return s.lookup(ctx, from, l, resp)
}

// isOwnAccount tells that a look-up asks for the caller's own chain, and for
// nothing else.
func isOwnAccount(from store.Device, l *wire.Lookup) bool {
	return bytes.Equal(l.GetAccount(), from.Account[:]) && l.GetName() == "" && len(l.GetNonce()) == 0
}

func revokedRefusal() *protocol.Error {
	return protocol.Refuse(protocol.Revoked, "this device was revoked")
}

// memberCall is every call that needs a registered device whose hello was
// welcomed.
func (s *Server) memberCall(ctx context.Context, from store.Device, req *wire.Request, resp *wire.Response) error {
	if from.Guest {
		if err := s.checkGuestCall(ctx, from, req); err != nil {
			return err
		}
	}
	switch c := req.Call.(type) {
	case *wire.Request_Lookup:
		return s.lookup(ctx, from, c.Lookup, resp)
	case *wire.Request_UploadPrekeys:
		return s.uploadPrekeys(ctx, from, c.UploadPrekeys, resp)
	case *wire.Request_SetContacts:
		return s.setContacts(ctx, from, c.SetContacts, resp)
	case *wire.Request_Put:
		return s.put(ctx, from, c.Put, resp)
	case *wire.Request_Fetch:
		return s.fetch(ctx, from, c.Fetch, resp)
	case *wire.Request_Ack:
		return s.ack(ctx, from, c.Ack, resp)
	case *wire.Request_Where:
		return s.where(ctx, from, c.Where, resp)
	case *wire.Request_Heads:
		return s.headList(ctx, from, resp)
	case *wire.Request_ReadLog:
		return s.readLog(ctx, from, c.ReadLog, resp)
	case *wire.Request_CreateInvite:
		return s.createInvite(ctx, from, c.CreateInvite, resp)
	case *wire.Request_GetToken:
		return s.getToken(ctx, from, c.GetToken, resp)
	case *wire.Request_AppendRoom:
		return s.appendRoom(ctx, from, c.AppendRoom, resp)
	case *wire.Request_ReadRoom:
		return s.readRoom(ctx, from, c.ReadRoom, resp)
	case *wire.Request_PutRoom:
		return s.putRoom(ctx, from, c.PutRoom, resp)
	case *wire.Request_FillRoom:
		return s.fillRoom(ctx, from, c.FillRoom, resp)
	case *wire.Request_SeenGuests:
		return s.seenGuests(ctx, from, c.SeenGuests, resp)
	case *wire.Request_TakenBlob:
		return s.takenBlob(ctx, from, c.TakenBlob, resp)
	case *wire.Request_DropBlob:
		return s.dropBlob(ctx, from, c.DropBlob, resp)
	case *wire.Request_GetRelays:
		resp.Result = &wire.Response_RelayList{RelayList: &wire.RelayList{Relays: s.relays.list()}}
		return nil
	default:
		return protocol.Refuse(protocol.BadRequest, "no call that is known here")
	}
}

// answer sends resp, or the refusal that err stands for, and ends the stream.
func (s *Server) answer(stream network.Stream, resp *wire.Response, err error) {
	if err != nil {
		e := s.refusal(err)
		resp = &wire.Response{Code: uint32(e.Code), Detail: e.Detail, RetryAfterMs: p2p.Millis(e.RetryAfter)}
	}
	if err := wire.WriteMsg(stream, resp); err != nil {
		stream.Reset() // the peer is gone or does not read
		return
	}
	if s.isDraining() {
		hangUp(stream)
		io.Copy(io.Discard, stream)
	}
	stream.Close()
}

// linger is how long a peer gets to read the last words on a stream.
const linger = time.Second

// hangUp ends our side of a stream and gives the peer some time to end its
// own. That shows that it has read what came last: closing the connection
// right away, as at shutdown, can take back what was written.
func hangUp(stream network.Stream) {
	stream.CloseWrite()
	stream.SetReadDeadline(time.Now().Add(linger))
}

// refusal is the one place where an error becomes a code: refusals pass, the
// store's troubles are "unavailable", and everything else is our fault and is
// told to the log only.
func (s *Server) refusal(err error) *protocol.Error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	s.noticeFailure(err)
	e := &protocol.Error{Code: protocol.Unavailable, RetryAfter: 5 * time.Second}
	switch {
	case errors.Is(err, store.ErrFull):
		e.Detail, e.RetryAfter = "the rendezvous's disk is full", time.Minute
	case errors.Is(err, store.ErrFailed), errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrReadOnly):
		e.Detail, e.RetryAfter = "the rendezvous's store is out of order", time.Minute
	case errors.Is(err, store.ErrClosed):
		return s.drainingRefusal()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.Detail = "the rendezvous is busy"
	default:
		e = protocol.Refuse(protocol.Internal, "the rendezvous failed")
	}
	s.troubles.Do(func() { // a full disk fails every call: say it once a second
		s.log.LogAttrs(context.Background(), slog.LevelError, "cannot serve", slog.String("code", e.Code.String()), slog.Any("err", err))
	})
	return e
}
