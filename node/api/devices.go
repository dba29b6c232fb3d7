package api

import (
	"context"
	"iter"
	"net/url"
	"time"
)

// Device is one device of this account.
type Device struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	This    bool      `json:"this"` // the one that answers
	PeerID  string    `json:"peer_id"`
	Created time.Time `json:"created"`
	Until   time.Time `json:"until"`            // its certificate is renewed well before
	Online  *bool     `json:"online,omitempty"` // nil: unknown
}

// The stages of adding a device, in order.
const (
	AddCode  = "code"  // Code and Link are to be entered on the new device, until Expires
	AddAsked = "asked" // the new device entered the code; Words are to be compared there, then answer
	AddDone  = "done"  // Device is part of the account
)

// AddStep is one stage of adding a device.
type AddStep struct {
	Stage   string     `json:"stage"`
	Code    string     `json:"code,omitempty"`
	Link    string     `json:"link,omitempty"` // the same with all that a new machine must know
	Expires *time.Time `json:"expires,omitempty"`
	ID      string     `json:"id,omitempty"` // what AddAnswer names
	Name    string     `json:"name,omitempty"`
	Words   string     `json:"words,omitempty"`
	History bool       `json:"history,omitempty"` // the new device asks for past messages
	Device  *Device    `json:"device,omitempty"`
}

// Requests about devices.
type (
	AddAnswer struct {
		ID      string `json:"id"`
		Accept  bool   `json:"accept"`
		History bool   `json:"history"` // give past messages too, if they were asked for
	}
	RenameRequest struct {
		Name string `json:"name"`
	}
	RevokeRequest struct {
		Reason string `json:"reason,omitempty"` // retired, lost or compromised; empty: lost
	}
)

// Devices lists the devices of this account, the oldest first.
func (c *Client) Devices(ctx context.Context) (all []Device, err error) {
	return all, c.call(ctx, "GET", "/v1/devices", nil, &all)
}

// AddDevice begins to add a device and yields each stage as it is reached.
// Ending the loop early gives up.
func (c *Client) AddDevice(ctx context.Context) iter.Seq2[AddStep, error] {
	return stream[AddStep](ctx, c, "/v1/devices/add")
}

// AnswerDevice says whether the device that AddAsked told of may be added.
func (c *Client) AnswerDevice(ctx context.Context, a AddAnswer) error {
	return c.call(ctx, "POST", "/v1/devices/add/answer", a, nil)
}

// RenameDevice and RevokeDevice find the device by its name, or by its id or
// the beginning of it.
func (c *Client) RenameDevice(ctx context.Context, device, name string) (d Device, err error) {
	return d, c.call(ctx, "POST", "/v1/devices/"+url.PathEscape(device)+"/rename", RenameRequest{name}, &d)
}

func (c *Client) RevokeDevice(ctx context.Context, device, reason string) (d Device, err error) {
	return d, c.call(ctx, "POST", "/v1/devices/"+url.PathEscape(device)+"/revoke", RevokeRequest{reason}, &d)
}

// Burn destroys all keys of this device and revokes it. The node ends.
func (c *Client) Burn(ctx context.Context) (b Burned, err error) {
	return b, c.call(ctx, "POST", "/v1/burn", nil, &b)
}

// Burned says what Burn did.
type Burned struct {
	Destroyed bool   `json:"destroyed"` // the keys are gone
	Published bool   `json:"published"` // the rendezvous has the revocation
	Problem   string `json:"problem,omitempty"`
}
