// Package api is the one interface of every face of a node: the requests,
// answers and events of the local API, and a Go client for it. The command
// line, the terminal app and bots use this package and nothing below it; it
// imports neither the node nor its store nor libp2p.
//
// The API is HTTP with JSON over a unix socket in the data directory. Changes
// are additive only; V is the version every answer of the command line carries.
package api

import "time"

// V is the version of the JSON that faces print.
const V = 1

// State of an own message. It only ever moves forward, in this order; Failed
// is final and reached only from Queued or Stored.
type State string

const (
	Queued    State = "queued"    // durable here, on its way
	Stored    State = "stored"    // durable in the recipient's mailbox at the rendezvous
	Delivered State = "delivered" // durable on the recipient's device
	Read      State = "read"      // seen by a person
	Failed    State = "failed"    // given up; Message.Problem says why
	Received  State = "received"  // somebody else's message, durable here
	Hole      State = "hole"      // a message of theirs that is known to exist and has not come
)

// Path is how something travelled.
type Path string

const (
	Direct      Path = "direct"
	HolePunched Path = "hole-punched"
	Relayed     Path = "relayed"
	Mailbox     Path = "mailbox"
)

// Message is one row of a conversation.
type Message struct {
	ID       string    `json:"id,omitempty"`
	With     string    `json:"with"`           // the contact's unique name; # and its name for a room
	Room     string    `json:"room,omitempty"` // id of the room
	From     string    `json:"from,omitempty"` // in a room: the author, as in RoomMember
	Position uint64    `json:"position"`
	Mine     bool      `json:"mine"`
	Text     string    `json:"text"`
	Sent     time.Time `json:"sent"`     // by the author's clock
	Recorded time.Time `json:"recorded"` // by ours: when it became durable here
	State    State     `json:"state"`
	Path     Path      `json:"path,omitempty"` // how it came or went, once known
	Problem  string    `json:"problem,omitempty"`
	Late     bool      `json:"late,omitempty"` // filled a hole after others had been shown

	ReplyTo    *Quote     `json:"reply_to,omitempty"`
	Mentions   []string   `json:"mentions,omitempty"` // members of the room, as in From
	MentionsMe bool       `json:"mentions_me,omitempty"`
	Reactions  []Reaction `json:"reactions,omitempty"`
	Edited     *time.Time `json:"edited,omitempty"`  // by the author's clock
	Deleted    bool       `json:"deleted,omitempty"` // for everyone: there is no text any more
	Pinned     bool       `json:"pinned,omitempty"`
	Lasts      int64      `json:"lasts_s,omitempty"` // it disappears so many seconds after it was read, or, an own one, written
	Expires    *time.Time `json:"expires,omitempty"` // when that is, once known
	File       *File      `json:"file,omitempty"`
}

