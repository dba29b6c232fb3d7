package rendezvous

import (
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
)

// notTaken appends an entry that the log alone allows, and the rendezvous refuses.
func (p *party) notTaken(by, author *device, op room.Op) {
	p.t.Helper()
	e := p.write(author, op)
	if _, err := p.s.Extend(e); err != nil {
		p.t.Fatal(err)
	}
	by.refused(protocol.BadRequest, appendRequest(e))
}

// guestJoin lets a guest in for as long as possible.
func (p *party) guestJoin(guest *device) room.GuestJoin {
	return room.GuestJoin{
		Chain: guest.chain.Bytes(), Password: p.s.Password().Number, Expires: guest.server.clock.Now().Add(room.MaxGuestStay),
	}
}

// Nobody who has an account is made a guest of a room: it would be in his list of rooms,
// and the room's people would learn when he is online.
func TestNobodyIsMadeAGuest(t *testing.T) {
	s := startServer(t, nil)
	mallory, victim := member(t, s, "mallory"), member(t, s, "victim")
	p := newGuestRoom(t, mallory)
	p.notTaken(mallory, mallory, p.guestJoin(victim))
	if rooms, err := s.store.RoomsOf(t.Context(), victim.owner); err != nil || len(rooms) != 0 {
		t.Errorf("the victim is in %d rooms, %v", len(rooms), err)
	}
	if share, err := s.store.ShareRoom(t.Context(), mallory.owner, victim.owner, true); err != nil || share {
		t.Errorf("mail of rooms reaches the victim, %v", err)
	}
	p.letIn(mallory, newGuest(t, s, "bert"))
}

// A guest stays one: it joins no room, neither by itself nor with a member's help.
func TestGuestsAreNotPromoted(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	p, q := newGuestRoom(t, alice), newParty(t, alice)
	bert := visiting(t, s, p, alice, "bert")
	q.do(alice, room.Invite{Account: bert.owner})
	join := room.Join{Chain: bert.chain.Bytes()}
	bert.refused(protocol.NotMember, appendRequest(q.write(bert, join)))
	q.notTaken(alice, bert, join)
	p.do(bert, room.Leave{})
	p.do(alice, room.Invite{Account: bert.owner})
	bert.refused(protocol.NotMember, appendRequest(p.write(bert, join)))
}

// Nobody comes into a room with the peer id of somebody else's device: then nobody would
// be connected with that device.
func TestPeerIDsAreNotTaken(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, carol := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol")
	p := newGuestRoom(t, alice, carol)
	as := func(peerID []byte) *device {
		g := newGuest(t, s, "thief")
		g.visitAs(peerID)
		return g
	}
	p.notTaken(alice, alice, p.guestJoin(as(carol.cert.PeerID))) // of who is in the room,
	p.notTaken(alice, alice, p.guestJoin(as(bob.cert.PeerID)))   // of who may come,
	bert := newGuest(t, s, "bert")
	p.letIn(alice, bert)
	p.notTaken(alice, alice, p.guestJoin(as(bert.cert.PeerID))) // and of a guest that is not registered yet

	cert, err := account.NewCert(carol.aik, account.Cert{
		Account: carol.owner, Signing: key.NewDevice().Public(), Identity: key.NewIdentity().Public(), PeerID: bert.cert.PeerID,
		MinProto: 1, MaxProto: 1, Created: carol.cert.Created, NotAfter: carol.cert.NotAfter, Name: "second",
	})
	if err != nil {
		t.Fatal(err)
	}
	longer, err := carol.chain.AddDevice(s.clock.Now(), carol.aik, cert)
	if err != nil {
		t.Fatal(err)
	}
	p.notTaken(carol, carol, room.Devices{Account: carol.owner, Statements: longer.Bytes()[len(carol.chain.Bytes()):]})

	p.do(alice, room.Invite{Account: bob.owner})
	p.do(bob, room.Join{Chain: bob.chain.Bytes()})
}
