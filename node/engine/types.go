package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
)

// Path is how an envelope travelled.
type Path uint8

const (
	PathUnknown Path = iota
	Direct
	HolePunched
	Relayed
	Mailbox
)

var pathNames = [...]string{"", "direct", "hole-punched", "relayed", "mailbox"}

func (p Path) String() string {
	if int(p) < len(pathNames) {
		return pathNames[p]
	}
	return ""
}

// State is the state of a message. Own messages go from queued to read, never
// back; failed is final and follows only queued or stored.
type State string

const (
	StateQueued    State = "queued"    // durable here
	StateStored    State = "stored"    // durable in the recipient's mailbox
	StateDelivered State = "delivered" // durable on a device of the recipient
	StateRead      State = "read"      // seen by a person
	StateFailed    State = "failed"    // given up; see Message.Problem
	StateReceived  State = "received"  // somebody else's message
	StateHole      State = "hole"      // somebody else's message that is known to exist and has not come
)

func (s State) String() string { return string(s) }

// Relation is what an account is to us.
type Relation string

const (
	Stranger  Relation = ""          // unknown, declined or removed
	Requested Relation = "requested" // we asked, they have not answered
	Incoming  Relation = "incoming"  // they asked, we have not answered
	Accepted  Relation = "accepted"
	Blocked   Relation = "blocked"
	Self      Relation = "self" // the own account, whose devices are the other ones; never shown as a contact
)

func (r Relation) String() string { return string(r) }

// Kind says what an event is about.
type Kind string

const (
	KindMessage       Kind = "message"       // a new row of a conversation, or one that filled a hole
	KindState         Kind = "state"         // an own message changed its state
	KindRequest       Kind = "request"       // somebody asked to be a contact
	KindAccepted      Kind = "accepted"      // somebody we asked accepted
	KindContact       Kind = "contact"       // something else about a contact changed
	KindUndecryptable Kind = "undecryptable" // an envelope could not be opened; Cause says why
	KindNotice        Kind = "notice"        // something the user should know; Cause is its code
	KindRoom          Kind = "room"          // a room changed; With is its Conversation, Cause says what. For an entry that is the name of its kind, and Text its number
	KindChanged       Kind = "changed"       // a message, or how long those of a conversation last, was changed; Cause says how, By who did it
)

func (k Kind) String() string { return string(k) }

// Causes of KindUndecryptable events.
const (
	CauseUnknownSession = "unknown_session" // no session of this id
	CauseBadTag         = "bad_tag"         // forged, damaged, or one side lost its state
	CauseReplay         = "replay"          // its keys were used before, and not for this very envelope as far as we know
	CauseExpiredPrekey  = "expired_prekey"  // sealed to a prekey that is gone
	CauseSkippedTooFar  = "skipped_too_far" // too many messages are missing before it
	CauseMalformed      = "malformed"       // not an envelope, or not a content inside
	CauseUnknownSender  = "unknown_sender"  // the claimed account does not certify the sending device
)

// Causes of KindChanged events.
const (
	CauseReaction = "reaction" // the message tells which By has now
	CauseEdited   = "edited"
	CauseDeleted  = "deleted"
	CausePinned   = "pinned"
	CauseUnpinned = "unpinned"
	CauseGone     = "gone"  // its time is over, or the user deleted it here; there is no message any more
	CauseTimer    = "timer" // Text is how long new messages last, as time.Duration writes it
	CauseQuiet    = "quiet" // whether there are notifications
	CauseFile     = "file"  // Text is the FileState that the file of the message came to here, or, By somebody else, the FileAnswer
)

// Causes of KindRoom events, besides the names of the kinds of entries.
const (
	RoomWasInvited  = "invited"  // a contact invites us
	RoomWasJoined   = "joined"   // we are in
	RoomWasLeft     = "left"     // by our own account
	RoomWasRemoved  = "removed"  // by another
	RoomWasDeclined = "declined" // the invitation, by us

	RoomWasUninvited = "uninvited" // the invitation does not hold any more
	RoomNotDone      = "not_done"  // an entry of ours was given up; Text says why
	RoomBadLog       = "bad_log"   // the log that the rendezvous shows does not verify
	RoomWithheld     = "withheld"  // the rendezvous does not serve a room that we are in
	RoomWasForked    = "fork"      // members were shown different logs, or one says so
	RoomWasMerged    = "merged"    // our log was given up for another, by a merge

	RoomGuestExpired  = "expired"       // we are out as a guest, most often since we were away for long
	RoomGuestAsked    = "asked_again"   // as a guest we are out until we know the new password
	RoomGuestNotLetIn = "guest_attempt" // a guest could not come in at this device; Text is the code of why
)

