package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// What this account does in a room is an entry that waits until whoever orders
// the log has taken it. Entries that wait are written one on top of the other, the
// first on top of the log; when others were first they are written again.

// CreateRoom makes a room with this account as its owner, at the account's
// rendezvous. It is there at once, for others when its first entry was appended.
// ErrManyRooms; errors of room for a bad name or topic.
func (e *Engine) CreateRoom(tx store.Tx, now time.Time, about room.About) (protocol.RoomID, Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return protocol.RoomID{}, Hint{}, err
	}
	own, err := e.OwnChain(tx)
	if err != nil {
		return protocol.RoomID{}, Hint{}, err
	}
	state, first, err := room.NewRoom(w.now, w.author(), own)
	if err != nil {
		return protocol.RoomID{}, Hint{}, err
	}
	id := state.Room()
	home, err := loadIdentity(tx) // where it is now
	if err != nil {
		return id, Hint{}, err
	}
	row := roomRow{stage: RoomJoined, home: home.Home, name: about.Name, since: w.now, made: true, known: true, head: state.Head()}
	r, err := w.addRoom(id, row)
	if err != nil {
		return id, Hint{}, err
	}
	if err := w.set(keyRoomItem(tableRoomLog, id, 0), first.Bytes()); err != nil {
		return id, Hint{}, err
	}
	r.state = state
	e.keepFolded(w.now, id, state)
	if err := errors.Join(w.describe(r, about), w.tellSiblingsOfRoom(r), w.roomEvent(r, "create", about.Name)); err != nil {
		return id, Hint{}, err
	}
	h, err := w.end()
	return id, h, err
}

// WriteRoom does something in a room. Errors are those of room.State.Write: who may
// not do it is told at once; and ErrNoRoom, ErrNotInRoom, ErrQueueFull. For name and
// topic see DescribeRoom, to come in JoinRoom.
func (e *Engine) WriteRoom(tx store.Tx, now time.Time, id protocol.RoomID, op room.Op) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error { return w.write(r, op) })
}

// InviteToRoom lets a contact join, and tells it when the log says so. ErrNotContact
// for anybody else.
func (e *Engine) InviteToRoom(tx store.Tx, now time.Time, id protocol.RoomID, a protocol.AccountID) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		p, err := w.peer(a)
		if err == ErrNotFound || err == nil && p.relation != Accepted {
			return ErrNotContact
		}
		if err != nil {
			return err
		}
		return w.write(r, room.Invite{Account: a})
	})
}

// DescribeRoom changes name and topic.
func (e *Engine) DescribeRoom(tx store.Tx, now time.Time, id protocol.RoomID, about room.About) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error { return w.describe(r, about) })
}

// LeaveRoom takes this account out of a room, or turns an invitation down.
func (e *Engine) LeaveRoom(tx store.Tx, now time.Time, id protocol.RoomID) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	r, err := w.room(id)
	if err != nil {
		return Hint{}, err
	}
	r.row.joining = false
	if _, in := w.me(r); in {
		err = w.write(r, room.Leave{})
	} else {
		r.row.stage = RoomOut
		err = errors.Join(w.setEntries(r, nil), w.roomEvent(r, "declined", ""))
	}
	if err != nil {
		return Hint{}, err
	}
	return w.end()
}

// JoinRoom joins a room that this account was invited to: as soon as its log is
// here, and again if others are first. What becomes of it an event says.
func (e *Engine) JoinRoom(tx store.Tx, now time.Time, id protocol.RoomID) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	r, err := w.room(id)
	if err != nil {
		return Hint{}, err
	}
	if _, in := w.me(r); !in {
		r.row.joining = true
		w.hintRoom(id)
		if err := w.pursue(r); err != nil {
			return Hint{}, err
		}
	}
	return w.end()
}

