package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const maxRoomEntries = 1024 // in one answer

// appendRoom appends an entry to the log of a room. It may be repeated.
func (s *Server) appendRoom(ctx context.Context, from store.Device, a *wire.AppendRoom, resp *wire.Response) error {
	e, err := room.ParseEntry(a.GetEntry())
	if err != nil {
		return entryRefusal(err)
	}
	l := s.rooms.hold(e.Room())
	defer s.rooms.release(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	v, err := s.loadRoom(ctx, l)
	if protocol.CodeOf(err) == protocol.UnknownRoom && e.Seq == 0 {
		return s.makeRoom(ctx, from, l, e, resp)
	}
	if err != nil {
		return err
	}
	if hash, ok := v.state.At(e.Seq); ok && hash == e.Hash() {
		return s.answerRepetition(ctx, e, resp)
	}
	if err := v.mayAppend(s.now(), from, e); err != nil {
		return err
	}
	if err := take(s.now(), 1, "entries of this room", s.rates.roomEntries.get(inRoom{from.ID, l.id})); err != nil {
		return err
	}
	if e.Seq != v.state.Seq()+1 || e.Prev != v.state.Head() {
		return s.answerMoved(ctx, v, e, resp)
	}
	if err := v.state.CheckTime(e, s.now()); err != nil {
		return protocol.Refuse(protocol.InviteExpired, "%v", err)
	}
	state, err := v.state.Extend(e)
	if err != nil {
		return entryRefusal(err)
	}
	next := v.extended(s.now(), state, e)
	if err := s.checkEntrants(ctx, v, next, e); err != nil {
		return err
	}
	return s.storeEntry(ctx, l, v, next, e, resp)
}

// makeRoom begins a room with its first entry.
func (s *Server) makeRoom(ctx context.Context, from store.Device, l *liveRoom, e room.Entry, resp *wire.Response) error {
	if e.Account != from.Account || e.Device != from.ID {
		return unknownRoom()
	}
	state, err := room.Open(e)
	if err != nil {
		return entryRefusal(err)
	}
	if err := take(s.now(), 1, "new rooms", s.rates.roomsMade.get(from.Account)); err != nil {
		return err
	}
	empty := &roomView{}
	return s.storeEntry(ctx, l, empty, empty.extended(s.now(), state, e), e, resp)
}

// storeEntry appends a valid entry, which leads from before to after, and tells
// everybody whom it concerns.
func (s *Server) storeEntry(ctx context.Context, l *liveRoom, before, after *roomView, e room.Entry, resp *wire.Response) error {
	p := store.NewRoomEntry{
		Room: l.id, Seq: e.Seq, Prev: e.Prev, Hash: e.Hash(), Author: e.Account, Entry: e.Bytes(),
		Came: after.members, Went: before.notIn(after.state), Now: s.now(),
	}
	if before.state != nil {
		p.Came = after.notIn(before.state)
	}
	switch e.Op.(type) {
	case room.Leave, room.GuestExpire: // by themselves: what they still have to answer is taken
		p.Left = p.Went
	}
	appended, err := s.store.AppendRoom(ctx, p, s.roomQuotas(e.Op))
	if err != nil {
		return fmt.Errorf("append to room: %w", err)
	}
	l.view.Store(after)
	resp.Result = appendedAt(appended.Cursor)
	s.presence.tellRoom(roomNews{l.id, e.Seq, appended.Cursor}, slices.Concat(after.members, p.Went))
	s.presence.announceTopics(slices.Concat(p.Came, p.Went))
	return nil
}

// roomQuotas are the store's limits. A full log still takes removals and bans.
func (s *Server) roomQuotas(op room.Op) store.RoomQuotas {
	l := s.cfg.Limits
	q := store.RoomQuotas{
		Made: l.RoomsMade, Joined: l.RoomsJoined, LogEntries: l.RoomEntries, LogBytes: l.RoomLogBytes,
		Count: l.RoomCount, Bytes: l.RoomBytes, AccountCount: max(1, l.RoomCount/4), AccountBytes: max(1, l.RoomBytes/4),
	}
	if op != nil && room.Precedence(op) == 0 {
		q.LogEntries += l.RoomEntries / 16
		q.LogBytes += l.RoomLogBytes / 16
	}
	return q
}

// mayAppend checks that the caller may bring the entry: who is in the room, whoever
// wrote it, and who joins.
func (v *roomView) mayAppend(now time.Time, from store.Device, e room.Entry) error {
	_, err := v.member(from)
	join, joins := e.Op.(room.Join)
	if err == nil || !joins || e.Account != from.Account || e.Device != from.ID {
		return err
	}
	return v.invited(now, from, join.Link, join.Proof[:])
}

// answerRepetition answers for an entry that the log has.
func (s *Server) answerRepetition(ctx context.Context, e room.Entry, resp *wire.Response) error {
	cursor, err := s.cursorAt(ctx, e.Room(), e.Seq)
	resp.Result = appendedAt(cursor)
	return err
}

// answerMoved answers for an entry that lost its place: with those that took it.
func (s *Server) answerMoved(ctx context.Context, v *roomView, e room.Entry, resp *wire.Response) error {
	since, _, err := s.roomEntries(ctx, v, e.Seq)
	if err != nil {
		return err
	}
	resp.Result = &wire.Response_RoomAppended{RoomAppended: &wire.RoomAppended{Code: uint32(protocol.RoomMoved), Since: since}}
	return nil
}

func appendedAt(cursor uint64) *wire.Response_RoomAppended {
	return &wire.Response_RoomAppended{RoomAppended: &wire.RoomAppended{Cursor: cursor}}
}

// cursorAt is that of the newest message when an entry was appended.
func (s *Server) cursorAt(ctx context.Context, id protocol.RoomID, seq uint64) (uint64, error) {
	entries, err := s.store.RoomLog(ctx, id, seq, 1, room.MaxEntry)
	if err != nil {
		return 0, fmt.Errorf("read log of room: %w", err)
	}
	if len(entries) == 0 || entries[0].Seq != seq {
		return 0, fmt.Errorf("%w: entry %d of a room is missing", store.ErrDamaged, seq)
	}
	return entries[0].Cursor, nil
}

// roomEntries returns a page with the entries from a number on, and their bytes.
func (s *Server) roomEntries(ctx context.Context, v *roomView, from uint64) (page *wire.RoomPage, size int, err error) {
	page = &wire.RoomPage{}
	if from > v.state.Seq() {
		return page, 0, nil
	}
	entries, err := s.store.RoomLog(ctx, v.state.Room(), from, maxRoomEntries, maxMail)
	if err != nil {
		return nil, 0, fmt.Errorf("read log of room: %w", err)
	}
	for _, e := range entries {
		page.Entries = append(page.Entries, e.Entry)
		size += len(e.Entry)
	}
	page.More = from+uint64(len(entries)) <= v.state.Seq()
	return page, size, nil
}

// readRoom answers entries of the log and, behind all of them, messages.
func (s *Server) readRoom(ctx context.Context, from store.Device, r *wire.ReadRoom, resp *wire.Response) error {
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
	me, notIn := v.member(from)
	if notIn != nil {
		link, _ := key.ParseLinkPublic(r.GetLink()) // none, or none that leads here, is not one of the room's
		if err := v.invited(s.now(), from, link, r.GetProof()); err != nil {
			return err
		}
	}
	if err := s.countPage(from); err != nil {
		return err
	}
	page, size, err := s.roomEntries(ctx, v, r.GetFromSeq())
	if err != nil {
		return err
	}
	resp.Result = &wire.Response_RoomPage{RoomPage: page}
	if page.More || notIn != nil {
		return nil
	}
	since, err := s.cursorAt(ctx, id, me.Joined)
	if err != nil {
		return err
	}
	limit := messageLimit(r.GetMax())
	mail, err := s.store.RoomMail(ctx, id, max(r.GetAfter(), since), limit, maxMail-size, s.now())
	if err != nil {
		return fmt.Errorf("read messages of room: %w", err)
	}
	s.addRoomMail(page, mail, limit, maxMail-size)
	return nil
}

func (s *Server) countPage(from store.Device) error {
	return take(s.now(), 1, "pages of rooms", s.rates.roomPages.get(from.ID))
}

// entryRefusal is the code for an entry that cannot be appended. Its author could
// have known: he has the same log.
func entryRefusal(err error) error {
	code := protocol.BadRequest
	for _, c := range []struct {
		err  error
		code protocol.Code
	}{
		{room.ErrUnsupported, protocol.UnsupportedVersion},
		{room.ErrFull, protocol.RoomFull},
		{room.ErrLocked, protocol.RoomLocked},
		{room.ErrBarred, protocol.Banned},
		{key.ErrSignature, protocol.BadSignature},
	} {
		if errors.Is(err, c.err) {
			code = c.code
		}
	}
	return protocol.Refuse(code, "%v", err)
}
