package protocol

import (
	"errors"
	"fmt"
	"time"
)

// Code says on the wire why something was refused. Codes are append-only:
// never renumber, never reuse. Each has one automatic action of the client,
// given in SPEC "Codes".
type Code uint32

const (
	OK                 Code = 0
	BadRequest         Code = 1  // malformed; never retried
	Internal           Code = 2  // the server's fault; retry with backoff
	Unavailable        Code = 3  // cannot commit now (disk full, store away); retry after RetryAfter
	Draining           Code = 4  // shutting down; reconnect after RetryAfter
	RateLimited        Code = 5  // retry after RetryAfter
	TooLarge           Code = 6  // over an announced limit; never retried
	UnsupportedVersion Code = 7  // no common protocol version; tell the user to update
	NotMember          Code = 8  // the connection's key belongs to no registered device
	InviteInvalid      Code = 10 // no such invite
	InviteExpired      Code = 11
	InviteUsed         Code = 12
	NameTaken          Code = 13
	NameInvalid        Code = 14
	DeviceExists       Code = 15 // this device id is bound to other bytes
	AccountExists      Code = 16 // this account is registered under another name
	ChainConflict      Code = 17 // the stored chain is not part of this one: fetch it, redo the change
	NotOwner           Code = 18 // the signer is not the account's present key
	UnknownAccount     Code = 20
	UnknownDevice      Code = 21
	NotContact         Code = 22 // the recipient has not accepted the sender
	MailboxFull        Code = 23 // the recipient's quota
	SenderFull         Code = 24 // the sender's quota of stored mail
	RequestPending     Code = 25 // a contact request of this sender already waits there
	KeyConflict        Code = 30 // ids of the batch that are bound to other keys
	StockFull          Code = 31 // the device's published stock is at its cap
	BadSignature       Code = 32
	DeviceCloned       Code = 33 // another store uses this device's keys
	StoreRolledBack    Code = 34 // the store's counter went backwards
	StaleKey           Code = 35 // the envelope was sealed to a key that is gone
	Revoked            Code = 36
	Replaced           Code = 37 // a newer connection of this device took over
	HelloFirst         Code = 38 // no hello of this device was welcomed on this connection
	Undecryptable      Code = 40 // the receiving device could not open an envelope; it repairs
	PairingOver        Code = 50 // no such slot: never was, used, or too old
	TokenInvalid       Code = 51 // not a token that this service takes
	TokenExpired       Code = 52
	RoomMoved          Code = 60 // the entry does not follow the room's log: another was first
	UnknownRoom        Code = 61 // no such room, or none of the caller's: both look alike
	RoomFull           Code = 62 // a limit of the room
	StaleEpoch         Code = 63 // the room's log has another epoch in force
	RoomLocked         Code = 64
	Banned             Code = 65 // removed from the room, or banned
	WrongPassword      Code = 66 // of a room
	TicketExpired      Code = 67 // a guest has to knock again
	NobodyAdmits       Code = 68 // nobody who may let guests in is there, or there is no such room
	UnknownFile        Code = 70 // no such file, or not for the caller: both look alike
	FileChanged        Code = 71 // the source's file is not what it was when it was sent
	BlobFull           Code = 72 // the quota of stored files: the sender's, or the disk's
	FileCancelled      Code = 73 // who sent the file does not give it any more
)

var codeNames = map[Code]string{
	OK: "ok", BadRequest: "bad_request", Internal: "internal", Unavailable: "unavailable", Draining: "draining",
	RateLimited: "rate_limited", TooLarge: "too_large", UnsupportedVersion: "unsupported_version", NotMember: "not_member",
	InviteInvalid: "invite_invalid", InviteExpired: "invite_expired", InviteUsed: "invite_used",
	NameTaken: "name_taken", NameInvalid: "name_invalid", DeviceExists: "device_exists", AccountExists: "account_exists",
	ChainConflict: "chain_conflict", NotOwner: "not_owner",
	UnknownAccount: "unknown_account", UnknownDevice: "unknown_device", NotContact: "not_contact",
	MailboxFull: "mailbox_full", SenderFull: "sender_full", RequestPending: "request_pending",
	KeyConflict: "key_conflict", StockFull: "stock_full", BadSignature: "bad_signature",
	DeviceCloned: "device_cloned", StoreRolledBack: "store_rolled_back", StaleKey: "stale_key", Revoked: "revoked",
	Replaced: "replaced", HelloFirst: "hello_first", Undecryptable: "undecryptable",
	PairingOver: "pairing_over", TokenInvalid: "token_invalid", TokenExpired: "token_expired",
	RoomMoved: "room_moved", UnknownRoom: "unknown_room", RoomFull: "room_full", StaleEpoch: "stale_epoch",
	RoomLocked: "room_locked", Banned: "banned", WrongPassword: "wrong_password", TicketExpired: "ticket_expired",
	NobodyAdmits: "nobody_admits", UnknownFile: "unknown_file", FileChanged: "file_changed", BlobFull: "blob_full",
	FileCancelled: "file_cancelled",
}

func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return fmt.Sprintf("code_%d", uint32(c))
}

// Error is a refusal that crossed, or is about to cross, the wire. Detail is
// for people and never holds a secret.
type Error struct {
	Code       Code
	Detail     string
	RetryAfter time.Duration // zero: no advice
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Code.String()
	}
	return e.Code.String() + ": " + e.Detail
}

// Refuse makes a refusal.
func Refuse(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Detail: fmt.Sprintf(format, args...)}
}

// CodeOf tells the code of err: OK for nil, Internal for an error that is no
// refusal.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}
