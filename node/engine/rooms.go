package engine

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/store"
)

// A room's log is kept as it came, and folded when it is needed. Nothing of a room
// is believed that does not follow from the log.

// Errors of rooms.
var (
	ErrNoRoom    = errors.New("no such room")
	ErrNotInRoom = errors.New("you are not in this room")
	ErrRoomMute  = errors.New("you may not write in this room")
	ErrRoomFork  = errors.New("members of the room were shown different logs of it: find out who is right before you write")
	ErrNoFork    = errors.New("no other log of this room is here")
	ErrRoomLog   = errors.New("a log of the room was shown that does not verify, or another than before")
	ErrManyRooms = errors.New("too many rooms")
)

// Limits of the rooms of one device.
const (
	maxRoomEntries  = 32  // entries of ours that are not in the log yet
	maxRoomQueued   = 500 // all fail in one transaction when the account is out
	maxRoomWaiting  = 256 // messages of one device that wait for their chain
	maxRoomHeld     = 256 // messages of one device that came early
	maxRoomStates   = 256 // folded logs in memory
	maxRoomAccusers = 16
	maxRoomGive     = 16 // chains, or keys, in one content
	maxRoomVoid     = 64
	maxRoomTakeSize = 512 << 10 // bytes of entries taken at once
)

// RoomStage is what a room is to this account.
type RoomStage string

const (
	RoomTold    RoomStage = ""        // named by another device of ours or by the rendezvous; the log has to show it
	RoomInvited RoomStage = "invited" // a contact invited this account
	RoomJoined  RoomStage = "joined"
	RoomOut     RoomStage = "out" // left, or removed
)

func (s RoomStage) String() string { return string(s) }

// Conversation is where the messages of a room are: it takes the place of the
// contact's account in History and events. Both are hashes, so no two are the same.
func Conversation(id protocol.RoomID) protocol.AccountID { return protocol.AccountID(id) }

// Room is what is known of a room.
type Room struct {
	ID     protocol.RoomID
	Stage  RoomStage
	Name   string
	Topic  string
	By     protocol.AccountID // who invited; zero: nobody
	Home   Home
	Since  time.Time
	State  *room.State // nil while nothing of the log is here
	ToBe   *room.State // with what Pending will do, as Name and Topic are
	Forked bool        // nothing is sent: see RoomFork
	Unread int
	Queued int // own messages that are not in the room's mailbox

	Problem string // why the rendezvous does not serve the room; empty: it does
	Pending int    // own entries that are not in the log
	Joining bool   // JoinRoom or JoinRoomByLink is under way
}

// FollowRoom makes a room known that the rendezvous says this account is in: its log
// then shows whether that is so. Of a known one it changes nothing. ErrManyRooms.
func (e *Engine) FollowRoom(tx store.Tx, now time.Time, id protocol.RoomID) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		if e.isGuest() && id != e.id.Guest { // it knocked at no other
			return nil
		}
		_, err := w.roomOrNew(id)
		return err
	})
}

// Rooms returns all rooms that this account is or was in, is invited to, or wants to
// join.
func (e *Engine) Rooms(tx store.Tx, now time.Time) ([]Room, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, err
	}
	ids, err := roomIDs(tx)
	if err != nil {
		return nil, err
	}
	var list []Room
	for _, id := range ids {
		r, err := w.roomInfo(id)
		if err != nil {
			return nil, err
		}
		if r.Stage != RoomTold || r.Joining {
			list = append(list, r)
		}
	}
	return list, nil
}

// Room returns a room; ErrNoRoom if there is none.
func (e *Engine) Room(tx store.Tx, now time.Time, id protocol.RoomID) (Room, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Room{}, err
	}
	return w.roomInfo(id)
}

func (w *work) roomInfo(id protocol.RoomID) (Room, error) {
	r, err := w.room(id)
	if err != nil {
		return Room{}, err
	}
	list, toBe, err := w.top(r)
	if err != nil {
		return Room{}, err
	}
	about, err := w.roomAbout(r, toBe)
	if err != nil {
		return Room{}, err
	}
	info := Room{
		ID: id, Stage: r.row.stage, Name: about.Name, Topic: about.Topic, By: r.row.by, Home: r.row.home, Since: r.row.since,
		State: r.state, ToBe: toBe, Forked: r.row.fork == forkStands, Unread: int(r.row.unread), Queued: int(r.row.queued),
		Pending: len(list), Joining: r.row.joining, Problem: r.row.problem,
	}
	if r.row.made {
		info.Pending++
	}
	return info, nil
}

// roomAbout is what a room is called by a log of it, as far as its key is here.
func (w *work) roomAbout(r *openRoom, s *room.State) (room.About, error) {
	unread := room.About{Name: r.row.name}
	if s == nil || s.About().IsZero() {
		return unread, nil
	}
	about, ok, err := w.openAbout(r.id, s.About())
	if err != nil || !ok {
		return unread, err
	}
	return about, nil
}

// noteRoomName keeps the room's name, for who only wants to know that.
func (w *work) noteRoomName(r *openRoom) error {
	about, err := w.roomAbout(r, r.state)
	r.row.name = about.Name
	return err
}

func roomIDs(tx store.Tx) (ids []protocol.RoomID, err error) {
	err = all(tx, []byte{tableRoom}, func(pair store.Pair) (bool, error) {
		ids = append(ids, protocol.RoomID(pair.Key[1:]))
		return true, nil
	})
	return ids, err
}

