// Package room holds the signed log of a room: who is in it, with which devices
// and which rights. Every member folds the log, so that all of them know the same
// without trusting anybody: not who orders the entries, and not who passes them on.
//
// An Entry is signed by a member's device and names the entry before it. A State
// is what the entries up to one of them say; Extend checks that the author of the
// next had the right to do it there. Nothing depends on a clock: times are shown to
// people, and order is the order of the log (SPEC "Rooms").
//
// It is also what a rendezvous needs to pass on only what members may send: names,
// topics and passwords are sealed, and reading them takes a StateKey. The package
// neither stores nor sends anything.
package room

import (
	"errors"
	"strings"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// Limits of a room.
const (
	MaxMembers = 1024 // with the guests
	MaxInvites = 256  // accounts invited by name, and as many links
	MaxKicked  = 1024 // removed accounts that are remembered; the oldest is forgotten
	MaxBanned  = 4096

	MaxUses      = MaxMembers     // of one link
	MaxGuestStay = 24 * time.Hour // from an entry on; renewed by another
	MaxSealed    = 1024           // one sealed text, in bytes
	MaxTopic     = 512            // bytes of UTF-8
	MaxEntry     = protocol.MaxChain + 4<<10
)

var (
	// ErrMalformed is returned for bytes that are not the one encoding of an entry
	// or of what it holds.
	ErrMalformed = errors.New("malformed")
	// ErrUnsupported is returned for an entry of a later version of the protocol, or
	// for an operation that this one does not know. The log cannot be followed past it
	// before the program is updated.
	ErrUnsupported = errors.New("the room uses what a later version of Parley brought")
	// ErrPlace is returned for an entry that does not follow: it lost a race, or
	// belongs to another room or another branch. See State.Rebase.
	ErrPlace = errors.New("the entry does not follow the log")
	// ErrNotMember is returned for an author, a device or a target that is not in
	// the room.
	ErrNotMember = errors.New("not in the room")
	// ErrForbidden is returned for an entry whose author may not do that.
	ErrForbidden = errors.New("not allowed")
	// ErrNoEffect is returned for an entry that would change nothing: what its
	// author wants is so already.
	ErrNoEffect = errors.New("nothing to change")
	// ErrConflict is returned by Rebase: somebody changed the same meanwhile, and
	// the author has to look again.
	ErrConflict = errors.New("somebody else changed this meanwhile")
	// ErrUnmerged is returned by Adopt for a valid log that no merge lets take the place
	// of one's own.
	ErrUnmerged = errors.New("nobody who may has merged the logs")
	// ErrFull is returned where a limit of the room is reached.
	ErrFull = errors.New("the room takes no more")
	// ErrLocked is returned for whoever comes while the room is locked.
	ErrLocked = errors.New("the room is locked")
	// ErrBarred is returned for an account that was removed or banned.
	ErrBarred = errors.New("removed from the room, or banned")
	// ErrNotInvited is returned for who joins without an invitation that holds.
	ErrNotInvited = errors.New("not invited")
	// ErrStalePassword is returned for a number of the room's password that is not
	// the one in force, or its follower.
	ErrStalePassword = errors.New("the room's password changed")
	// ErrStaleKey is returned for what is sealed with a key that a former member
	// may know: seal it with a new one.
	ErrStaleKey = errors.New("sealed with a key that is not to be used any more")
	// ErrLastOwner is returned to the last owner: somebody else has to be made one
	// first.
	ErrLastOwner = errors.New("the room would have no owner")
)

// Role is a member's standing. A larger one stands above a smaller one.
type Role uint8

const (
	RoleGuest     Role = 1 // a key that knew the room's password
	RoleMember    Role = 2 // an account that joined
	RoleModerator Role = 3
	RoleOwner     Role = 4 // has every right, and cannot be removed
)

func (r Role) String() string {
	switch r {
	case RoleGuest:
		return "guest"
	case RoleMember:
		return "member"
	case RoleModerator:
		return "moderator"
	case RoleOwner:
		return "owner"
	}
	return "no role"
}

func (r Role) valid() bool { return RoleGuest <= r && r <= RoleOwner }

// Rights is a set of rights.
type Rights uint16

const (
	Read      Rights = 1 << iota // gets the keys
	Send                         // texts
	Files                        // sends files
	React                        // to messages
	Admit                        // invites, lets guests in
	Kick                         // removes, bans, locks
	SetRights                    // of who stands below; sets the password
	Rename                       // name and topic
)

const (
	// AllRights is what an owner has.
	AllRights = Read | Send | Files | React | Admit | Kick | SetRights | Rename
	// Access is what concerns messages: a change of it begins an epoch.
	Access = Read | Send | Files | React
	// Moderation is what an account does to messages of others: who loses it is not to
	// name a log of when it was his, so that the loss begins an epoch too.
	Moderation = Kick | Rename
	// Voice is what a muted member lacks.
	Voice = Send | Files | React
)

var rightNames = []string{"read", "send", "files", "react", "admit", "kick", "set rights", "rename"}

func (r Rights) String() string {
	var names []string
	for i, name := range rightNames {
		if r.Has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Has tells that r holds all of want.
func (r Rights) Has(want Rights) bool { return r&want == want }

// most is what a role can be given: a guest never governs others.
func (r Role) most() Rights {
	if r == RoleGuest {
		return Access
	}
	return AllRights
}

// newRoleRights is what the roles may in a new room.
func newRoleRights() [RoleOwner + 1]Rights {
	return [RoleOwner + 1]Rights{RoleGuest: Read | Send | React, RoleMember: Access, RoleModerator: AllRights, RoleOwner: AllRights}
}
