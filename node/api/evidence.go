package api

import (
	"context"
	"time"
)

// Alarm is that the rendezvous's log of names and keys does not hold: different ones
// were shown, one was kept short, or it has a false entry.
// While one stands, nothing new is sent to contacts who are not verified.
type Alarm struct {
	N        int        `json:"n"` // 1, 2, 3 ... in the order of time
	At       time.Time  `json:"at"`
	Text     string     `json:"text"`
	Ended    *time.Time `json:"ended,omitempty"`    // when the user went on all the same, or a graver one came; nil: it stands
	Held     string     `json:"held,omitempty"`     // the head of the log that was known here, as it was signed,
	Shown    string     `json:"shown,omitempty"`    // and the one that does not fit it
	Evidence string     `json:"evidence,omitempty"` // a file that anybody can check; empty: it proves nothing to others
}

// Alarms returns all alarms, the oldest first.
func (c *Client) Alarms(ctx context.Context) (list []Alarm, err error) {
	return list, c.call(ctx, "GET", "/v1/evidence", nil, &list)
}

// AcceptRequest names the alarm that is accepted.
type AcceptRequest struct {
	N int `json:"n"`
}

// AcceptLog ends the alarm that stands, and returns it: the log that the
// rendezvous shows now is believed from now on. ErrNotFound if
// none stands, ErrConflict if it is another one by now.
func (c *Client) AcceptLog(ctx context.Context, r AcceptRequest) (a Alarm, err error) {
	return a, c.call(ctx, "POST", "/v1/evidence/accept", r, &a)
}