// homeOf is where a room's rendezvous is now: its addresses were others, maybe, when the
// room became known.
func (w *work) homeOf(r *openRoom) (Home, error) {
	own, err := ownHome(w.tx)
	if err == nil && bytes.Equal(own.Peer, r.row.home.Peer) {
		return own, nil
	}
	return r.row.home, err
}

// beginRoom is begin, and room.
func (e *Engine) beginRoom(tx store.Tx, now time.Time, id protocol.RoomID) (*work, *openRoom, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, nil, err
	}
	r, err := w.room(id)
	return w, r, err
}

// withRoom is do in a room that is known; ErrNoRoom.
func (e *Engine) withRoom(tx store.Tx, now time.Time, id protocol.RoomID, fn func(*work, *openRoom) error) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		r, err := w.room(id)
		if err != nil {
			return err
		}
		return fn(w, r)
	})
}

// room returns a room; ErrNoRoom if there is none.
func (w *work) room(id protocol.RoomID) (*openRoom, error) {
	if r, ok := w.rooms[id]; ok {
		return r, nil
	}
	b, err := get(w.tx, keyRoom(id))
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, ErrNoRoom
	}
	r := &openRoom{id: id, read: b, receivers: map[protocol.DeviceID]*roomReceiver{}}
	if err := r.row.decode(b); err != nil {
		return nil, err
	}
	if r.state, err = w.e.roomState(w.tx, w.now, id, &r.row); err != nil {
		return nil, err
	}
	w.keepRoom(r)
	return r, nil
}

func (w *work) keepRoom(r *openRoom) {
	if w.rooms == nil {
		w.rooms = map[protocol.RoomID]*openRoom{}
	}
	w.rooms[r.id] = r
}

// saveRoom writes what changed of a room.
func (w *work) saveRoom(r *openRoom) error {
	if err := w.save(keyRoom(r.id), r.row.encode(), r.read); err != nil {
		return err
	}
	if r.sender != nil {
		if err := w.save(keyRoomSender(r.id), r.sender.Marshal(), r.senderRead); err != nil {
			return err
		}
	}
	for device, from := range r.receivers {
		from.receiver = from.chains.Marshal()
		if err := w.save(keyRoomReceiver(r.id, device), from.encode(), from.read); err != nil {
			return err
		}
	}
	return nil
}

// senderOf returns the own chain in a room.
func (w *work) senderOf(r *openRoom) (*chain.Sender, error) {
	if r.sender != nil {
		return r.sender, nil
	}
	b, err := get(w.tx, keyRoomSender(r.id))
	if err != nil {
		return nil, err
	}
	s := chain.Sender{}
	if b != nil {
		if s, err = chain.ParseSender(b); err != nil {
			return nil, fmt.Errorf("own chain in a room: %w", store.ErrDamaged)
		}
	}
	r.sender, r.senderRead = &s, b
	return r.sender, nil
}

// receiverOf returns what is known of another device's messages in a room.
func (w *work) receiverOf(r *openRoom, device protocol.DeviceID) (*roomReceiver, error) {
	if from, ok := r.receivers[device]; ok {
		return from, nil
	}
	b, err := get(w.tx, keyRoomReceiver(r.id, device))
	if err != nil {
		return nil, err
	}
	from := &roomReceiver{read: b, chains: chain.NewReceiver(r.id, device)}
	if b != nil {
		if err := from.decode(b); err != nil {
			return nil, err
		}
		if from.chains, err = from.parseChains(); err != nil {
			return nil, err
		}
	}
	r.receivers[device] = from
	return from, nil
}

// view is the log of a room as its messages name it.
func (r *openRoom) view() message.View {
	return message.View{Room: r.id, Epoch: r.state.Epoch(), Seq: r.state.Seq(), Head: r.state.Head()}
}

// me is this account in a room; not ok if it is not in it, or without its doing.
func (w *work) me(r *openRoom) (room.Member, bool) {
	if r.state == nil || w.forced(r) {
		return room.Member{}, false
	}
	return r.state.Member(w.e.id.Account)
}

// forced tells whether the log has this account as a guest that never knocked: whoever
// may let guests in can write that of anybody.
func (w *work) forced(r *openRoom) bool {
	m, in := r.state.Member(w.e.id.Account)
	return in && (m.Role == room.RoleGuest) != (w.e.id.Guest == r.id)
}

func (w *work) author() room.Author {
	return room.Author{Account: w.e.id.Account, Device: w.e.id.Device, Key: w.e.id.DSK}
}

func (w *work) hintRoom(id protocol.RoomID) { w.hint.Rooms = addOnce(w.hint.Rooms, id) }

func (w *work) roomEvent(r *openRoom, cause, text string) error {
	return w.event(eventRow{kind: KindRoom, account: Conversation(r.id), cause: cause, text: text})
}

// mate tells whether an account is in one of our rooms.
func (w *work) mate(a protocol.AccountID) (bool, error) {
	var joined []protocol.RoomID
	err := w.eachRoom(func(id protocol.RoomID, row *roomRow) {
		if row.stage == RoomJoined {
			joined = append(joined, id)
		}
	})
	if err != nil {
		return false, err
	}
	for _, id := range joined {
		r, err := w.room(id)
		if err != nil {
			return false, err
		}
		if r.state == nil {
			continue
		}
		if _, in := r.state.Member(a); in {
			return true, nil
		}
	}
	return false, nil
}
