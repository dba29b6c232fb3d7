package rendezvous

import (
	"context"
	"sync"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	seenKept = 2 * room.MaxGuestStay // a guest that was away for longer is out
	maxSeen  = 1 << 16               // guests; of more the oldest are forgotten
)

// guestsSeen remembers when guests went offline. It is held in memory only: of who is
// not in it all that is known is that it was away since this process began, so a
// restart makes guests stay longer, never shorter.
type guestsSeen struct {
	mu   sync.Mutex
	last map[protocol.AccountID]time.Time
}

func newGuestsSeen() *guestsSeen { return &guestsSeen{last: map[protocol.AccountID]time.Time{}} }

// left notes that a guest went offline.
func (g *guestsSeen) left(a protocol.AccountID, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last[a] = now
	if len(g.last) <= maxSeen {
		return
	}
	oldest := a
	for other, at := range g.last {
		if now.Sub(at) > seenKept {
			delete(g.last, other)
		} else if at.Before(g.last[oldest]) {
			oldest = other
		}
	}
	if len(g.last) > maxSeen {
		delete(g.last, oldest)
	}
}

// at returns when a guest that is offline was last online; since if that is not known.
func (g *guestsSeen) at(a protocol.AccountID, since time.Time) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at, ok := g.last[a]; ok {
		return at
	}
	return since
}

// seenGuests tells a member who may admit when the guests of a room were last online.
func (s *Server) seenGuests(ctx context.Context, from store.Device, r *wire.SeenGuests, resp *wire.Response) error {
	id, err := parseID[protocol.RoomID](r.GetRoom())
	if err != nil {
		return err
	}
	l := s.rooms.hold(id)
	defer s.rooms.release(l)
	v, err := s.viewRoom(ctx, l)
	if err != nil {
		return err
	}
	if _, err := v.member(from); err != nil {
		return err
	}
	if !v.state.Rights(from.Account).Has(room.Admit) {
		return protocol.Refuse(protocol.BadRequest, "only who lets guests in is told when they were online")
	}
	now, seen := s.now(), &wire.GuestsSeen{}
	for _, m := range v.state.Members() {
		if m.Role != room.RoleGuest {
			continue
		}
		away := time.Duration(0)
		if !s.presence.online(m.Account) {
			away = max(time.Millisecond, now.Sub(s.guestsSeen.at(m.Account, s.started)))
		}
		seen.Guests = append(seen.Guests, &wire.GuestSeen{Account: m.Account[:], AgoMs: uint64(away.Milliseconds())})
	}
	resp.Result = &wire.Response_GuestsSeen{GuestsSeen: seen}
	return nil
}
