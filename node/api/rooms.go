package api

import (
	"context"
	"net/url"
	"strconv"
	"time"
)

// What a room is to this account.
const (
	RoomInvited = "invited" // a contact invited us: RoomJoin, or RoomLeave to turn it down
	RoomJoining = "joining" // by a link, as soon as the rendezvous has let us in
	RoomJoined  = "joined"
	RoomOut     = "out" // left, turned down, or removed; the history stays
)

// Room is a room that this account is or was in, or is invited to. Wherever the API
// takes a contact's name for a conversation, # and the name of a room, its id, or at
// least 6 characters that only its id begins with, stand for the room.
type Room struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"` // not unique; empty until the room's keys are here
	Topic    string    `json:"topic,omitempty"`
	Stage    string    `json:"stage"`
	By       string    `json:"by,omitempty"`        // who invited us
	HomePeer string    `json:"home_peer,omitempty"` // peer id of the room's rendezvous, if it is not ours
	Role     string    `json:"role,omitempty"`      // ours: owner, moderator, member, guest
	Rights   []string  `json:"rights"`              // ours, by the names that RoomRights takes
	Members  int       `json:"members"`             // with the guests
	Guests   int       `json:"guests"`
	Locked   bool      `json:"locked"` // nobody comes in
	Forked   bool      `json:"forked"` // members were shown different logs: nothing is sent until KeepRoomLog
	Unread   int       `json:"unread"`
	Queued   int       `json:"queued"`            // own messages that are not in the room's mailbox yet
	Pending  int       `json:"pending"`           // own changes that the room's rendezvous has not taken yet
	Since    time.Time `json:"since"`             // of the stage
	Problem  string    `json:"problem,omitempty"` // why the rendezvous does not serve the room
}

// RoomMember is somebody in a room, or invited to it.
type RoomMember struct {
	Name    string     `json:"name"`    // a contact's; else ~ and the name chosen in the room, which proves nothing; else the beginning of the account id
	Account string     `json:"account"` // its id
	Role    string     `json:"role"`    // owner, moderator, member, guest; invited: not in the room yet
	Rights  []string   `json:"rights"`
	Self    bool       `json:"self"`
	Guest   bool       `json:"guest"`
	Expires *time.Time `json:"expires,omitempty"` // of a guest, who is renewed long before
	Online  *bool      `json:"online,omitempty"`  // nil: unknown
	Muted   bool       `json:"muted"`
	Joined  uint64     `json:"joined,omitempty"` // number of the entry of the room's log by which it came in
	By      string     `json:"by,omitempty"`     // of somebody invited: by whom
}

// RoomEntry is one thing that somebody did in a room.
type RoomEntry struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"` // by the author's clock
	By   string    `json:"by"`
	What string    `json:"what"`          // kind of the entry: create, invite, join, leave, remove, ban, role, ...
	Who  string    `json:"who,omitempty"` // whom it concerns
	Text string    `json:"text"`          // a sentence for people
}

// What can be done in a room with ChangeRoom, and which fields of RoomRequest that
// takes. What needs the room's rendezvous is done when it is reached: see
// Room.Pending, and the events of kind room.
const (
	RoomInvite   = "invite"   // Who: a contact
	RoomUninvite = "uninvite" // Who
	RoomJoin     = "join"     // of rooms of one name that which the account is invited to
	RoomLeave    = "leave"    // also turns an invitation down
	RoomPromote  = "promote"  // Who: member to moderator, moderator to owner
	RoomDemote   = "demote"   // Who: owner to moderator, moderator to member; also oneself
	RoomMute     = "mute"     // Who
	RoomUnmute   = "unmute"   // Who
	RoomRights   = "rights"   // Who, or Role for all of it; Add, Remove
	RoomKick     = "kick"     // Who
	RoomBan      = "ban"      // Who
	RoomUnban    = "unban"    // Who: also lets come back who was kicked
	RoomTopic    = "topic"    // Text
	RoomRename   = "rename"   // Text
	RoomLock     = "lock"     // On
	RoomRotate   = "rotate"   // new keys for what is written from now on
)

// Requests about rooms. Who is a contact's name, a name as in RoomMember, an account id
// or at least 6 characters that only one id in the room begins with.
type (
	CreateRoomRequest struct {
		Name  string `json:"name"`
		Topic string `json:"topic,omitempty"`
	}
	RoomRequest struct {
		Who    string   `json:"who,omitempty"`
		Role   string   `json:"role,omitempty"`   // moderator, member, guest
		Add    []string `json:"add,omitempty"`    // read, send, files, react, admit, kick, set_rights, rename
		Remove []string `json:"remove,omitempty"` // the same
		Text   string   `json:"text,omitempty"`
		On     bool     `json:"on,omitempty"`
	}
)

// Rooms returns all rooms, those over included.
func (c *Client) Rooms(ctx context.Context) (all []Room, err error) {
	return all, c.call(ctx, "GET", "/v1/rooms", nil, &all)
}

// Room returns one room by its name, its id or the beginning of that.
func (c *Client) Room(ctx context.Context, room string) (r Room, err error) {
	return r, c.call(ctx, "GET", roomPath(room, ""), nil, &r)
}

// CreateRoom makes a room with this account as its owner. ErrConflict if it is in one
// of that name already.
func (c *Client) CreateRoom(ctx context.Context, r CreateRoomRequest) (made Room, err error) {
	return made, c.call(ctx, "POST", "/v1/rooms", r, &made)
}

// ChangeRoom does one of the things there are to do in a room, and returns what the
// room is then.
func (c *Client) ChangeRoom(ctx context.Context, room, verb string, r RoomRequest) (now Room, err error) {
	return now, c.call(ctx, "POST", roomPath(room, "/"+url.PathEscape(verb)), r, &now)
}

// RoomMembers returns who is in a room, highest role first, then who is invited.
func (c *Client) RoomMembers(ctx context.Context, room string) (all []RoomMember, err error) {
	return all, c.call(ctx, "GET", roomPath(room, "/members"), nil, &all)
}

// RoomMember returns whom ChangeRoom takes who for, as what waits for the rendezvous
// will leave them. ErrConflict if several are called so.
func (c *Client) RoomMember(ctx context.Context, room, who string) (m RoomMember, err error) {
	return m, c.call(ctx, "GET", roomPath(room, "/members/"+url.PathEscape(who)), nil, &m)
}

// MaxRoomLog is how many entries one call of RoomLog returns at most.
const MaxRoomLog = 200

// RoomLog returns up to limit entries of a room's log, ascending: those before a
// number, or the newest if before is 0.
func (c *Client) RoomLog(ctx context.Context, room string, before uint64, limit int) (page []RoomEntry, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if before > 0 {
		q.Set("before", strconv.FormatUint(before, 10))
	}
	return page, c.call(ctx, "GET", roomPath(room, "/log?"+q.Encode()), nil, &page)
}

func roomPath(room, what string) string { return "/v1/rooms/" + url.PathEscape(room) + what }
