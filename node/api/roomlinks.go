package api

import (
	"context"
	"net/url"
	"time"
)

// RoomLink is a link into a room: who has it can join, whoever is online.
type RoomLink struct {
	ID      string    `json:"id"`             // the beginning of it names the link within its room
	Link    string    `json:"link,omitempty"` // a secret; only on the device that made it
	By      string    `json:"by"`
	Uses    int       `json:"uses"` // that are left
	Expires time.Time `json:"expires"`
	Pending bool      `json:"pending"` // the rendezvous has not got it yet: nobody comes in by it
}

// RoomLinkRequest says what a link is to be good for. Zero: one use, 7 days.
type RoomLinkRequest struct {
	Uses int   `json:"uses,omitempty"`
	TTLs int64 `json:"ttl_s,omitempty"` // seconds
}

// JoinLinkRequest has the link of a room that the account wants to join.
type JoinLinkRequest struct {
	Link string `json:"link"`
}

// RoomLinks returns the links into a room that can still be used.
func (c *Client) RoomLinks(ctx context.Context, room string) (all []RoomLink, err error) {
	return all, c.call(ctx, "GET", roomPath(room, "/links"), nil, &all)
}

// MakeRoomLink makes a link by which others join a room.
func (c *Client) MakeRoomLink(ctx context.Context, room string, r RoomLinkRequest) (l RoomLink, err error) {
	return l, c.call(ctx, "POST", roomPath(room, "/links"), r, &l)
}

// EndRoomLink takes a link back. Who came in by it stays.
func (c *Client) EndRoomLink(ctx context.Context, room, id string) (l RoomLink, err error) {
	return l, c.call(ctx, "POST", roomPath(room, "/links/"+url.PathEscape(id)+"/end"), nil, &l)
}

// JoinRoomByLink joins a room by a link, and returns what the room is then: joining,
// unless the rendezvous was quick.
func (c *Client) JoinRoomByLink(ctx context.Context, link string) (now Room, err error) {
	return now, c.call(ctx, "POST", "/v1/rooms/join", JoinLinkRequest{Link: link}, &now)
}
