package engine

import (
	"errors"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
)

// sendInvite tells a contact that it may join.
func (w *work) sendInvite(r *openRoom, a protocol.AccountID) error {
	p, err := w.peer(a)
	if err == ErrNotFound || err == nil && p.relation != Accepted {
		return nil
	}
	if err != nil {
		return err
	}
	for _, device := range p.valid(w.now) {
		d, err := w.device(device)
		if err != nil {
			return err
		}
		content, err := w.invitation(r)
		if err != nil {
			return err
		}
		if _, err := w.postRoomKeys(device, d, wire.MailKind_MESSAGE, content); err != nil {
			return err
		}
	}
	return nil
}

// invitation is what a contact is told of a room.
func (w *work) invitation(r *openRoom) (*wire.Content, error) {
	about, err := w.roomAbout(r, r.state)
	if err != nil {
		return nil, err
	}
	home, err := w.homeOf(r)
	if err != nil {
		return nil, err
	}
	head, name := r.state.Head(), r.state.About().Key
	invite := &wire.RoomInvite{
		Room: r.id[:], Home: home.Peer, Addrs: home.Addrs, Seq: r.state.Seq(), Head: head[:], Name: about.Name,
	}
	if name != (room.KeyID{}) {
		invite.StateKey = name[:]
	}
	return &wire.Content{Body: &wire.Content_RoomInvite{RoomInvite: invite}}, nil
}

// receiveInvite takes an invitation by a contact. One too many is told and dropped: it may
// be sent again.
func (w *work) receiveInvite(in *incoming, i *wire.RoomInvite) error {
	id, err := protocol.FromBytes[protocol.RoomID](i.GetRoom())
	if err != nil || len(i.GetHead()) != 32 || !validRoom(i.GetHome(), i.GetAddrs(), i.GetName()) {
		return w.trouble(CauseMalformed, in.d.account, "an invitation to a room that cannot be read")
	}
	r, err := w.room(id)
	if known := err == nil && (r.row.stage == RoomInvited || r.row.stage == RoomJoined); !known {
		may, err := w.mayInvite(in.d.account)
		if err != nil {
			return err
		}
		if !may {
			return w.trouble(CauseMalformed, in.d.account, "an invitation, but too many of this contact wait")
		}
	}
	if err == ErrNoRoom {
		row := roomRow{stage: RoomTold, home: Home{Peer: i.GetHome(), Addrs: i.GetAddrs()}, since: w.now}
		if r, err = w.addRoom(id, row); errors.Is(err, ErrManyRooms) {
			return w.trouble(CauseMalformed, in.d.account, "an invitation, but there are too many rooms")
		}
	}
	if err != nil {
		return err
	}
	if err := w.takeStateKey(r, in.d.account, i.GetStateKey()); err != nil {
		return err
	}
	if r.row.stage == RoomInvited || r.row.stage == RoomJoined {
		return nil
	}
	w.hintRoom(id)
	r.row.name = i.GetName()
	r.row.toldSeq, r.row.toldHead = i.GetSeq(), [32]byte(i.GetHead())
	r.row.stage, r.row.by = RoomInvited, in.d.account
	return w.roomEvent(r, RoomWasInvited, r.row.name)
}

// maxHomePeer bounds the peer id of a rendezvous, in bytes.
const maxHomePeer = 128

// validRoom tells whether what somebody says of a room may be kept.
func validRoom(home []byte, addrs []string, name string) bool {
	for _, a := range addrs {
		if len(a) > protocol.MaxAddr {
			return false
		}
	}
	return len(home) <= maxHomePeer && len(addrs) <= protocol.MaxAddrs && (name == "" || account.ValidDeviceName(name))
}
