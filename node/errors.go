package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/pairing"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/protocol/room/roomlink"
	"github.com/parley-chat/parley/store"
)

// told is what a face is told for the errors that its user can do
// something about.
var told = []struct {
	is   error
	code string
	hint string
}{
	{pairing.ErrWrongCode, api.ErrRefused, "the code is used up; get a new one: parley device add"},
	{ErrPairingEnded, api.ErrTimeout, "get a new code: parley device add"},
	{errAnotherAdded, api.ErrConflict, "finish it first, or wait five minutes"},
	{errOtherAlarm, api.ErrConflict, "parley evidence list"},
	{errNobodyAsks, api.ErrConflict, "get a new code: parley device add"},
	{account.ErrFull, api.ErrFull, "recover the account with your 24 words, in another folder: parley --dir NEW recover INVITE NAME"},
	{engine.ErrGuest, api.ErrRefused, "parley room, and parley send '#ROOM' TEXT, work; for the rest get an account: parley join INVITE"},
	{engine.ErrNotGuest, api.ErrNotFound, ""},
	{guest.ErrPassword, api.ErrBadInput, ""},
	{room.ErrStalePassword, api.ErrConflict, "somebody else changed it just now: look, and try again"},
	{engine.ErrNoAlarm, api.ErrNotFound, "parley evidence list"},
	{engine.ErrTooManyDevices, api.ErrConflict, "parley device revoke DEVICE"},
	{engine.ErrNoAccountKey, api.ErrConflict, "start your other devices; if that does not help, add this computer again: parley --dir NEW link CODE"},
	{engine.ErrSwapping, api.ErrConflict, "try again in a minute"},
	{engine.ErrRevoked, api.ErrRefused, "add this computer again, in another folder: parley --dir NEW link CODE"},
	{engine.ErrBadDeviceName, api.ErrBadInput, ""},
	{engine.ErrRecovered, api.ErrConflict, "parley verify NAME, or without comparing: parley verify NAME --accept"},
	{engine.ErrNoRoom, api.ErrNotFound, "parley room list"},
	{engine.ErrNotInRoom, api.ErrNotAccepted, "parley room list"},
	{engine.ErrRoomMute, api.ErrRefused, "ask a moderator of the room"},
	{engine.ErrRoomFork, api.ErrConflict, "parley room fork ROOM"},
	{engine.ErrRoomFiles, api.ErrRefused, "ask a moderator of the room"},
	{engine.ErrNoFile, api.ErrNotFound, "parley files NAME"},
	{engine.ErrFileHere, api.ErrConflict, "parley files NAME"},
	{engine.ErrFileState, api.ErrConflict, "parley files NAME"},
	{engine.ErrBadFile, api.ErrBadInput, ""},
	{transfer.ErrNotSendable, api.ErrBadInput, ""},
	{transfer.ErrTooLarge, api.ErrBadInput, "send it in several parts"},
	{transfer.ErrTooManyEntries, api.ErrBadInput, "send an archive of it"},
	{transfer.ErrDiskFull, api.ErrFull, "make room on the disk"},
	{file.ErrChanged, api.ErrConflict, "send it again when nobody writes to it"},
	{fs.ErrNotExist, api.ErrNotFound, "check the path"},
	{fs.ErrPermission, api.ErrRefused, "your node reads and writes files as the user who started it"},
	{engine.ErrGuestLink, api.ErrBadInput, "parley guest LINK"},
	{engine.ErrOtherHome, api.ErrBadInput, "join with an account of that rendezvous, in another folder: parley --dir NEW join INVITE"},
	{engine.ErrNoLink, api.ErrNotFound, "parley room links ROOM"},
	{engine.ErrNoAddress, api.ErrConflict, "parley status"},
	{roomlink.ErrNotLink, api.ErrBadInput, ""},
	{roomlink.ErrVersion, api.ErrBadInput, ""},
	{roomlink.ErrDamaged, api.ErrBadInput, ""},
	{engine.ErrNoFork, api.ErrNotFound, "nothing is to be decided, or the member who has the other log is not online yet"},
	{engine.ErrManyRooms, api.ErrFull, "parley room leave ROOM"},
	{room.ErrForbidden, api.ErrRefused, "ask a moderator of the room"},
	{room.ErrNoEffect, api.ErrConflict, ""},
	{room.ErrConflict, api.ErrConflict, "look again: parley room members ROOM"},
	{room.ErrNotMember, api.ErrNotFound, "parley room members ROOM"},
	{room.ErrNotInvited, api.ErrRefused, "ask a member to invite you"},
	{room.ErrBarred, api.ErrRefused, "a moderator can let them come back: parley room unban ROOM NAME"},
	{room.ErrLocked, api.ErrRefused, "a moderator opens it: parley room unlock ROOM"},
	{room.ErrFull, api.ErrFull, ""},
	{room.ErrLastOwner, api.ErrConflict, "make somebody else the owner first: parley room promote ROOM NAME"},
	{room.ErrMalformed, api.ErrBadInput, "names of rooms are 1 to 64 bytes without control characters, topics at most 512"},
	{engine.ErrMayNot, api.ErrRefused, "ask a moderator of the room"},
	{engine.ErrNotAuthor, api.ErrRefused, "delete it on your own devices: parley delete ID --for-me"},
	{engine.ErrTooLate, api.ErrRefused, "delete it on your own devices: parley delete ID --for-me"},
	{engine.ErrDeleted, api.ErrConflict, ""},
	{engine.ErrBadEmoji, api.ErrBadInput, "one emoji, such as 👍"},
	{engine.ErrBadTimer, api.ErrBadInput, "such as 1h or 7d, or off"},
	{engine.ErrNoComparison, api.ErrNotFound, "parley verify NAME --emoji"},
	{engine.ErrNotFound, api.ErrNotFound, "parley contacts"},
	{engine.ErrNotContact, api.ErrNotFound, "parley add NAME"},
	{engine.ErrNotAccepted, api.ErrNotAccepted, "wait for their answer: parley contacts"},
	{engine.ErrBlocked, api.ErrConflict, "parley unblock NAME"},
	{engine.ErrStaleDirectory, api.ErrOffline, "parley status"},
	{engine.ErrQueueFull, api.ErrFull, "parley status"},
	{engine.ErrTooMany, api.ErrFull, "parley remove NAME"},
	{engine.ErrConflict, api.ErrConflict, ""},
	{engine.ErrNoDevice, api.ErrConflict, "write again when they are back: parley recover brings an account back to its owner"},
	{engine.ErrSelf, api.ErrBadInput, ""},
	{engine.ErrTooLong, api.ErrBadInput, ""},
	{engine.ErrBadText, api.ErrBadInput, ""},
	{engine.ErrBadName, api.ErrBadInput, ""},
	{protocol.ErrBadID, api.ErrBadInput, ""},
	{engine.ErrNameSwapped, api.ErrRefused, "ask the person who runs the rendezvous"},
	{engine.ErrChainFork, api.ErrRefused, "ask the person who runs the rendezvous"},
	{engine.ErrBadAnswer, api.ErrRefused, "ask the person who runs the rendezvous"},
	{engine.ErrUnproven, api.ErrRefused, "ask the person who runs the rendezvous"},
	{engine.ErrWithheld, api.ErrRefused, "ask the person who runs the rendezvous"},
	{engine.ErrLogChanged, api.ErrRefused, "ask the person who runs the rendezvous, and your contacts, by another way than this"},
	{engine.ErrLogStale, api.ErrRefused, setClock},
	{engine.ErrLogMoved, api.ErrOffline, "try again"},
	{store.ErrFull, api.ErrFull, "make room on the disk"},
	{context.DeadlineExceeded, api.ErrTimeout, "parley status"},
	{context.Canceled, api.ErrTimeout, ""},
}

