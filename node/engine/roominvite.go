package engine

import (
	"errors"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
)

// invitation is what a contact, or another device of ours, is told of a room.
func (w *work) invitation(r *openRoom) (*wire.Content, error) {
	about, err := w.roomAbout(r, r.state)
	if err != nil {
		return nil, err
	}
	head, name := r.state.Head(), r.state.About().Key
	invite := &wire.RoomInvite{
		Room: r.id[:], Home: r.row.home.Peer, Addrs: r.row.home.Addrs, Seq: r.state.Seq(), Head: head[:], Name: about.Name,
	}
	if name != (room.KeyID{}) {
		invite.StateKey = name[:]
	}
	return &wire.Content{Body: &wire.Content_RoomInvite{RoomInvite: invite}}, nil
}

// sendInvite tells a contact that it may join.
func (w *work) sendInvite(r *openRoom, a protocol.AccountID) error {
	p, err := w.peer(a)
	if err == ErrNotFound || err == nil && p.relation != Accepted {
		return nil
	}
	if err != nil {
		return err
	}
	return w.tellOfRoom(r, p.valid(w.now))
}

// tellSiblingsOfRoom tells our other devices that the account is in a room.
func (w *work) tellSiblingsOfRoom(r *openRoom) error {
	list, err := w.siblings()
	if err != nil {
		return err
	}
	return w.tellOfRoom(r, list)
}

func (w *work) tellOfRoom(r *openRoom, devices []protocol.DeviceID) error {
	for _, device := range devices {
		d, err := w.device(device)
		if err != nil {
			return err
		}
		content, err := w.invitation(r)
		if err != nil {
			return err
		}
		if err := w.postRoomKeys(device, d, wire.MailKind_MESSAGE, content); err != nil {
			return err
		}
	}
	return nil
}

// receiveInvite takes an invitation, or what a sibling tells of a room.
func (w *work) receiveInvite(in *incoming, i *wire.RoomInvite) error {
	id, err := protocol.FromBytes[protocol.RoomID](i.GetRoom())
	if err != nil || !validInvite(i) {
		return w.trouble(CauseMalformed, in.d.account, "an invitation to a room that cannot be read")
	}
	r, err := w.room(id)
	if err == ErrNoRoom {
		row := roomRow{stage: RoomTold, home: Home{Peer: i.GetHome(), Addrs: i.GetAddrs()}, since: w.now}
		if r, err = w.addRoom(id, row); errors.Is(err, ErrManyRooms) {
			return w.trouble(CauseMalformed, in.d.account, "an invitation, but there are too many rooms")
		}
	}
	if err != nil {
		return err
	}
	if err := w.takeStateKey(r, i.GetStateKey()); err != nil {
		return err
	}
	if r.row.stage == RoomInvited || r.row.stage == RoomJoined {
		return nil
	}
	w.hintRoom(id)
	r.row.name = i.GetName()
	r.row.toldSeq, r.row.toldHead = i.GetSeq(), [32]byte(i.GetHead())
	if in.p.relation == Self { // the log says what we are there
		r.row.stage = RoomTold
		return nil
	}
	r.row.stage, r.row.by = RoomInvited, in.d.account
	return w.roomEvent(r, RoomWasInvited, r.row.name)
}

// maxHomePeer bounds the peer id of a rendezvous, in bytes.
const maxHomePeer = 128

func validInvite(i *wire.RoomInvite) bool {
	for _, a := range i.GetAddrs() {
		if len(a) > protocol.MaxAddr {
			return false
		}
	}
	return len(i.GetHead()) == 32 && len(i.GetHome()) <= maxHomePeer && len(i.GetAddrs()) <= protocol.MaxAddrs &&
		(i.GetName() == "" || account.ValidDeviceName(i.GetName()))
}
