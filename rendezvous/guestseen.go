package rendezvous

import (
	"context"
	"sync"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
)

// maxDepartures is how many guests who went are remembered at least, of the newest.
const maxDepartures = 1 << 15

// departures is when guests' links ended. It is held in memory only: of a guest that did not
// come since the server began is told that it may have been there until then, so that
// nobody expires it for what a restart forgot. It is bounded as buckets are.
type departures struct {
	max int

	mu         sync.Mutex // guards what follows
	young, old map[protocol.AccountID]time.Time
	aged       time.Time // who is in old went no later
	forgotten  time.Time // nor later than this who is not remembered
}

func newDepartures(started time.Time, max int) *departures {
	return &departures{max: max, young: map[protocol.AccountID]time.Time{}, aged: started, forgotten: started}
}

// note notes that a guest's link ended.
func (d *departures) note(guest protocol.AccountID, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.young) >= d.max {
		d.young, d.old = map[protocol.AccountID]time.Time{}, d.young
		d.forgotten, d.aged = d.aged, now
	}
	d.young[guest] = now
}

// of returns when a guest that is not online was last.
func (d *departures) of(guest protocol.AccountID) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at, ok := d.young[guest]; ok {
		return at
	}
	if at, ok := d.old[guest]; ok {
		return at
	}
	return d.forgotten
}

// seenGuests tells who may admit when the room's guests were last online.
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
		return protocol.Refuse(protocol.BadRequest, "only who may let guests in sees to them")
	}
	if err := s.countPage(from); err != nil {
		return err
	}
	seen := &wire.GuestsSeen{}
	for _, m := range v.state.Members() {
		if m.Role != room.RoleGuest {
			continue
		}
		var ago time.Duration
		if !s.presence.online(m.Account) {
			ago = max(time.Millisecond, s.now().Sub(s.departures.of(m.Account)))
		}
		seen.Guests = append(seen.Guests, &wire.GuestSeen{Account: m.Account[:], AgoMs: p2p.Millis(ago)})
	}
	resp.Result = &wire.Response_GuestsSeen{GuestsSeen: seen}
	return nil
}
