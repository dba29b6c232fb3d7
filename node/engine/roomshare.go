package engine

import (
	"errors"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// What the devices of one account tell each other of its rooms, and what a backup
// holds of them: which there are, and the keys of their texts. The rendezvous has the
// log, but not of a room that the account is in no more: that, too, is told.

// Bounds of what is told of rooms.
const (
	maxStateKeys    = 1024 // of one room
	shareRoomCount  = 16   // rooms in one batch
	shareEntryBytes = 48 << 10
)

const tooManyRooms = "your account is in more rooms than this device takes"

// toldStages are the stages of RoomState.
var toldStages = []RoomStage{RoomTold, RoomInvited, RoomJoined, RoomOut}

// roomTold is what is told of a room, with its keys as they are stored, by name: those
// themselves are put in when it is sealed.
func (w *work) roomTold(r *openRoom) (*wire.RoomState, error) {
	about, err := w.roomAbout(r, r.state)
	if err != nil {
		return nil, err
	}
	home, err := w.homeOf(r)
	if err != nil {
		return nil, err
	}
	s := &wire.RoomState{
		Room: r.id[:], Home: home.Peer, Addrs: home.Addrs, Stage: uint32(indexOf(toldStages, r.row.stage)),
		Name: about.Name, SinceMs: uint64(millis(r.row.since)),
	}
	if r.row.by != (protocol.AccountID{}) {
		s.By = r.row.by[:]
	}
	if r.state != nil {
		head := r.state.Head()
		s.Seq, s.Head = r.state.Seq(), head[:]
	}
	prefix := store.Key(tableRoomKey, r.id[:])
	err = all(w.tx, prefix, func(pair store.Pair) (bool, error) {
		s.Keys = append(s.Keys, pair.Key[len(prefix):])
		return len(s.Keys) < maxStateKeys, nil
	})
	return s, err
}

// tellSiblingsOfRoom tells our other devices what the account is in a room.
func (w *work) tellSiblingsOfRoom(r *openRoom) error {
	list, err := w.siblings()
	if err != nil {
		return err
	}
	for _, device := range list {
		d, err := w.device(device)
		if err != nil {
			return err
		}
		if _, err := w.tellRoom(device, d, r); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) tellRoom(device protocol.DeviceID, d *deviceRow, r *openRoom) (protocol.MsgID, error) {
	told, err := w.roomTold(r)
	if err != nil {
		return protocol.MsgID{}, err
	}
	content := &wire.Content{Body: &wire.Content_RoomState{RoomState: told}}
	return w.postRoomKeys(device, d, wire.MailKind_MESSAGE, content)
}

// takeRoomState takes what another device of ours, or a backup, says of a room. What
// is known here counts more, and the log most.
func (w *work) takeRoomState(s *wire.RoomState) error {
	id, err := protocol.FromBytes[protocol.RoomID](s.GetRoom())
	if err != nil || !ValidRoomState(s) {
		return w.trouble(CauseMalformed, w.e.id.Account, "what is said of a room cannot be read")
	}
	r, err := w.room(id)
	if err == ErrNoRoom {
		row := roomRow{stage: RoomTold, home: Home{Peer: s.GetHome(), Addrs: s.GetAddrs()}, since: fromMillis(int64(s.GetSinceMs()))}
		r, err = w.addRoom(id, row)
	}
	if errors.Is(err, ErrManyRooms) {
		return w.trouble(CauseMalformed, w.e.id.Account, tooManyRooms)
	}
	if err != nil {
		return err
	}
	for _, b := range s.GetKeys() {
		if err := w.takeStateKey(r, w.e.id.Account, b); err != nil {
			return err
		}
	}
	if r.row.stage != RoomTold || r.row.joining {
		return nil
	}
	r.row.name = s.GetName()
	if r.state == nil && len(s.GetHead()) > 0 {
		r.row.toldSeq, r.row.toldHead = s.GetSeq(), [32]byte(s.GetHead())
	}
	switch toldStages[s.GetStage()] {
	case RoomInvited:
		r.row.stage, r.row.by = RoomInvited, protocol.AccountID(s.GetBy())
	case RoomOut:
		r.row.stage = RoomOut
		return nil
	}
	w.hintRoom(id)
	return nil
}

// ValidRoomState tells whether what is said of a room can be taken.
func ValidRoomState(s *wire.RoomState) bool {
	stage := s.GetStage()
	return len(s.GetRoom()) == 32 && (len(s.GetHead()) == 0 || len(s.GetHead()) == 32) && len(s.GetKeys()) <= maxStateKeys &&
		stage < uint32(len(toldStages)) && (toldStages[stage] != RoomInvited || len(s.GetBy()) == 32) &&
		validRoom(s.GetHome(), s.GetAddrs(), s.GetName())
}

// shareSomeRooms tells a sibling of the next rooms. Of one that is over the log
// follows, a piece at a time.
func (w *work) shareSomeRooms(device protocol.DeviceID, d *deviceRow, s *shareRow) error {
	for pair, err := range w.tx.Scan(keyRoom(protocol.RoomID(s.with)), store.PrefixEnd([]byte{tableRoom})) {
		if err != nil {
			return err
		}
		if a := protocol.AccountID(pair.Key[1:]); a != s.with {
			s.with, s.below = a, 0
		}
		if len(s.pending) >= shareRoomCount || w.full(0) {
			return nil
		}
		r, err := w.room(protocol.RoomID(s.with))
		if err != nil {
			return err
		}
		if s.below == 0 && r.row.stage != RoomTold {
			id, err := w.tellRoom(device, d, r)
			if err != nil {
				return err
			}
			s.pending = append(s.pending, id)
			if err := w.tellSettings(device, s.with); err != nil {
				return err
			}
		}
		if r.row.stage != RoomOut || !r.row.known || s.below > r.row.seq {
			continue
		}
		return w.shareLog(device, d, s, r)
	}
	s.rooms, s.with, s.below = true, protocol.AccountID{}, 0
	return nil
}

// shareLog sends a sibling the next entries of a log.
func (w *work) shareLog(device protocol.DeviceID, d *deviceRow, s *shareRow, r *openRoom) error {
	entries, err := w.e.RoomLog(w.tx, r.id, s.below, shareEntryBytes)
	if err != nil {
		return err
	}
	content := &wire.Content{Body: &wire.Content_RoomLog{RoomLog: &wire.RoomLog{Room: r.id[:], Entries: entries, Seq: r.row.seq}}}
	id, err := w.postOther(device, d, wire.MailKind_MESSAGE, content)
	s.pending = append(s.pending, id)
	s.below += uint64(len(entries))
	return err
}

// nextRoomPast is nextPast for rooms.
func (w *work) nextRoomPast(s *shareRow) (*wire.Past, error) {
	for pair, err := range w.tx.Scan(keyRoom(protocol.RoomID(s.with)), store.PrefixEnd([]byte{tableRoom})) {
		if err != nil {
			return nil, err
		}
		if a := protocol.AccountID(pair.Key[1:]); a != s.with {
			s.with, s.below = a, 0
		}
		list, err := w.messagesBelow(s)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			return &wire.Past{With: s.with[:], Messages: list, Room: true}, nil
		}
	}
	return &wire.Past{}, nil
}

// RoomStates returns what a backup holds of the rooms, with their keys; RoomLog has
// the logs of those that are over.
func (e *Engine) RoomStates(tx store.Tx, now time.Time) (list []*wire.RoomState, err error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, err
	}
	ids, err := roomIDs(tx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		r, err := w.room(id)
		if err != nil {
			return nil, err
		}
		if r.row.stage == RoomTold {
			continue
		}
		s, err := w.roomTold(r)
		if err != nil {
			return nil, err
		}
		if s.Keys, err = w.namedKeys(id[:], s.GetKeys()); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// TakeRoomState takes what RoomStates returned into the store of a new device of the
// account. Taking it again changes nothing.
func (e *Engine) TakeRoomState(tx store.Tx, now time.Time, s *wire.RoomState) (Hint, error) {
	return e.do(tx, now, func(w *work) error { return w.takeRoomState(s) })
}

// TakeRoomLog takes entries of the log of a room that is over. Taking them again, or such
// as do not follow, changes nothing.
func (e *Engine) TakeRoomLog(tx store.Tx, now time.Time, l *wire.RoomLog) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		_, err := w.takeOldLog(l)
		return err
	})
}

// IsOver tells that the account is in a room no more.
func IsOver(s *wire.RoomState) bool {
	return s.GetStage() < uint32(len(toldStages)) && toldStages[s.GetStage()] == RoomOut
}