// Codes of KindNotice events.
const (
	NoticeNameSwapped    = "name_swapped"    // the directory binds a known name or account to another
	NoticeChainFork      = "chain_fork"      // the directory shows another history of an account
	NoticeBadAnswer      = "bad_answer"      // the directory's answer does not verify
	NoticeUnproven       = "unproven"        // the directory does not prove that its log says what it answers
	NoticeLogChanged     = "log_changed"     // the directory shows another log than before: it may show others other keys
	NoticeWithheld       = "withheld"        // the directory answers with less than its log says
	NoticeFalseEntry     = "false_entry"     // the directory's log says of this account, or of a contact, what is not so
	NoticeLogStale       = "log_stale"       // the directory's log is not of this hour
	NoticeBadBundle      = "bad_bundle"      // the keys served for a device do not verify; nothing was sealed to them
	NoticeKeysRefused    = "keys_refused"    // a contact's device refuses one new session after the other
	NoticePrekeyConflict = "prekey_conflict" // the rendezvous has other keys under our prekey ids
	NoticePrekeyReset    = "prekey_reset"    // the rendezvous had another stock than ours; it was replaced
	NoticeDeviceAdded    = "device_added"    // a contact, or this account, has a new device
	NoticeDeviceRevoked  = "device_revoked"  // a device of a contact, or of this account, was revoked
	NoticeNoDevice       = "no_device"       // a contact's account has no device left
	NoticeRecovered      = "recovered"       // a contact's account was recovered: all its devices are new
	NoticePast           = "history_shared"  // another device of ours has sent all its history
	NoticeRepaired       = "repaired"        // a session was replaced because messages did not open
	NoticeRevoked        = "revoked"         // this device was revoked, or its account closed
	NoticeReborn         = "reborn"          // this device became a new one, since its store was copied or set back
	NoticeChainReturned  = "chain_returned"  // the rendezvous had lost statements of this account and got them back
	NoticeNoAccountKey   = "no_account_key"  // the account key in force did not come to this device

	NoticeCompareOffered  = "compare_offered"  // a contact wants to compare emoji
	NoticeComparePictures = "compare_pictures" // there are emoji to compare
	NoticeCompareMatched  = "compare_matched"  // both see the same: the contact is verified
	NoticeCompareDiffers  = "compare_differs"  // they do not: somebody may be in between
	NoticeCompareEnded    = "compare_ended"    // comparing ended without a result
	NoticeCompareFailed   = "compare_failed"   // the other device cheats, or somebody in between
)

// Message is one row of a conversation.
type Message struct {
	ID       protocol.MsgID     // zero in a hole
	With     protocol.AccountID // or the Conversation of a room
	Device   protocol.DeviceID  // of the author
	Position uint64             // 1, 2, 3 ... in the conversation, in the order shown
	Mine     bool
	Text     string
	Sent     time.Time // by the author's clock; never trusted for order
	Recorded time.Time // by ours, when it became durable here
	State    State
	Via      Path
	Problem  string
	Late     bool // came after later ones had been shown

	ReplyTo   Ref // zero: it answers none; that may be a message that is not here
	Mentions  []protocol.AccountID
	Reactions []Reaction // in the order of the accounts
	Edited    time.Time  // by the author's clock; zero: never
	Deleted   bool       // for everyone; the text is destroyed
	Pinned    bool
	Lasts     time.Duration // how long it lasts once it was read, or written; 0: for ever
	Expires   time.Time     // when it disappears; zero: not known yet, or never
	File      *File         // nil: it carries none
}

// Ref names a message of a conversation.
type Ref struct {
	Author protocol.AccountID
	ID     protocol.MsgID
}

