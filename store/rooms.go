package store

import (
	"context"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// RoomMemory is how long Sweep remembers who left a room, and a room that nobody is in.
const RoomMemory = 7 * 24 * time.Hour

// Rooms keeps the logs of rooms, and the messages that were sent to them until they
// expire.
//
// Rules: an entry is appended only where the log ends, and never changed or removed;
// who is in a room changes in the transaction that appends the entry which says so; a
// message is stored once, for all, and has one cursor; the cursors of a room only grow;
// usage counters change in the same transaction as the messages; a room that nobody is in
// any more is deleted by Sweep after RoomMemory, with all that belongs to it.
type Rooms interface {
	// AppendRoom appends an entry, and notes a new room in the audit journal.
	// Refusals: RoomMoved for one whose number is not the next or whose Prev is not
	// the hash of the newest, also of the same entry again; RoomFull above
	// q.LogEntries or q.LogBytes; TooLarge for an account that made q.Made rooms, or that is in
	// q.Joined and comes into another.
	AppendRoom(ctx context.Context, e NewRoomEntry, q RoomQuotas) (RoomEntry, error)

	// RoomLog returns the entries from number from on, at most max and about maxBytes
	// of them (at least one, if there is any). A room that is not known has none.
	RoomLog(ctx context.Context, room protocol.RoomID, from uint64, max, maxBytes int) ([]RoomEntry, error)

	// Room tells how far a room is; UnknownRoom if there is none.
	Room(ctx context.Context, room protocol.RoomID) (Room, error)

	// RoomsOf returns the rooms that an account is in, by id.
	RoomsOf(ctx context.Context, account protocol.AccountID) ([]Room, error)

	// ShareRoom tells whether two accounts are in one room; with lately also whether
	// they were, each until it left and for RoomMemory after.
	ShareRoom(ctx context.Context, a, b protocol.AccountID, lately bool) (bool, error)

	// PutRoom stores messages in the order given and answers each by itself, in the
	// same order: OK with the cursor, also for one that is there; BadRequest for
	// another one with the same number of the same device; SenderFull; RoomFull.
	// UnknownRoom refuses the whole call. Messages that expired are not remembered.
	PutRoom(ctx context.Context, room protocol.RoomID, messages []NewRoomMessage, q RoomQuotas) ([]RoomPut, error)

	// RoomMail returns messages with a cursor > after in order of arrival, at most
	// max and about maxBytes of them (at least one, if there is any).
	RoomMail(ctx context.Context, room protocol.RoomID, after uint64, max, maxBytes int, now time.Time) ([]RoomMessage, error)

	// FillRoom returns those of the messages in the ranges, one range after the
	// other, that have a cursor > after; bounded like RoomMail.
	FillRoom(ctx context.Context, room protocol.RoomID, ranges []RoomRange, after uint64, max, maxBytes int, now time.Time) ([]RoomMessage, error)

	// RoomUsage tells what the messages that an account brought count in a room.
	RoomUsage(ctx context.Context, room protocol.RoomID, account protocol.AccountID) (Usage, error)
}

// Room says how far a room is.
type Room struct {
	ID       protocol.RoomID
	Seq      uint64   // of the newest entry
	Head     [32]byte // its hash
	LogBytes int
	Cursor   uint64 // of the newest message; 0: there never was one
	Mail     Usage
}

// NewRoomEntry is an entry that was found valid.
type NewRoomEntry struct {
	Room       protocol.RoomID
	Seq        uint64 // 0: a new room
	Prev, Hash [32]byte
	Author     protocol.AccountID
	Entry      []byte
	Came, Went []protocol.AccountID // by this entry: were not in the room, and were
	Left       []protocol.AccountID // of Went, who is remembered for RoomMemory
	Now        time.Time
}

// RoomEntry is an entry in its log.
type RoomEntry struct {
	Seq    uint64
	Cursor uint64 // of the newest message when it was appended
	Entry  []byte
}

// NewRoomMessage is a message on its way into a room.
type NewRoomMessage struct {
	Device  protocol.DeviceID  // that signed it
	Number  uint64             // that it has there
	By      protocol.AccountID // who brought it, and whose quota it uses
	Message []byte             // at most protocol.MaxEnvelope
	Expires time.Time          // about as long after the call for all messages
}

// RoomMessage is a message in a room.
type RoomMessage struct {
	Cursor  uint64
	Message []byte
	Expires time.Time
}

// RoomPut answers for one message.
type RoomPut struct {
	Code   protocol.Code
	Cursor uint64 // of OK
}

// RoomRange are messages of one device. First and Last belong to it.
type RoomRange struct {
	Device      protocol.DeviceID
	First, Last uint64
}

// RoomQuotas bound what rooms take. Zero means no limit.
type RoomQuotas struct {
	Made, Joined               int // rooms that an account made, and that it is in
	LogEntries, LogBytes       int // of one room
	Count, Bytes               int // messages of one room
	AccountCount, AccountBytes int // of them, those that one account brought
}
