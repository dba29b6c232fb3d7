package session

import (
	"bytes"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// unansweredFor is how long an own opening is used without an answer.
const unansweredFor = 30 * 24 * time.Hour

// Info is what Choose needs to know of a session.
type Info struct {
	ID        protocol.SessionID
	Gen       uint64
	Confirmed bool
	Initiator bool // this device opened it
	Reset     bool // its opener lost earlier sessions
	Created   time.Time
}

// Choose returns which of the sessions with one device to send on; receive on
// any. Of the confirmed sessions and own unanswered openings the largest Gen
// wins; a tie goes to the confirmed one, then to the smallest ID. Not ok means:
// open a new session, with a Gen above all of these. Both sides come to the
// same answer once they know the same sessions (SPEC "Choice of session").
func Choose(now time.Time, sessions []Info) (index int, ok bool) {
	best := -1
	for i, s := range sessions {
		if usable(now, s) && (best < 0 || better(s, sessions[best])) {
			best = i
		}
	}
	if best < 0 || lost(sessions[best], sessions) {
		return 0, false
	}
	return best, true
}

func usable(now time.Time, s Info) bool {
	return s.Confirmed || s.Initiator && now.Sub(s.Created) < unansweredFor
}

// lost tells that the peer may not have s any more: after s was made, the peer
// opened a session with reset and, not knowing s, gave it a smaller Gen.
func lost(s Info, sessions []Info) bool {
	return slices.ContainsFunc(sessions, func(r Info) bool {
		return r.Reset && !r.Initiator && r.Gen < s.Gen && s.Created.Before(r.Created)
	})
}

func better(a, b Info) bool {
	if a.Gen != b.Gen {
		return a.Gen > b.Gen
	}
	if a.Confirmed != b.Confirmed {
		return a.Confirmed
	}
	return bytes.Compare(a.ID[:], b.ID[:]) < 0
}