// answer turns an error into what the local API says; nil stays nil.
func answer(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return refusedAnswer(e)
	}
	if errors.Is(err, context.Canceled) { // the caller went away, or the node does
		return &api.Error{Code: api.ErrStopping, Text: "the node is stopping"}
	}
	if errors.Is(err, ErrOffline) { // status has the details
		return &api.Error{Code: api.ErrOffline, Text: ErrOffline.Error(), Hint: "parley status"}
	}
	for _, a := range told {
		if errors.Is(err, a.is) {
			return &api.Error{Code: a.code, Text: err.Error(), Hint: a.hint}
		}
	}
	return &api.Error{Code: api.ErrInternal, Text: err.Error()}
}

// refusedAnswer is for what the rendezvous refused.
func refusedAnswer(e *protocol.Error) *api.Error {
	switch e.Code {
	case protocol.UnknownAccount:
		return &api.Error{Code: api.ErrNotFound, Text: "nobody here has that name", Hint: "check the spelling with them"}
	case protocol.RateLimited, protocol.Unavailable, protocol.Draining:
		hint := ""
		if e.RetryAfter > 0 {
			hint = fmt.Sprintf("try again in %s", e.RetryAfter.Round(time.Second))
		}
		return &api.Error{Code: api.ErrRefused, Text: "the rendezvous refused: " + e.Error(), Hint: hint}
	case protocol.MailboxFull, protocol.SenderFull, protocol.StockFull:
		return &api.Error{Code: api.ErrFull, Text: "the rendezvous refused: " + e.Error()}
	default:
		return &api.Error{Code: api.ErrRefused, Text: "the rendezvous refused: " + e.Error()}
	}
}

// problemOf says for a user what is wrong with a file that lies here, or should.
func problemOf(err error) string {
	switch {
	case errors.Is(err, errChangedThere):
		return errChangedThere.Error()
	case errors.Is(err, file.ErrChanged):
		return "it has changed since it was sent"
	case errors.Is(err, fs.ErrNotExist):
		return "it is not there any more"
	case errors.Is(err, fs.ErrPermission):
		return "your node may not read or write it: that runs as the user who started it"
	case errors.Is(err, transfer.ErrDiskFull):
		return "there is not enough room on the disk: make room, and accept it again"
	case errors.Is(err, transfer.ErrNoName):
		return "there are too many files of this name in the folder: accept it into another"
	case errors.Is(err, file.ErrUnreadable):
		return "it cannot be opened with its key: ask for it to be sent again"
	}
	return err.Error()
}

// withoutNames is err for the log, where names of files have no place.
func withoutNames(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}
