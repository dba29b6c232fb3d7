package engine

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/store"
)

// takeLog takes entries that follow the log as it is here; those that are here are
// passed over. Entries that are wrong are ErrRoomLog, and nothing changes.
func (w *work) takeLog(r *openRoom, raw [][]byte) error {
	before := r.state
	was, wasIn := w.me(r)
	entries, err := w.newEntries(r, raw)
	if err != nil || len(entries) == 0 {
		return err
	}
	after, err := w.extended(r, entries)
	if err != nil {
		return err
	}
	if err := w.setAll(tableRoomLog, r.id, entries); err != nil {
		return err
	}
	list, err := w.entriesToAppend(r)
	if err != nil {
		return err
	}
	mine := 0
	for mine < min(len(list), len(entries)) && list[mine].Hash() == entries[mine].Hash() {
		mine++
	}
	if mine > 0 {
		if before, err = extend(before, entries[:mine]); err != nil {
			return err
		}
	}
	r.state, r.row.known, r.row.seq, r.row.head = after, true, after.Seq(), after.Head()
	w.e.keepFolded(w.now, r.id, after)
	if mine == len(entries) {
		before = after
	}
	if list, err = w.rebase(r, before, list[mine:]); err != nil {
		return err
	}
	if err := w.setEntries(r, list); err != nil {
		return err
	}
	if is, in := w.me(r); in && (!wasIn || was.Joined != is.Joined) {
		if err := w.beginToRead(r); err != nil {
			return err
		}
	}
	return w.entered(r, entries)
}

// extended is the log with entries that are new, if it is valid, and the one that we were
// told of.
func (w *work) extended(r *openRoom, entries []room.Entry) (*room.State, error) {
	after, err := extend(r.state, entries)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoomLog, err)
	}
	if after.Room() != r.id {
		return nil, fmt.Errorf("%w: the log of another room", ErrRoomLog)
	}
	if r.state == nil {
		if err := w.checkFounder(r, entries[0]); err != nil {
			return nil, err
		}
	}
	if hash, ok := after.At(r.row.toldSeq); ok && r.row.stage != RoomJoined && r.row.toldHead != ([32]byte{}) && hash != r.row.toldHead {
		return nil, fmt.Errorf("%w: not the one that the inviting contact has", ErrRoomLog)
	}
	return after, nil
}

// beginToRead forgets of each device's messages which are missing: the mailbox gives
// none from before we came in, and nobody gives us their keys.
func (w *work) beginToRead(r *openRoom) error {
	return all(w.tx, store.Key(tableRoomReceiver, r.id[:]), func(pair store.Pair) (bool, error) {
		device := protocol.DeviceID(pair.Key[33:])
		from, err := w.receiverOf(r, device)
		if err == nil {
			from.chains = chain.NewReceiver(r.id, device)
		}
		return true, err
	})
}

func extend(s *room.State, entries []room.Entry) (*room.State, error) {
	if s == nil {
		return room.Fold(entries)
	}
	return s.Extend(entries...)
}

// newEntries reads entries and leaves out those that the log has. Of too many it
// takes the first.
func (w *work) newEntries(r *openRoom, raw [][]byte) (list []room.Entry, err error) {
	next, size := uint64(0), 0
	if r.row.known {
		next = r.row.seq + 1
	}
	for _, b := range raw {
		entry, err := room.ParseEntry(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRoomLog, err)
		}
		if entry.Seq < next {
			if hash, _ := r.state.At(entry.Seq); r.state != nil && hash != entry.Hash() {
				return nil, fmt.Errorf("%w: entry %d is another than before", ErrRoomLog, entry.Seq)
			}
			continue
		}
		if size += len(b); size > maxRoomTakeSize {
			break
		}
		list = append(list, entry)
	}
	return list, nil
}

// entered does what follows from entries that are new in the log.
func (w *work) entered(r *openRoom, entries []room.Entry) error {
	_, in := w.me(r)
	for _, entry := range entries {
		if err := w.noteCame(r, entry); err != nil {
			return err
		}
		if entry.Device == w.e.id.Device {
			if err := w.enteredOwn(r, entry); err != nil {
				return err
			}
		}
		if err := w.enteredOther(r, entry); err != nil {
			return err
		}
		if r.row.stage != RoomJoined || !in { // not what was before us
			continue
		}
		if op, is := entry.Op.(room.Devices); is && op.Account == w.e.id.Account { // one of them may be new
			if err := w.tellSiblingsOfRoom(r); err != nil {
				return err
			}
		}
		if err := w.roomEvent(r, entry.Op.Kind().String(), strconv.FormatUint(entry.Seq, 10)); err != nil {
			return err
		}
	}
	w.watchGuests(r)
	if err := errors.Join(w.noteRoomName(r), w.settleStage(r, in, entries), w.dropLinks(r), w.judgeAhead(r), w.pursue(r)); err != nil {
		return err
	}
	w.hintRoom(r.id) // messages of the new epoch may be here, and others need our keys
	return nil
}

