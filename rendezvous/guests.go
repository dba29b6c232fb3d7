package rendezvous

import (
	"bytes"
	"context"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// registerGuest takes in the guest of a room here: an account without a name, which
// the room's log let in. It may be repeated.
func (s *Server) registerGuest(ctx context.Context, peerID []byte, r *wire.RegisterGuest, resp *wire.Response) error {
	id, err := parseID[protocol.RoomID](r.GetRoom())
	if err != nil {
		return err
	}
	chain, err := account.ParseChain(r.GetChain())
	if err != nil {
		return protocol.Refuse(protocol.BadRequest, "malformed statement chain")
	}
	cert, err := s.guestOf(ctx, id, chain)
	if err != nil {
		return err
	}
	if !bytes.Equal(cert.PeerID, peerID) {
		return protocol.Refuse(protocol.BadRequest, "the chain must certify the device that registers")
	}
	if !cert.Speaks(protocol.Version) {
		return protocol.Refuse(protocol.UnsupportedVersion, "this rendezvous speaks version %d", protocol.Version)
	}
	err = s.store.RegisterGuest(ctx, store.GuestParams{
		Account: chain.Account(), Chain: r.GetChain(), ChainSeq: chain.Seq(), ChainHead: chain.Head(),
		Device: store.NewDevice{ID: cert.DeviceID(), PeerID: peerID, Cert: cert.Marshal()}, Now: s.now(),
	})
	if err != nil {
		return fmt.Errorf("register guest: %w", err)
	}
	resp.Result = &wire.Response_Registered{Registered: &wire.Registered{}}
	return nil
}

// guestOf finds the guest with this chain in a room. To who is none, no room exists.
func (s *Server) guestOf(ctx context.Context, id protocol.RoomID, chain *account.Chain) (cert account.Cert, err error) {
	l := s.rooms.hold(id)
	defer s.rooms.release(l)
	v, err := s.viewRoom(ctx, l)
	if err != nil {
		return cert, err
	}
	m, in := v.state.Member(chain.Account())
	if !in || m.Role != room.RoleGuest || !bytes.Equal(m.Chain.Bytes(), chain.Bytes()) {
		return cert, unknownRoom()
	}
	return m.Devices()[0].Cert, nil // a guest has one
}

// checkGuestCall refuses what guests of rooms are not served: all about names, lists and
// invites, and accounts that are in no room with them.
func (s *Server) checkGuestCall(ctx context.Context, from store.Device, req *wire.Request) error {
	switch c := req.Call.(type) {
	case *wire.Request_UploadPrekeys, *wire.Request_Fetch, *wire.Request_Ack, *wire.Request_Heads, *wire.Request_GetRelays,
		*wire.Request_ReadRoom, *wire.Request_PutRoom, *wire.Request_FillRoom,
		*wire.Request_GetBlob, *wire.Request_TakenBlob, *wire.Request_DropBlob:
		return nil
	case *wire.Request_PutBlob:
		if len(c.PutBlob.GetAccounts()) > 0 {
			return notForGuests()
		}
		return nil
	case *wire.Request_Put:
		for _, item := range c.Put.GetItems() {
			if item.GetKind() != wire.MailKind_ROOM {
				return notForGuests()
			}
		}
		return nil
	case *wire.Request_AppendRoom:
		e, err := room.ParseEntry(c.AppendRoom.GetEntry())
		if _, joins := e.Op.(room.Join); err == nil && (e.Seq == 0 || joins) {
			return notForGuests()
		}
		return nil // what is malformed is refused there
	case *wire.Request_Lookup:
		if isOwnAccount(from, c.Lookup) {
			return nil
		}
		return s.checkGuestLookup(ctx, from, c.Lookup)
	case *wire.Request_GetToken:
		rooms, err := s.store.RoomsOf(ctx, from.Account)
		if err != nil {
			return fmt.Errorf("read rooms of guest: %w", err)
		}
		if len(rooms) > 0 {
			return nil
		}
	}
	return notForGuests()
}

// checkGuestLookup refuses accounts that are in no room with the guest, as if they did
// not exist.
func (s *Server) checkGuestLookup(ctx context.Context, from store.Device, l *wire.Lookup) error {
	if l.GetName() != "" {
		return notForGuests()
	}
	id, err := parseID[protocol.AccountID](l.GetAccount())
	if err != nil {
		return err
	}
	return s.checkCommonRoom(ctx, from.Account, id)
}

// checkCommonRoom keeps a guest from everybody who is in no room with it.
func (s *Server) checkCommonRoom(ctx context.Context, from, of protocol.AccountID) error {
	share, err := s.store.ShareRoom(ctx, from, of, false)
	if err != nil {
		return fmt.Errorf("find common rooms: %w", err)
	}
	if !share {
		return protocol.Refuse(protocol.UnknownAccount, "%s", of)
	}
	return nil
}

func notForGuests() *protocol.Error {
	return protocol.Refuse(protocol.NotMember, "guests of rooms cannot do this")
}
