package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/backup"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/invite"
	"github.com/parley-chat/parley/protocol/pairing"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/protocol/room/roomlink"
	"github.com/parley-chat/parley/rendezvous"
	"github.com/parley-chat/parley/store"
)

// Exit codes. They are part of the interface: numbers never change meaning.
const (
	exitOK         = 0
	exitError      = 1
	exitUsage      = 2
	exitNotRunning = 3
	exitLocked     = 4
	exitNotFound   = 5
	exitTimeout    = 6
	exitQueued     = 7
	exitUnverified = 8
	exitConflict   = 9
)

const exitHelp = `EXIT CODES
   0 done                       5 not found
   1 another error              6 timeout, or the other end is offline
   2 wrong usage or input       7 queued, not delivered (send --wait)
   3 the node is not running    8 verification failed
   4 wrong passphrase, or       9 conflict: name taken, directory in use
     refused`

// failure is an error for the person at the keyboard: what went wrong, what to
// type next, and the exit code.
type failure struct {
	code  int
	text  string
	hints []string
}

func (f *failure) Error() string { return f.text }

// hint adds a line that says what to do.
func (f *failure) hint(format string, args ...any) *failure {
	f.hints = append(f.hints, fmt.Sprintf(format, args...))
	return f
}

func fail(code int, format string, args ...any) *failure {
	return &failure{code: code, text: fmt.Sprintf(format, args...)}
}

func usageError(format string, args ...any) *failure { return fail(exitUsage, format, args...) }

// explain finds the exit code, and hints where there are any, for an error.
func explain(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		f := fail(apiCodes[e.Code], "%s", e.Text)
		if e.Hint != "" {
			f.hint("%s", e.Hint)
		}
		if f.code == exitOK {
			f.code = exitError
		}
		return f
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return explainRefusal(e)
	}
	if errors.Is(err, context.Canceled) {
		return fail(exitError, "interrupted")
	}
	for _, known := range knownErrors {
		if errors.Is(err, known.err) {
			f := fail(known.code, "%v", err)
			if known.hint != "" {
				f.hint("%s", known.hint)
			}
			return f
		}
	}
	return fail(exitError, "%v", err)
}

var apiCodes = map[string]int{
	api.ErrBadInput: exitUsage, api.ErrNotFound: exitNotFound, api.ErrNotAccepted: exitLocked,
	api.ErrConflict: exitConflict, api.ErrMismatch: exitUnverified, api.ErrOffline: exitTimeout, api.ErrRefused: exitLocked,
	api.ErrFull: exitError, api.ErrTimeout: exitTimeout, api.ErrInternal: exitError,
	api.ErrStopping: exitNotRunning,
}