// inRoom runs fn for a room that this account is in.
func (e *Engine) inRoom(tx store.Tx, now time.Time, id protocol.RoomID, fn func(*work, *openRoom) error) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	r, err := w.room(id)
	if err != nil {
		return Hint{}, err
	}
	if _, in := w.me(r); !in {
		return Hint{}, ErrNotInRoom
	}
	if err := fn(w, r); err != nil {
		return Hint{}, err
	}
	return w.end()
}

func (w *work) describe(r *openRoom, about room.About) error {
	k, err := w.sealingKey(r)
	if err != nil {
		return err
	}
	sealed, err := k.SealAbout(r.id, about)
	if err != nil {
		return err
	}
	return w.write(r, room.Describe{About: sealed})
}

// write makes an entry that waits to be appended. A removal goes before what else
// waits.
func (w *work) write(r *openRoom, op room.Op) error {
	list, err := w.entriesToAppend(r)
	if err != nil {
		return err
	}
	if len(list) >= maxRoomEntries {
		return ErrQueueFull
	}
	top, err := r.state.Extend(list...)
	if err != nil {
		return fmt.Errorf("entries that wait: %w: %v", store.ErrDamaged, err)
	}
	_, entry, err := top.Write(w.now, w.author(), op)
	if err != nil {
		return err
	}
	if list, err = w.rebase(r, r.state, append(list, entry)); err != nil {
		return err
	}
	return w.setEntries(r, list)
}

// entriesToAppend are the entries that wait to be appended, in order.
func (w *work) entriesToAppend(r *openRoom) (list []room.Entry, err error) {
	err = all(w.tx, store.Key(tableRoomEntry, r.id[:]), func(pair store.Pair) (bool, error) {
		entry, err := room.ParseEntry(pair.Value)
		if err != nil {
			return false, fmt.Errorf("entry that waits: %w", store.ErrDamaged)
		}
		list = append(list, entry)
		return true, nil
	})
	return list, err
}

func (w *work) setEntries(r *openRoom, list []room.Entry) error {
	old, err := w.entriesToAppend(r)
	if err != nil {
		return err
	}
	for i := range max(len(old), len(list)) {
		key := keyRoomItem(tableRoomEntry, r.id, uint64(i))
		switch {
		case i >= len(list):
			err = w.delete(key)
		case i >= len(old) || old[i].Hash() != list[i].Hash():
			err = w.set(key, list[i].Bytes())
		}
		if err != nil {
			return err
		}
	}
	if len(list) > 0 {
		w.hintRoom(r.id)
	}
	return nil
}

// rebase writes entries again that were written on top of before, and now belong on
// top of the log as it is: removals first. What need not be done any more goes, and
// what may not, with an event.
func (w *work) rebase(r *openRoom, before *room.State, list []room.Entry) ([]room.Entry, error) {
	byRank := func(a, b room.Entry) int { return cmp.Compare(room.Precedence(a.Op), room.Precedence(b.Op)) }
	if before == r.state && slices.IsSortedFunc(list, byRank) {
		return list, nil
	}
	bases := map[[32]byte]*room.State{}
	for _, entry := range list {
		bases[entry.Hash()] = before
		next, err := before.Extend(entry)
		if err != nil {
			return nil, fmt.Errorf("entries that wait: %w: %v", store.ErrDamaged, err)
		}
		before = next
	}
	slices.SortStableFunc(list, byRank)
	var again []room.Entry
	top := r.state
	for _, entry := range list {
		next, rewritten, err := top.Rebase(w.now, w.author(), entry, bases[entry.Hash()])
		if err == nil {
			top, again = next, append(again, rewritten)
			continue
		}
		if errors.Is(err, room.ErrNoEffect) {
			continue
		}
		if err := w.notWritten(r, entry, err); err != nil {
			return nil, err
		}
	}
	return again, nil
}

