package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
)

// maxFill is how many numbers one call may ask for, in all its ranges.
const maxFill = 4096

// messageLimit is how many messages an answer has; 0 asks for as many as may be.
func messageLimit(asked uint32) int {
	if asked == 0 {
		return maxFetch
	}
	return int(min(asked, maxFetch))
}

// putRoom stores messages for a room. Each is judged by itself; those that are let
// through go to the store in one call, and nothing is answered before they are durable.
func (s *Server) putRoom(ctx context.Context, from store.Device, p *wire.PutRoom, resp *wire.Response) error {
	id, err := parseID[protocol.RoomID](p.GetRoom())
	if err != nil {
		return err
	}
	count := len(p.GetMessages())
	if count == 0 || count > maxPutItems {
		return protocol.Refuse(protocol.TooLarge, "1 to %d messages per call", maxPutItems)
	}
	l := s.rooms.hold(id)
	defer s.rooms.release(l)
	if _, err := s.viewRoom(ctx, l); err != nil {
		return err
	}
	l.mu.RLock() // no entry comes between judging a message and storing it
	defer l.mu.RUnlock()
	v := l.view.Load()
	if _, err := v.member(from); err != nil {
		return err
	}
	if err := take(s.now(), count, "messages in this room", s.rates.roomPuts.get(inRoom{from.ID, id})); err != nil {
		return err
	}
	results := make([]*wire.RoomPutResult, count)
	var messages []store.NewRoomMessage
	var places []int // where the result of each of messages belongs
	for i, b := range p.GetMessages() {
		m, err := v.judge(s.now(), from.ID, b)
		if err != nil {
			e := s.refusal(err)
			results[i] = &wire.RoomPutResult{Code: uint32(e.Code), RetryAfterMs: p2p.Millis(e.RetryAfter)}
			continue
		}
		places = append(places, i)
		messages = append(messages, store.NewRoomMessage{
			Device: m.Device, Number: m.Number, By: from.Account, Message: b, Expires: s.now().Add(s.cfg.Limits.RoomTTL),
		})
	}
	stored, err := s.storeRoomMail(ctx, l, v, messages, from.ID)
	if err != nil {
		return err
	}
	for k, put := range stored {
		results[places[k]] = &wire.RoomPutResult{Code: uint32(put.Code), Cursor: put.Cursor}
	}
	resp.Result = &wire.Response_RoomPutResults{RoomPutResults: &wire.RoomPutResults{Results: results}}
	return nil
}

// judge checks a message that a device brings: of its own, those that are said now; of
// others, also what they said before, as long as they may still say it.
func (v *roomView) judge(now time.Time, from protocol.DeviceID, b []byte) (message.Message, error) {
	c := v.checker()
	m, err := message.Parse(b)
	if err != nil {
		return message.Message{}, messageRefusal(err)
	}
	var verified message.Verified
	if m.Device == from {
		verified, err = c.Live(now, b)
	} else {
		verified, err = c.Brought(b)
	}
	if err != nil {
		return message.Message{}, messageRefusal(err)
	}
	return verified.Message(), nil
}

func (v *roomView) checker() message.Checker {
	return message.Checker{Room: v.state.Room(), Epochs: v.epochs, Sender: v.state.Sender, Demoted: v.state.Demoted}
}

// messageRefusal is the code for a message that is not let through. Who reads the log
// learns whether he may send.
func messageRefusal(err error) error {
	e, ok := errors.AsType[*message.Error](err)
	if !ok {
		return err
	}
	code := protocol.BadRequest
	switch e.Cause {
	case message.Future, message.Past, message.NotSender:
		code = protocol.StaleEpoch
	case message.Forged:
		code = protocol.BadSignature
	}
	return protocol.Refuse(code, "%v", err)
}

// storeRoomMail commits messages that a device brought, then tells the members that are
// online, and says them on the topic.
func (s *Server) storeRoomMail(ctx context.Context, l *liveRoom, v *roomView, messages []store.NewRoomMessage, by protocol.DeviceID) ([]store.RoomPut, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	results, err := s.store.PutRoom(ctx, l.id, messages, s.roomQuotas(nil))
	if err != nil {
		return nil, fmt.Errorf("store messages of room: %w", err)
	}
	newest := uint64(0)
	for _, put := range results {
		newest = max(newest, put.Cursor)
	}
	if l.isNews(newest) {
		s.presence.tellRoom(roomNews{l.id, v.state.Seq(), newest}, v.members)
	}
	s.passOn(l, v.members, messages, results, by)
	return results, nil
}

// isNews tells whether the members have yet to be told of a cursor, and that they are
// now: a message that is put again is no news.
func (l *liveRoom) isNews(cursor uint64) bool {
	for {
		told := l.told.Load()
		if cursor <= told {
			return false
		}
		if l.told.CompareAndSwap(told, cursor) {
			return true
		}
	}
}

// fillRoom answers messages by their senders and numbers.
func (s *Server) fillRoom(ctx context.Context, from store.Device, f *wire.FillRoom, resp *wire.Response) error {
	id, err := parseID[protocol.RoomID](f.GetRoom())
	if err != nil {
		return err
	}
	ranges, err := parseRanges(f.GetRanges())
	if err != nil {
		return err
	}
	l := s.rooms.hold(id)
	defer s.rooms.release(l)
	v, err := s.viewRoom(ctx, l)
	if err != nil {
		return err
	}
	me, err := v.member(from)
	if err != nil {
		return err
	}
	if err := s.countPage(from); err != nil {
		return err
	}
	since, err := s.cursorAt(ctx, id, me.Joined)
	if err != nil {
		return err
	}
	mail, err := s.store.FillRoom(ctx, id, ranges, since, maxFetch, maxMail, s.now())
	if err != nil {
		return fmt.Errorf("read messages of room: %w", err)
	}
	page := &wire.RoomPage{}
	s.addRoomMail(page, mail, maxFetch, maxMail)
	resp.Result = &wire.Response_RoomPage{RoomPage: page}
	return nil
}

// parseRanges bounds how much there is to look at, found or not.
func parseRanges(list []*wire.RoomRange) ([]store.RoomRange, error) {
	ranges, left := make([]store.RoomRange, len(list)), uint64(maxFill)
	for i, r := range list {
		device, err := parseID[protocol.DeviceID](r.GetDevice())
		if err != nil {
			return nil, err
		}
		first, last := r.GetFirst(), r.GetLast()
		switch {
		case first > last:
			return nil, protocol.Refuse(protocol.BadRequest, "a range that ends before it begins")
		case last-first >= left:
			return nil, protocol.Refuse(protocol.TooLarge, "more than %d numbers", maxFill)
		}
		left -= last - first + 1
		ranges[i] = store.RoomRange{Device: device, First: first, Last: last}
	}
	return ranges, nil
}

// addRoomMail adds messages to a page for which at most limit of them were read, and
// about maxBytes.
func (s *Server) addRoomMail(page *wire.RoomPage, mail []store.RoomMessage, limit, maxBytes int) {
	size := 0
	for _, m := range mail {
		size += len(m.Message)
		page.Items = append(page.Items, &wire.RoomItem{
			Cursor: m.Cursor, Message: m.Message, StoredMs: uint64(m.Expires.Add(-s.cfg.Limits.RoomTTL).UnixMilli()),
		})
	}
	// As for fetch: there may be more when one more could have been too much.
	page.More = len(mail) > 0 && (len(mail) == limit || size+protocol.MaxEnvelope > maxBytes)
}