// IsZero tells that r names no message.
func (r Ref) IsZero() bool { return r == Ref{} }

// Reaction is the emoji with which somebody reacts to a message.
type Reaction struct {
	By    protocol.AccountID
	Emoji string
}

// Event is one thing that happened. Seq grows by one.
type Event struct {
	Seq     uint64
	Time    time.Time
	Kind    Kind
	With    protocol.AccountID // zero: none
	Message *Message           // as it is now, not as it was then; nil: none
	Cause   string
	Text    string
	By      protocol.AccountID // of KindChanged
	Quiet   bool               // the user wants no notification of it
}

// Step is one stage of an own message's way.
type Step struct {
	Time   time.Time
	What   string // queued, waiting, lookup, direct, hole-punched, relayed, mailbox, delivered, read, failed, repaired
	Detail string
}

// Contact is what is known about an account.
type Contact struct {
	Account  protocol.AccountID
	Name     string // unique; pinned to the account for ever
	Display  string // chosen by them, cleaned
	Note     string // of their request
	Relation Relation
	Verified bool
	Held     bool           // verified, and their account was recovered since: nothing is sent until the user looked
	Since    time.Time      // of the relation
	Checked  time.Time      // when the directory last confirmed their keys
	Devices  []account.Cert // valid at the last check
	Unread   int
	Queued   int // own messages not yet durable elsewhere
}

// PeerInfo names one device of an account by the identity it has in libp2p.
type PeerInfo struct {
	Account protocol.AccountID
	Device  protocol.DeviceID
	PeerID  []byte
}

// Queued is one envelope to be sent. The bytes are the same in every retry.
type Queued struct {
	N        uint64 // cursor: grows with the order of sealing
	To       protocol.DeviceID
	Account  protocol.AccountID
	ID       protocol.EnvelopeID
	Envelope []byte
	Kind     wire.MailKind
	Since    time.Time
}

// Hint says what changed, so that the caller looks there. It never says what
// to: that is read from the store. A lost hint costs time, no data.
type Hint struct {
	Outbox   []protocol.DeviceID  // have envelopes to be sent: see Queue
	Lookup   []protocol.AccountID // look up with prekeys, then SetAccount or LookupFailed
	Refresh  []protocol.AccountID // look up without prekeys, then the same
	Contacts bool                 // the allow list changed: see AllowList
	Prekeys  bool                 // see PrekeyPlan
	NewRSA   bool                 // make an RSA key, then AddRSA
	Events   bool                 // see Events
	Tick     bool                 // Tick may be due earlier than it last said
	Chain    bool                 // certificates are to be renewed: see Renew
	Log      bool                 // the directory's log is to be read: see LogQuestion
	Revoked  bool                 // this device is none any more: see Retire
	Files    bool                 // see FilesToFetch, FilesToStore and FileEnds, and whether files that are being fetched still are wanted
	Rooms    []protocol.RoomID    // are to be read, or have something to be sent: see RoomPlan
}

// Merge adds what o says.
func (h *Hint) Merge(o Hint) {
	for _, d := range o.Outbox {
		h.outbox(d)
	}
	h.Lookup = addOnce(h.Lookup, o.Lookup...)
	h.Refresh = addOnce(h.Refresh, o.Refresh...)
	h.Contacts = h.Contacts || o.Contacts
	h.Prekeys = h.Prekeys || o.Prekeys
	h.NewRSA = h.NewRSA || o.NewRSA
	h.Events = h.Events || o.Events
	h.Tick = h.Tick || o.Tick
	h.Chain = h.Chain || o.Chain
	h.Log = h.Log || o.Log
	h.Revoked = h.Revoked || o.Revoked
	h.Files = h.Files || o.Files
	h.Rooms = addOnce(h.Rooms, o.Rooms...)
}

func (h *Hint) outbox(d protocol.DeviceID) { h.Outbox = addOnce(h.Outbox, d) }

func addOnce[T comparable](list []T, items ...T) []T {
next:
	for _, item := range items {
		for _, have := range list {
			if have == item {
				continue next
			}
		}
		list = append(list, item)
	}
	return list
}
