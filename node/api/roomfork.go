package api

import "context"

// RoomFork is a room of which its members were shown two logs.
type RoomFork struct {
	Stands   bool        `json:"stands"`    // nothing is sent until KeepRoomLog
	By       string      `json:"by"`        // has the other log, or says so
	Known    bool        `json:"known"`     // the other log is here; the rest is empty unless it is
	Common   uint64      `json:"common"`    // number of the last entry that both have
	Ours     []RoomEntry `json:"ours"`      // what follows here,
	Theirs   []RoomEntry `json:"theirs"`    // and there
	Evidence []byte      `json:"evidence"`  // both logs, signed: anybody can check them
	MayMerge bool        `json:"may_merge"` // what KeepRoomLog does counts for all: at once, or with another moderator's
}

// What goes on after a fork.
const (
	KeepOurs   = "ours"
	KeepTheirs = "theirs" // owners only
)

// KeepRequest says which log of a room goes on.
type KeepRequest struct {
	Keep string `json:"keep"`
}

// RoomFork returns what is known of a fork of a room.
func (c *Client) RoomFork(ctx context.Context, room string) (f RoomFork, err error) {
	return f, c.call(ctx, "GET", roomPath(room, "/fork"), nil, &f)
}

// KeepRoomLog goes on with one of two logs of a room: for all, if this account may merge
// them, else only here.
func (c *Client) KeepRoomLog(ctx context.Context, room string, r KeepRequest) (now Room, err error) {
	return now, c.call(ctx, "POST", roomPath(room, "/fork"), r, &now)
}