// notWritten tells the user that an entry of ours will not be in the log.
func (w *work) notWritten(r *openRoom, entry room.Entry, cause error) error {
	switch entry.Op.(type) {
	case room.Devices: // nobody asked for it; somebody else brought the statements
		return nil
	case room.Join:
		r.row.joining = false
	}
	return w.roomEvent(r, "not_done", cause.Error())
}

// takeLog takes entries that follow the log as it is here; those that are here are
// passed over. Entries that are wrong are ErrRoomLog, and nothing changes.
func (w *work) takeLog(r *openRoom, raw [][]byte) error {
	before := r.state
	entries, err := w.newEntries(r, raw)
	if err != nil || len(entries) == 0 {
		return err
	}
	after, err := extend(before, entries)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRoomLog, err)
	}
	if after.Room() != r.id {
		return fmt.Errorf("%w: the log of another room", ErrRoomLog)
	}
	if hash, ok := after.At(r.row.toldSeq); ok && r.row.stage != RoomJoined && r.row.toldHead != ([32]byte{}) && hash != r.row.toldHead {
		return fmt.Errorf("%w: not the one that the inviting contact has", ErrRoomLog)
	}
	for _, entry := range entries {
		if err := w.set(keyRoomItem(tableRoomLog, r.id, entry.Seq), entry.Bytes()); err != nil {
			return err
		}
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
	return w.entered(r, entries)
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
		if entry.Device == w.e.id.Device {
			if err := w.enteredOwn(r, entry); err != nil {
				return err
			}
		}
		if r.row.stage != RoomJoined || !in { // not what was before us
			continue
		}
		if op, is := entry.Op.(room.Devices); is && op.Account == w.e.id.Account { // one of them may be new
			if err := w.tellSiblingsOfRoom(r); err != nil {
				return err
			}
		}
		if err := w.roomEvent(r, kindNames[entry.Op.Kind()], entry.Account.String()); err != nil {
			return err
		}
	}
	if err := errors.Join(w.settleStage(r, in), w.judgeAhead(r), w.pursue(r)); err != nil {
		return err
	}
	w.hintRoom(r.id) // messages of the new epoch may be here, and others need our keys
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
		return w.giveFresh(r, op.Name)
	}
	return nil
}

// settleStage changes what the room is to us when we came in or are out.
func (w *work) settleStage(r *openRoom, in bool) error {
	switch {
	case in && r.row.stage != RoomJoined:
		r.row.stage, r.row.joining, r.row.since = RoomJoined, false, w.now
		return w.roomEvent(r, "joined", r.row.name)
	case !in && r.row.stage == RoomJoined:
		r.row.stage = RoomOut
		removed, _ := r.state.Barred(w.e.id.Account)
		cause := "left"
		if removed {
			cause = "removed"
		}
		return errors.Join(w.setEntries(r, nil), w.failRoomQueue(r), w.roomEvent(r, cause, ""))
	}
	return nil
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
	join := room.Join{Chain: own.Bytes()}
	if w.e.id.Display != "" {
		k, err := w.sealingKey(r)
		if err != nil {
			return err
		}
		if join.Name, err = k.SealName(r.id, w.e.id.Display); err != nil {
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

// kindNames are the causes of events about entries.
var kindNames = map[room.Kind]string{
	room.KindCreate: "create", room.KindInvite: "invite", room.KindUninvite: "uninvite", room.KindLink: "link",
	room.KindUnlink: "unlink", room.KindJoin: "join", room.KindLeave: "leave", room.KindRemove: "remove",
	room.KindBan: "ban", room.KindUnban: "unban", room.KindSetRole: "role", room.KindSetMemberRights: "rights",
	room.KindSetRoleRights: "role_rights", room.KindLock: "lock", room.KindDescribe: "describe",
	room.KindSetPassword: "password", room.KindGuestJoin: "guest_join", room.KindGuestRenew: "guest_renew",
	room.KindGuestExpire: "guest_expire", room.KindDevices: "devices", room.KindRotate: "rotate", room.KindMerge: "merge",
}