// Event is one thing that happened. Seq grows by one; a face that reconnects
// asks for what comes after the last it saw.
type Event struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`           // message, state, request, accepted, contact, undecryptable, notice, room, changed
	With    string    `json:"with,omitempty"` // as in Message
	Room    string    `json:"room,omitempty"` // id of the room
	Message *Message  `json:"message,omitempty"`
	Cause   string    `json:"cause,omitempty"` // typed cause of undecryptable, the notice's code, or what happened in the room
	Text    string    `json:"text,omitempty"`  // a sentence for people
	By      string    `json:"by,omitempty"`    // of kind changed: who did it, as in From
	Mine    bool      `json:"mine,omitempty"`  // of kind changed: we did it, on whatever device
	Quiet   bool      `json:"quiet,omitempty"` // the user wants no notification of it: see Mute
}

// LastEvent is the number of the newest event; 0: there is none.
type LastEvent struct {
	Seq uint64 `json:"seq"`
}

// Contact relations.
const (
	Requested = "requested" // we asked, they have not answered
	Incoming  = "incoming"  // they asked, we have not answered
	Accepted  = "accepted"
	Blocked   = "blocked"
)

type Contact struct {
	Name     string `json:"name"`
	Display  string `json:"display,omitempty"`
	Account  string `json:"account"`
	Relation string `json:"relation"`
	Note     string `json:"note,omitempty"` // of their request
	Verified bool   `json:"verified"`
	// KeyChanged: their account was recovered since they were verified. Nothing
	// is sent until the user looked: verified them again, or accepted the change.
	KeyChanged bool       `json:"key_changed,omitempty"`
	Online     *bool      `json:"online,omitempty"` // nil: unknown
	Path       Path       `json:"path,omitempty"`   // of the live connection, if any
	Unread     int        `json:"unread"`
	Queued     int        `json:"queued"`
	Since      time.Time  `json:"since"`
	Checked    *time.Time `json:"checked,omitempty"` // when the directory last confirmed their keys
}

// Problem is something the user can act on.
type Problem struct {
	Text string `json:"text"`
	Fix  string `json:"fix"` // the command to type
}

type Status struct {
	Version      string    `json:"version"`
	PID          int       `json:"pid"`
	Name         string    `json:"name"`
	Display      string    `json:"display,omitempty"`
	Account      string    `json:"account"`
	Device       string    `json:"device"`
	PeerID       string    `json:"peer_id"`
	Dir          string    `json:"dir"`
	Since        time.Time `json:"since"`
	Listen       []string  `json:"listen"`
	Rendezvous   Link      `json:"rendezvous"`
	Relay        Link      `json:"relay"`
	Relays       []Link    `json:"relays,omitempty"` // besides the rendezvous; up: a contact can come through it
	Reachability string    `json:"reachability"`     // public, private, unknown
	LAN          bool      `json:"lan"`              // mDNS on
	Queued       int       `json:"queued"`           // envelopes not yet durable elsewhere
	Waiting      int       `json:"waiting"`          // messages waiting for a key look-up
	Prekeys      Prekeys   `json:"prekeys"`
	Contacts     []Contact `json:"contacts"`
	Problems     []Problem `json:"problems"`
}

type Link struct {
	Up      bool       `json:"up"`
	PeerID  string     `json:"peer_id,omitempty"`
	Path    string     `json:"path,omitempty"` // tcp, quic, ws
	Since   *time.Time `json:"since,omitempty"`
	Retry   *time.Time `json:"retry,omitempty"`
	Problem string     `json:"problem,omitempty"`
	RTTms   float64    `json:"rtt_ms,omitempty"`
	SkewMs  int64      `json:"skew_ms,omitempty"` // our clock minus theirs
}

type Prekeys struct {
	Published   int        `json:"published"` // one-time prekeys at the rendezvous, as it last said
	Cap         int        `json:"cap"`
	SignedSince *time.Time `json:"signed_since,omitempty"`
	LastUpload  *time.Time `json:"last_upload,omitempty"`
	LastProblem string     `json:"last_problem,omitempty"`
	Fallback    bool       `json:"fallback"` // somebody opened a session without a one-time prekey since the last rotation
}

type Step struct {
	Time   time.Time `json:"time"`
	What   string    `json:"what"` // queued, lookup, waiting, direct, hole-punched, relayed, mailbox, acknowledged, delivered, read, failed, repaired
	Detail string    `json:"detail,omitempty"`
}

type Trace struct {
	Message Message `json:"message"`
	Steps   []Step  `json:"steps"`
}

type Pong struct {
	N       int     `json:"n"`
	RTTms   float64 `json:"rtt_ms"`
	Path    Path    `json:"path,omitempty"`
	Addr    string  `json:"addr,omitempty"`
	Problem string  `json:"problem,omitempty"`
}

type Whoami struct {
	Name    string `json:"name"`
	Display string `json:"display,omitempty"`
	Account string `json:"account"`
	Device  string `json:"device"`
	PeerID  string `json:"peer_id"`
}

type Invite struct {
	Link    string    `json:"link"`
	Uses    int       `json:"uses"`
	Expires time.Time `json:"expires"`
}

// Requests.
type (
	SendRequest struct {
		ID   string `json:"id,omitempty"` // chosen by the caller so that a retry sends nothing twice; empty: made here
		To   string `json:"to"`
		Text string `json:"text"`
		// ReplyTo is the id of the message that this one answers, or at least 6
		// characters that only its id begins with. In a room, @ and a member's name
		// in the text mentions that member.
		ReplyTo string `json:"reply_to,omitempty"`
	}
	AddRequest struct {
		Name string `json:"name"`
		Note string `json:"note,omitempty"`
	}
	ReadRequest struct {
		With string `json:"with"`
		UpTo uint64 `json:"up_to"` // position
	}
	InviteRequest struct {
		Uses int   `json:"uses,omitempty"`
		TTLs int64 `json:"ttl_s,omitempty"`
	}
)

// Error codes of the local API. The command line maps them to exit codes.
const (
	ErrBadInput    = "bad_input"
	ErrNotFound    = "not_found"    // no such user, contact or message
	ErrNotAccepted = "not_accepted" // the contact has not accepted yet
	ErrConflict    = "conflict"
	ErrMismatch    = "mismatch" // somebody may be between us and the contact
	ErrOffline     = "offline"  // needs the rendezvous, which cannot be reached now
	ErrRefused     = "refused"  // the rendezvous refused; Text says why
	ErrFull        = "full"     // disk or quota
	ErrTimeout     = "timeout"
	ErrStopping    = "stopping" // the node goes down; a Client says ErrNotRunning
	ErrInternal    = "internal"
)

// Error is the body of every answer that is not 2xx.
type Error struct {
	Code string `json:"code"`
	Text string `json:"error"`
	Hint string `json:"hint,omitempty"` // what to type next
}

func (e *Error) Error() string { return e.Text }