var knownErrors = []struct {
	err  error
	code int
	hint string
}{
	{api.ErrNotRunning, exitNotRunning, "start it: parley up"},
	{vault.ErrWrongSecret, exitLocked, "nothing was changed; try again"},
	{vault.ErrEmpty, exitLocked, "choose a passphrase: four random words are good"},
	{vault.ErrKeyFile, exitLocked, "it is the file that --key-file named when you joined"},
	{vault.ErrExposed, exitError, "your keys are in there; nobody else should look"},
	{vault.ErrNoVault, exitNotFound, "nobody has joined from this directory, or its keys were burned: parley join INVITE"},
	{node.ErrOffline, exitTimeout, "ask whether it runs, and whether its port is open to you"},
	{node.ErrJoined, exitConflict, "start your node: parley up"},
	{node.ErrNoHome, exitUsage, "add --home with any invite of your group, or enter the whole link"},
	{pairing.ErrNotCode, exitUsage, "get one on your other device: parley device add"},
	{pairing.ErrDamaged, exitUsage, "put the link in single quotes"},
	{pairing.ErrCodeVersion, exitUsage, "update Parley on this computer"},
	{pairing.ErrWrongCode, exitLocked, "a code is good for one attempt; get a new one: parley device add"},
	{pairing.ErrOver, exitTimeout, "get a new code: parley device add"},
	{pairing.ErrFrame, exitError, "get a new code: parley device add"},
	{node.ErrPairingEnded, exitTimeout, "get a new code there: parley device add"},
	{pairing.ErrRefused, exitLocked, "the other device said no; nothing was changed"},
	{engine.ErrRevoked, exitLocked, "add this machine again, in another folder: parley --dir NEW link CODE"},
	{roomlink.ErrNotLink, exitUsage, "ask somebody in the room: parley room link ROOM, or for guests parley room guests ROOM"},
	{roomlink.ErrDamaged, exitUsage, "put the link in single quotes"},
	{roomlink.ErrVersion, exitUsage, ""},
	{node.ErrNotForGuests, exitUsage, "ask for a link for guests: parley room guests ROOM"},
	{node.ErrOtherVisit, exitConflict, "choose another directory: --dir; without it each room you visit has its own"},
	{node.ErrNotJoined, exitNotFound, "join to the end: parley join INVITE"},
	{node.ErrEntering, exitNotFound, "type the command again that began it: parley backup restore, or parley recover"},
	{node.ErrNotEmpty, exitConflict, "choose a directory that is not there yet: --dir"},
	{node.ErrKeyReplaced, exitLocked, "with the recovery words, ending all other devices: parley backup restore FILE --recover"},
	{backup.ErrNotBackup, exitUsage, "backups are made with: parley backup create FILE"},
	{backup.ErrWrongSecret, exitLocked, "nothing was changed; try again"},
	{backup.ErrDamaged, exitError, "nothing was changed; try another copy of it"},
	{backup.ErrNewer, exitError, "update Parley"},
	{account.ErrFull, exitError, "recover the account with your 24 words, in another folder: parley --dir NEW recover INVITE NAME"},
	{engine.ErrTooManyDevices, exitConflict, "end one that you no longer use: parley device revoke DEVICE"},
	{vault.ErrDamaged, exitError, "put back a copy of it, or begin in a new folder: parley --dir NEW backup restore FILE"},
	{store.ErrLocked, exitConflict, "another process works in this directory: parley status, or parley down"},
	{store.ErrFull, exitError, "make room on the disk"},
	{store.ErrDamaged, exitError, "begin in a new folder: parley --dir NEW link CODE, or parley --dir NEW backup restore FILE"},
	{rendezvous.ErrNotFound, exitNotFound, ""},
	{guest.ErrPassword, exitUsage, ""},
	{invite.ErrNotInvite, exitUsage, "ask for an invite: whoever runs `parley host` gets one with `parley host invite`"},
	{invite.ErrDamaged, exitUsage, "put the link in single quotes"},
	{invite.ErrVersion, exitUsage, ""},
	{context.DeadlineExceeded, exitTimeout, "it took too long: try again"},
	{fs.ErrPermission, exitError, "check who owns the directory, or choose another with --dir"},
	{syscall.EROFS, exitError, "choose another directory with --dir"},
	{syscall.EADDRINUSE, exitError, "does another rendezvous run here? use another port: --listen"},
}

// explainRefusal puts a refusal of the rendezvous in words.
func explainRefusal(e *protocol.Error) *failure {
	if r, ok := refusals[e.Code]; ok {
		return fail(r.code, "%s", r.text).hint("%s", r.hint)
	}
	f := fail(exitError, "the rendezvous refused: %v", e)
	if e.RetryAfter > 0 {
		f.hint("try again in %v", e.RetryAfter)
	}
	return f
}

var refusals = map[protocol.Code]struct {
	code       int
	text, hint string
}{
	protocol.InviteInvalid:      {exitLocked, "the rendezvous does not know this invite", "check that you copied all of it, or ask for a new one"},
	protocol.InviteExpired:      {exitLocked, "this invite has expired", "ask for a new one: parley invite, or parley host invite"},
	protocol.InviteUsed:         {exitLocked, "this invite has been used up", "ask for a new one: parley invite, or parley host invite"},
	protocol.NameTaken:          {exitConflict, "this name is taken", "run the same command with another --name"},
	protocol.NameInvalid:        {exitUsage, "the rendezvous does not allow this name", "3 to 32 of a-z, 0-9 and _; some words are reserved"},
	protocol.AccountExists:      {exitConflict, "this account is registered under another name", "use the name you took first"},
	protocol.DeviceExists:       {exitConflict, "this device is registered with other keys", "join from a new directory: --dir"},
	protocol.UnsupportedVersion: {exitError, "this program and the rendezvous have no protocol version in common", "update Parley"},
	protocol.Unavailable:        {exitTimeout, "the rendezvous cannot do this now", "try again later"},
	protocol.Draining:           {exitTimeout, "the rendezvous is being restarted", "try again in a minute"},
	protocol.PairingOver:        {exitLocked, "this code was used, or is too old", "get a new one on your other device: parley device add"},
	protocol.WrongPassword:      {exitLocked, "that is not the room's password, or not any more", "ask whoever gave you the link; nothing is lost: parley guest LINK"},
	protocol.Banned:             {exitLocked, "you were removed from the room", "somebody there can let you in again: parley room unban ROOM NAME"},
	protocol.RateLimited:        {exitTimeout, "too many attempts", "try again in a minute"},
}
