package guest

import (
	"time"

	"github.com/parley-chat/parley/protocol/room"
)

// Skew is how far two members' clocks may differ before a guest notices.
const Skew = 5 * time.Minute

// Care is what a member who admits does about a guest in the room.
type Care uint8

const (
	Leave  Care = iota // nothing
	Renew              // write room.GuestRenew: the guest never asks for it
	Expire             // write room.GuestExpire
)

// Due says what is to be done about a member of the room that was last online, or
// wrote, at the time seen. A guest stays as long as it comes at least once in 24 hours
// while a member is there who renews its stay; nobody throws it out for being late who
// was away itself: who does not know when the guest was seen asks the rendezvous first.
func Due(m room.Member, seen, now time.Time) Care {
	const half = room.MaxGuestStay / 2
	switch {
	case m.Role != room.RoleGuest || now.Before(m.Expires.Add(-half)):
		return Leave
	case now.Sub(seen) < half:
		return Renew
	case now.Before(m.Expires.Add(Skew)):
		return Leave
	}
	return Expire
}
