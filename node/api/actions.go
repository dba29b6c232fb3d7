package api

import (
	"context"
	"net/url"
	"time"
)

// Quote is the message that another one answers, as it is now.
type Quote struct {
	ID   string `json:"id"`
	From string `json:"from"`           // its author
	Text string `json:"text,omitempty"` // the beginning of its first line; empty if it is deleted, or not here
}

// Reaction is the emoji with which somebody reacts to a message.
type Reaction struct {
	Emoji string `json:"emoji"`
	From  string `json:"from"`
	Mine  bool   `json:"mine,omitempty"`
}

// What can be done to a message with ChangeMessage, and which fields of MessageRequest
// that takes. Who may do it is in SPEC "Actions".
const (
	MessageReact  = "react"  // Emoji; empty: taken back
	MessageEdit   = "edit"   // Text
	MessageDelete = "delete" // ForMe: only on the own devices
	MessagePin    = "pin"    //
	MessageUnpin  = "unpin"  //
)

// Causes of events of kind changed.
const (
	CauseReaction = "reaction"
	CauseEdited   = "edited"
	CauseDeleted  = "deleted"
	CausePinned   = "pinned"
	CauseUnpinned = "unpinned"
	CauseGone     = "gone" // its time is over, or the user deleted it on a device of his: there is no message any more
	CauseTimer    = "timer"
	CauseQuiet    = "quiet"
)

// Conversation is what is set for the conversation with a contact, or of a room.
type Conversation struct {
	With       string     `json:"with"`
	Lasts      int64      `json:"lasts_s"`               // how long new messages last, in seconds; 0: for ever
	QuietUntil *time.Time `json:"quiet_until,omitempty"` // no notifications before this
}

type (
	MessageRequest struct {
		Emoji string `json:"emoji,omitempty"`
		Text  string `json:"text,omitempty"`
		ForMe bool   `json:"for_me,omitempty"`
	}
	TimerRequest struct {
		With  string `json:"with"`
		Lasts int64  `json:"lasts_s"` // 0: off
	}
	MuteRequest struct {
		With  string     `json:"with"`
		Until *time.Time `json:"until,omitempty"` // nil: there are notifications again
	}
)

// ChangeMessage does one of the things there are to do to a message, and returns what
// it is then; an empty Message if it is gone. Id is its id, or at least 6 characters that
// only its id begins with.
func (c *Client) ChangeMessage(ctx context.Context, id, verb string, r MessageRequest) (m Message, err error) {
	return m, c.call(ctx, "POST", "/v1/messages/"+url.PathEscape(id)+"/"+url.PathEscape(verb), r, &m)
}

// Pinned returns the pinned messages of a conversation, oldest first.
func (c *Client) Pinned(ctx context.Context, with string) (list []Message, err error) {
	return list, c.call(ctx, "GET", "/v1/conversations/pinned?"+url.Values{"with": {with}}.Encode(), nil, &list)
}

// Conversation returns what is set for a conversation.
func (c *Client) Conversation(ctx context.Context, with string) (s Conversation, err error) {
	return s, c.call(ctx, "GET", "/v1/conversations/settings?"+url.Values{"with": {with}}.Encode(), nil, &s)
}

// SetTimer sets how long new messages of a conversation last, for all who are in it.
func (c *Client) SetTimer(ctx context.Context, r TimerRequest) (s Conversation, err error) {
	return s, c.call(ctx, "POST", "/v1/conversations/timer", r, &s)
}

// Mute puts off notifications of a conversation on all devices of the account, or brings
// them back.
func (c *Client) Mute(ctx context.Context, r MuteRequest) (s Conversation, err error) {
	return s, c.call(ctx, "POST", "/v1/conversations/mute", r, &s)
}
