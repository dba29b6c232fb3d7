package api

import (
	"context"
	"time"
)

// RoomGuests is how guests come into a room, as its members see it.
type RoomGuests struct {
	Room     string         `json:"room"`             // its id
	Open     bool           `json:"open"`             // who has the link and the password comes in
	Number   uint32         `json:"number,omitempty"` // of the password; 0: there was none yet
	Link     string         `json:"link,omitempty"`   // while open
	Door     bool           `json:"door"`             // this device lets guests in
	Guests   []RoomMember   `json:"guests"`
	Attempts []GuestAttempt `json:"attempts"` // at this device, newest last
}

// GuestAttempt is how attempts from one place to come in as a guest ended.
type GuestAttempt struct {
	Cause string    `json:"cause"` // ok, wrong_password, rate_limited, room_locked, banned, room_full, ...
	Place string    `json:"place"` // the same for one address, which it does not tell
	Count int       `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// GuestsRequest changes how guests come into a room. Without a password no more do.
type GuestsRequest struct {
	Password string `json:"password,omitempty"`
	AskAgain bool   `json:"ask_again,omitempty"` // guests who are in are out until they enter the new one; else they stay
}

// RoomGuests returns how guests come into a room.
func (c *Client) RoomGuests(ctx context.Context, room string) (g RoomGuests, err error) {
	return g, c.call(ctx, "GET", roomPath(room, "/guests"), nil, &g)
}

// SetRoomGuests changes how guests come into a room.
func (c *Client) SetRoomGuests(ctx context.Context, room string, r GuestsRequest) (g RoomGuests, err error) {
	return g, c.call(ctx, "POST", roomPath(room, "/guests"), r, &g)
}

// What a guest is to its room.
const (
	GuestIn     = "in"
	GuestKnocks = "knocks" // not in, or not any more: it may come back by itself
	GuestLeft   = "left"   // by its own will
	GuestOut    = "out"    // removed or banned
)

// Guest is how the guest whose node this is stands.
type Guest struct {
	Room  string `json:"room"` // id
	Name  string `json:"name"`
	Stage string `json:"stage"`
	Text  string `json:"text,omitempty"` // a sentence for people: why it is not in
}

// Guest returns how the guest stands; ErrNotFound of the node of an account.
func (c *Client) Guest(ctx context.Context) (g Guest, err error) {
	return g, c.call(ctx, "GET", "/v1/guest", nil, &g)
}
