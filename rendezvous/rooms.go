package rendezvous

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/store"
)

const (
	maxIdleLogs = 64 << 20 // bytes of logs that stay folded while no call uses them
	minIdleLog  = 8 << 10  // what a room counts at least
)

// rooms holds the rooms whose logs are folded: those in use, and of the others those
// used last, as far as their logs have max bytes together.
type rooms struct {
	max int

	mu   sync.Mutex // guards what follows, and uses and place of each room
	live map[protocol.RoomID]*liveRoom
	idle *list.List // of *liveRoom that nobody uses, the longest idle first
	size int        // of idle
}

func newRooms(max int) *rooms {
	return &rooms{max: max, live: map[protocol.RoomID]*liveRoom{}, idle: list.New()}
}

// liveRoom is one room. While anybody uses it there is one of it.
type liveRoom struct {
	id    protocol.RoomID
	uses  int
	place *list.Element // in idle

	mu   sync.RWMutex             // held to set view, and from judging by it to storing what was judged
	view atomic.Pointer[roomView] // nil: not read yet, or there is no such room; never nil again

	told atomic.Uint64 // cursor of the newest message that the members were told of
}

// roomView is what a room's log says up to one entry. It is never changed.
type roomView struct {
	state   *room.State
	epochs  message.Epochs
	members []protocol.AccountID
	size    int // of the log, in bytes
}

// hold returns a room to use, known or not, until it is given back by release.
func (r *rooms) hold(id protocol.RoomID) *liveRoom {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.live[id]
	switch {
	case l == nil:
		l = &liveRoom{id: id}
		r.live[id] = l
	case l.place != nil:
		r.unidle(l)
	}
	l.uses++
	return l
}

func (r *rooms) release(l *liveRoom) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.uses--; l.uses > 0 {
		return
	}
	if v := l.view.Load(); v == nil || len(v.members) == 0 { // the store may delete what nobody is in
		delete(r.live, l.id)
		return
	}
	l.place = r.idle.PushBack(l)
	r.size += l.weight()
	for r.size > r.max {
		oldest := r.idle.Front().Value.(*liveRoom)
		r.unidle(oldest)
		delete(r.live, oldest.id)
	}
}

func (r *rooms) unidle(l *liveRoom) {
	r.idle.Remove(l.place)
	l.place = nil
	r.size -= l.weight()
}

func (l *liveRoom) weight() int { return max(minIdleLog, l.view.Load().size) }

// viewRoom returns what a room's log says now.
func (s *Server) viewRoom(ctx context.Context, l *liveRoom) (*roomView, error) {
	if v := l.view.Load(); v != nil {
		return v, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.loadRoom(ctx, l)
}

// loadRoom is viewRoom for who holds l.mu.
func (s *Server) loadRoom(ctx context.Context, l *liveRoom) (*roomView, error) {
	if v := l.view.Load(); v != nil {
		return v, nil
	}
	v, err := s.foldRoom(ctx, l.id)
	if err != nil {
		return nil, err
	}
	l.view.Store(v)
	return v, nil
}

// foldRoom reads a room's log from the store.
func (s *Server) foldRoom(ctx context.Context, id protocol.RoomID) (*roomView, error) {
	var log []room.Entry
	size := 0
	for {
		entries, err := s.store.RoomLog(ctx, id, uint64(len(log)), maxRoomEntries, room.MaxEntry*16)
		if err != nil {
			return nil, fmt.Errorf("read log of room: %w", err)
		}
		for _, stored := range entries {
			e, err := room.ParseEntry(stored.Entry)
			if err != nil {
				return nil, fmt.Errorf("%w: entry %d of a room: %w", store.ErrDamaged, stored.Seq, err)
			}
			log, size = append(log, e), size+len(stored.Entry)
		}
		if len(entries) == 0 {
			break
		}
	}
	if len(log) == 0 {
		return nil, unknownRoom()
	}
	known, err := s.store.Room(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read room: %w", err)
	}
	state, err := room.Refold(log, known.Head) // nothing that was not folded is stored
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	return newRoomView(state, message.EpochsAt(state.Epoch()), size), nil
}

func newRoomView(state *room.State, epochs message.Epochs, size int) *roomView {
	v := &roomView{state: state, epochs: epochs, size: size}
	for _, m := range state.Members() {
		v.members = append(v.members, m.Account)
	}
	return v
}

// extended is the view after one more entry.
func (v *roomView) extended(now time.Time, next *room.State, entry room.Entry) *roomView {
	return newRoomView(next, v.epochs.Advance(now, next.Epoch()), v.size+len(entry.Bytes()))
}

// notIn returns those members that another state does not have.
func (v *roomView) notIn(other *room.State) (accounts []protocol.AccountID) {
	for _, id := range v.members {
		if _, in := other.Member(id); !in {
			accounts = append(accounts, id)
		}
	}
	return accounts
}

// member returns the caller's place in the room. To others it does not exist.
func (v *roomView) member(from store.Device) (room.Member, error) {
	if m, in := v.state.Member(from.Account); in {
		return m, nil
	}
	if v.state.Barred(from.Account) {
		return room.Member{}, protocol.Refuse(protocol.Banned, "removed from the room, or banned")
	}
	return room.Member{}, unknownRoom()
}

// invited checks that somebody who is not in the room may come in, and so read its
// log: by name, or by a link that signs the device in.
func (v *roomView) invited(now time.Time, from store.Device, link key.LinkPublic, proof []byte) error {
	if v.state.Invited(from.Account) {
		return nil
	}
	if _, err := v.member(from); protocol.CodeOf(err) == protocol.Banned {
		return err
	}
	l, ok := v.state.SignsIn(link, proof, from.Account, from.ID)
	if !ok {
		return unknownRoom()
	}
	if now.After(l.Expires) {
		return protocol.Refuse(protocol.InviteExpired, "the time of the link is over")
	}
	return nil
}

func unknownRoom() *protocol.Error {
	return protocol.Refuse(protocol.UnknownRoom, "no such room for this account")
}
