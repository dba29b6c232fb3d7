package rendezvous

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
)

// checkEntrants refuses an entry by which somebody is in a room as what he is not, or
// with the libp2p identity of another account's device: a log alone does not show that.
func (s *Server) checkEntrants(ctx context.Context, before, after *roomView, e room.Entry) error {
	came := after.notIn(before.state)
	for _, id := range came {
		if err := s.checkEntrant(ctx, after.state, id); err != nil {
			return err
		}
	}
	if op, is := e.Op.(room.Devices); is {
		came = append(came, op.Account)
	}
	for _, id := range came {
		if err := s.checkPeers(ctx, before.state, after.state, id); err != nil {
			return err
		}
	}
	return nil
}

// checkEntrant keeps apart who has an account and who made one for a visit: nobody is a
// guest who did not knock, and no guest becomes a member.
func (s *Server) checkEntrant(ctx context.Context, after *room.State, id protocol.AccountID) error {
	m, _ := after.Member(id)
	a, err := s.store.Account(ctx, id)
	switch {
	case protocol.CodeOf(err) == protocol.UnknownAccount: // a guest registers when the log has it
		return nil
	case err != nil:
		return fmt.Errorf("find who comes into a room: %w", err)
	case a.IsGuest() && m.Role != room.RoleGuest:
		return protocol.Refuse(protocol.BadRequest, "a guest does not become a member")
	case !a.IsGuest() && m.Role == room.RoleGuest:
		return protocol.Refuse(protocol.BadRequest, "the account was not made for a visit")
	}
	return nil
}

// checkPeers checks the devices that an account has by an entry, and had not before.
func (s *Server) checkPeers(ctx context.Context, before, after *room.State, id protocol.AccountID) error {
	old, _ := before.Member(id)
	known := map[protocol.DeviceID]bool{}
	for _, d := range old.Devices() {
		known[d.ID] = true
	}
	now, _ := after.Member(id)
	for _, d := range now.Devices() {
		if known[d.ID] {
			continue
		}
		has, err := s.store.DeviceByPeer(ctx, d.Cert.PeerID)
		if err != nil && protocol.CodeOf(err) != protocol.UnknownDevice {
			return fmt.Errorf("find whose a peer id is: %w", err)
		}
		if err == nil && has.Account != id || after.PeerTaken(id, d.Cert.PeerID) {
			return protocol.Refuse(protocol.BadRequest, "another account has a device with this peer id")
		}
	}
	return nil
}
