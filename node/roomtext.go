package node

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
)

// entry tells people who did what in a room.
func (s names) entry(id protocol.RoomID, e engine.RoomEntry) api.RoomEntry {
	by := s.inRoom(id, e.Account)
	out := api.RoomEntry{Seq: e.Seq, Time: e.Time, By: by, What: e.Op.Kind().String()}
	if a, ok := concerns(e.Op); ok {
		out.Who = s.inRoom(id, a)
	}
	out.Text = by + " " + deed(e, out.Who)
	return out
}

// concerns is the account that an operation is about.
func concerns(op room.Op) (protocol.AccountID, bool) {
	switch op := op.(type) {
	case room.Invite:
		return op.Account, true
	case room.Uninvite:
		return op.Account, true
	case room.Remove:
		return op.Account, true
	case room.Ban:
		return op.Account, true
	case room.Unban:
		return op.Account, true
	case room.SetRole:
		return op.Account, true
	case room.SetMemberRights:
		return op.Account, true
	case room.GuestRenew:
		return op.Account, true
	case room.GuestExpire:
		return op.Account, true
	case room.Devices:
		return op.Account, true
	}
	return protocol.AccountID{}, false
}

// deed says what an entry did, to whom.
func deed(e engine.RoomEntry, who string) string {
	switch op := e.Op.(type) {
	case room.Create:
		return "made the room"
	case room.Invite:
		return "invited " + who
	case room.Uninvite:
		return "took the invitation of " + who + " back"
	case room.Link:
		return fmt.Sprintf("made a link into the room, for %d", op.Uses)
	case room.Unlink:
		return "ended a link into the room"
	case room.Join:
		if !op.Link.IsZero() {
			return "joined by a link"
		}
		return "joined"
	case room.Leave:
		return "left"
	case room.Remove:
		return "removed " + who
	case room.Ban:
		return "banned " + who
	case room.Unban:
		return "lets " + who + " be invited again"
	case room.SetRole:
		return fmt.Sprintf("made %s %v", who, op.Role)
	case room.SetMemberRights:
		return changedRights(op, who)
	case room.SetRoleRights:
		return fmt.Sprintf("changed what every %v may: %s", op.Role, rightsText(op.Rights))
	case room.Lock:
		if op.On {
			return "locked the room: nobody comes in"
		}
		return "unlocked the room"
	case room.Describe:
		return describedText(e.About)
	case room.SetPassword:
		return passwordText(op)
	case room.GuestJoin:
		return "let a guest in" + called(e.Name)
	case room.GuestRenew:
		return "let " + who + " stay longer"
	case room.GuestExpire:
		return "noted that the time of " + who + " is over"
	case room.Devices:
		return "noted that the devices of " + who + " changed"
	case room.Rotate:
		return "changed the keys of the room"
	case room.Merge:
		return fmt.Sprintf("ended a fork of the room's log, from entry %d on", op.Common)
	}
	return e.Op.Kind().String()
}

func passwordText(op room.SetPassword) string {
	switch {
	case op.Open && op.AskAgain:
		return "set a password for guests, and asks those who are in for it"
	case op.Open:
		return "set a password for guests"
	case op.AskAgain:
		return "closed the room for guests, and those who were in are out"
	}
	return "closed the room for guests"
}

func changedRights(op room.SetMemberRights, who string) string {
	switch {
	case op.Muted:
		return "muted " + who
	case op.HasOwn:
		return fmt.Sprintf("changed what %s may: %s", who, rightsText(op.Own))
	}
	return "gave " + who + " the rights of the role"
}

func rightsText(r room.Rights) string {
	if r == 0 {
		return "nothing"
	}
	return strings.Join(rightNames(r), ", ")
}

func describedText(about room.About) string {
	switch {
	case about.Name == "":
		return "changed name or topic"
	case about.Topic == "":
		return fmt.Sprintf("called the room %q", about.Name)
	}
	return fmt.Sprintf("set name and topic of the room: %q; %s", about.Name, about.Topic)
}

func called(name string) string {
	if name == "" {
		return ""
	}
	return " who calls himself " + strconv.Quote(name)
}

// roomEvent says what happened in a room.
func (s names) roomEvent(id protocol.RoomID, e engine.Event) string {
	seq, err := strconv.ParseUint(e.Text, 10, 64)
	if err == nil {
		if entry, err := s.n.eng.RoomEntry(s.tx, id, seq); err == nil && entry.Op.Kind().String() == e.Cause {
			return s.entry(id, entry).Text
		}
	}
	switch e.Cause {
	case engine.RoomWasInvited:
		return s.inviter(id) + " invites you"
	case engine.RoomWasJoined:
		return "you are in the room"
	case engine.RoomWasLeft:
		return "you left the room"
	case engine.RoomWasRemoved:
		return "you were removed from the room"
	case engine.RoomWasUninvited:
		return "the invitation does not hold any more"
	case engine.RoomWasDeclined:
		return "you turned the invitation down"
	case engine.RoomGuestExpired:
		return "you are not in the room any more: come in again"
	case engine.RoomGuestAsked:
		return "the password of the room changed: come in again with the new one"
	case engine.RoomGuestNotLetIn:
		return "a guest could not come in: " + strings.ReplaceAll(e.Text, "_", " ")
	}
	return e.Text
}

func (s names) inviter(id protocol.RoomID) string {
	if r, err := s.n.eng.Room(s.tx, s.n.now(), id); err == nil && r.By != (protocol.AccountID{}) {
		return s.of(r.By)
	}
	return "somebody"
}