// enteredOther does what follows from an entry, whoever wrote it.
func (w *work) enteredOther(r *openRoom, entry room.Entry) error {
	switch op := entry.Op.(type) {
	case room.Join:
		return w.welcomeByLink(r, entry.Account, op.Link)
	case room.Merge:
		return w.merged(r, op)
	}
	return nil
}

// enteredOwn tells whom an entry of this device concerns.
func (w *work) enteredOwn(r *openRoom, entry room.Entry) error {
	switch op := entry.Op.(type) {
	case room.Invite:
		return w.sendInvite(r, op.Account)
	case room.Describe:
		return w.giveFresh(r, op.About)
	case room.Join:
		return errors.Join(w.giveFresh(r, op.Name), w.tellSiblingsOfRoom(r))
	case room.GuestJoin:
		return w.giveFresh(r, op.Name)
	case room.SetPassword, room.SetRoleRights:
		return w.givePassword(r, nil)
	case room.SetRole:
		return w.givePassword(r, &op.Account)
	case room.SetMemberRights:
		return w.givePassword(r, &op.Account)
	case room.Devices:
		return w.givePassword(r, &op.Account)
	}
	return nil
}

// settleStage changes what the room is to us when we came in or are out.
func (w *work) settleStage(r *openRoom, in bool, entries []room.Entry) error {
	switch {
	case in && r.row.stage != RoomJoined:
		if r.state.Seq() < r.row.toldSeq {
			return nil // the log is to be read on
		}
		r.row.stage, r.row.joining, r.row.since = RoomJoined, false, w.now
		return w.roomEvent(r, RoomWasJoined, r.row.name)
	case !in && r.row.stage == RoomJoined && w.e.isGuest():
		return w.guestGoes(r, entries)
	case !in && r.row.stage == RoomJoined:
		cause := RoomWasLeft
		if r.state.Barred(w.e.id.Account) {
			cause = RoomWasRemoved
		}
		return w.goOut(r, cause, "")
	}
	return nil
}

// goOut ends a room for this account, with all that waits, and tells the user why. Of a
// guest, who may knock again, see guestIsOut.
func (w *work) goOut(r *openRoom, cause, text string) error {
	r.row.stage, r.row.joining = RoomOut, false
	return errors.Join(w.setEntries(r, nil), w.failRoomQueue(r), w.dropLinks(r), w.roomEvent(r, cause, text))
}

// pursue writes what this device owes the log: that it joins, if the user wants
// that, and which devices the account has.
func (w *work) pursue(r *openRoom) error {
	if r.state == nil {
		return nil
	}
	list, err := w.entriesToAppend(r)
	if err != nil || len(list) > 0 {
		return err
	}
	own, err := w.e.OwnChain(w.tx)
	if err != nil {
		return err
	}
	m, in := w.me(r)
	if in {
		return w.passOn(r, m, own)
	}
	if !r.row.joining || r.state.Seq() < r.row.toldSeq {
		return nil
	}
	join, ready, err := w.signedIn(r, room.Join{Chain: own.Bytes()})
	if err != nil || !ready {
		return err
	}
	if name := cmp.Or(w.e.id.Display, w.e.id.Name); name != "" {
		k, err := w.sealingKey(r)
		if err != nil {
			return err
		}
		if join.Name, err = k.SealName(r.id, name); err != nil {
			return err
		}
	}
	_, entry, err := r.state.Write(w.now, w.author(), join)
	if err != nil {
		return w.notWritten(r, room.Entry{Op: join}, err)
	}
	return w.setEntries(r, []room.Entry{entry})
}

// passOn adds the statements of a member's chain that the log does not have.
func (w *work) passOn(r *openRoom, m room.Member, known *account.Chain) error {
	if m.Role == room.RoleGuest || !known.Extends(m.Chain) || len(known.Bytes()) == len(m.Chain.Bytes()) {
		return nil
	}
	op := room.Devices{Account: m.Account, Statements: known.Bytes()[len(m.Chain.Bytes()):]}
	if _, _, err := r.state.Write(w.now, w.author(), op); err != nil {
		return nil // this device is not in the log yet, say: another member does it
	}
	if err := w.write(r, op); err != nil && !errors.Is(err, ErrQueueFull) && !errors.Is(err, account.ErrMalformed) {
		return err
	}
	return nil
}

// learnedChain passes a chain that grew on to the rooms that its account is in with
// us: so a revoked device loses them too.
func (w *work) learnedChain(known *account.Chain) error {
	ids, err := roomIDs(w.tx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		r, err := w.room(id)
		if err != nil {
			return err
		}
		if me, in := w.me(r); !in || me.Role == room.RoleGuest {
			continue
		}
		m, in := r.state.Member(known.Account())
		if !in {
			continue
		}
		if err := w.passOn(r, m, known); err != nil {
			return err
		}
	}
	return nil
}
