package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// Two valid logs of one room are a fork. Who hears of one asks the device that has the
// other log for it, so that the user sees both. Nobody's word stops us from writing, only
// another log that is here and that who shows it cannot have made alone. A merge in one
// of the logs ends it.

// forkState is what is known of another log than ours.
type forkState uint8

const (
	forkNone    forkState = iota // nothing, or what stops nothing
	forkStands                   // it is here, and nothing is sent until it is settled
	forkSettled                  // a merge, or the user, decided about what is here
)

var forkStates = []forkState{forkNone, forkStands, forkSettled}

// RoomFork is a room of which two logs were shown.
type RoomFork struct {
	Stands bool               // nothing is sent until KeepRoomLog
	By     protocol.AccountID // who was shown the other log, or says so
	Fork   *room.Fork         // both logs; nil: the other one did not come
}

// RoomFork returns what is known of a fork, and asks for the other log if it is not
// here. ErrNoFork if there is none.
func (e *Engine) RoomFork(tx store.Tx, now time.Time, id protocol.RoomID) (f RoomFork, h Hint, err error) {
	h, err = e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		if f.Fork, err = w.fork(r); err != nil {
			return err
		}
		f.Stands = r.row.fork == forkStands
		if f.Fork == nil && len(r.row.accusers) == 0 {
			return ErrNoFork
		}
		if by := slices.Concat(r.row.ignored, r.row.accusers); len(by) > 0 {
			f.By = by[len(by)-1]
		}
		if f.Fork == nil {
			return w.tellDevices(r, f.By, true)
		}
		return nil
	})
	return f, h, err
}

func (r *roomRow) settle() {
	r.fork = forkSettled
	r.ignored = newestAccusers(append(r.ignored, r.accusers...))
	r.accusers = nil
}

func newestAccusers(list []protocol.AccountID) []protocol.AccountID {
	return list[max(0, len(list)-maxRoomAccusers):]
}

// KeepRoomLog goes on with one of two logs: this account's, or the other; who holds that
// which is given up changes over. It ends the fork for all once an owner has done it, or
// two moderators; a second moderator repeats what the first wrote, without having the
// other log. Who cannot end it for others, and keeps his own log, writes on in that. Else
// it is ErrNoFork while the other log is not here, room.ErrForbidden for who may not:
// with theirs everybody but an owner.
func (e *Engine) KeepRoomLog(tx store.Tx, now time.Time, id protocol.RoomID, theirs bool) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		f, err := w.fork(r)
		if err != nil {
			return err
		}
		if theirs {
			return w.mergeIntoTheirs(r, f)
		}
		err = w.mergeIntoOurs(r, f)
		cannot := errors.Is(err, room.ErrForbidden) || errors.Is(err, ErrNoFork)
		if err != nil && !(cannot && r.row.fork == forkStands) {
			return err
		}
		r.row.settle()
		w.hintRoom(id)
		return nil
	})
}

func (w *work) mergeIntoOurs(r *openRoom, f *room.Fork) error {
	merge, err := w.mergeOfTheirs(r, f)
	if err != nil {
		return err
	}
	return w.write(r, merge)
}

// mergeOfTheirs is the merge that gives up the other log: if that is not here, the same
// as another member's.
func (w *work) mergeOfTheirs(r *openRoom, f *room.Fork) (merge room.Merge, err error) {
	if f != nil {
		return room.NewMerge(slices.Concat(f.Common, f.Ours), slices.Concat(f.Common, f.Theirs))
	}
	log, err := w.entriesIn(tableRoomLog, r.id)
	if err != nil {
		return merge, err
	}
	for _, entry := range slices.Backward(log) {
		o, is := entry.Op.(room.Merge)
		if !is {
			continue
		}
		over, err := w.mergedAway(r, o.Seq, o.Head)
		if err == nil && (over || entry.Account == w.e.id.Account) {
			err = ErrNoFork
		}
		return o, err
	}
	return merge, ErrNoFork
}

func (w *work) mergeIntoTheirs(r *openRoom, f *room.Fork) error {
	if f == nil {
		return ErrNoFork
	}
	ours, theirs := slices.Concat(f.Common, f.Ours), slices.Concat(f.Common, f.Theirs)
	merge, err := room.NewMerge(theirs, ours)
	if err != nil {
		return err
	}
	top, err := room.Fold(theirs)
	if err != nil {
		return err
	}
	_, entry, err := top.Write(w.now, w.author(), merge)
	if err != nil {
		return err
	}
	if _, err := room.Adopt(ours, append(slices.Clone(theirs), entry)); err != nil {
		return err
	}
	if err := w.changeOver(r, f, top); err != nil {
		return err
	}
	list, err := w.entriesToAppend(r)
	if err != nil {
		return err
	}
	if list, err = w.rebase(r, top, append([]room.Entry{entry}, unmerged(list)...)); err != nil {
		return err
	}
	return w.setEntries(r, list)
}

// fork returns both logs; nil if another one is not here, or merges ended the fork.
func (w *work) fork(r *openRoom) (*room.Fork, error) {
	branch, err := w.entriesIn(tableRoomBranch, r.id)
	if err != nil || len(branch) == 0 {
		return nil, err
	}
	ours, err := w.entriesIn(tableRoomLog, r.id)
	if err != nil {
		return nil, err
	}
	first, newest := branch[0].Seq, branch[len(branch)-1]
	if over, err := w.mergedAway(r, newest.Seq, newest.Hash()); over || err != nil || first >= uint64(len(ours)) {
		return nil, err
	}
	return &room.Fork{Common: ours[:first], Ours: ours[first:], Theirs: branch}, nil
}

func (w *work) entriesIn(table byte, id protocol.RoomID) ([]room.Entry, error) {
	return entriesFrom(w.tx, table, id, 0)
}

// entriesFrom reads entries of a room from a place of a table on.
func entriesFrom(tx store.Tx, table byte, id protocol.RoomID, place uint64) (list []room.Entry, err error) {
	for pair, err := range tx.Scan(keyRoomItem(table, id, place), store.PrefixEnd(store.Key(table, id[:]))) {
		if err != nil {
			return nil, err
		}
		entry, err := room.ParseEntry(pair.Value)
		if err != nil {
			return nil, fmt.Errorf("entry of a room: %w", store.ErrDamaged)
		}
		list = append(list, entry)
	}
	return list, nil
}

// forked does what follows when a device signed for another log than ours, which has an
// entry of this hash there: the user is told, and the device asked for that log.
func (w *work) forked(r *openRoom, by protocol.DeviceID, seq uint64, head [32]byte) error {
	_, answered, err := w.answeredBranch(r, by, seq, head)
	if err != nil || answered || r.row.fork == forkStands || w.accused(r, by) || !w.e.limits.asked.left(w.now, by) {
		return err
	}
	over, err := w.mergedAway(r, seq, head)
	if err != nil {
		return err
	}
	if over {
		return w.tellHeads(r, by, false)
	}
	return errors.Join(w.accuse(r, by), w.tellHeads(r, by, true))
}

// answeredBranch tells whether an entry that a device names is of the other log that is
// here; if that is decided about, the device is answered how our log goes.
func (w *work) answeredBranch(r *openRoom, by protocol.DeviceID, seq uint64, head [32]byte) (known, answered bool, err error) {
	known, err = w.inBranch(r, seq, head)
	if err != nil || !known || r.row.fork != forkSettled {
		return known, false, err
	}
	return true, true, w.tellHeads(r, by, false)
}

// accused tells that the user was told of what the account of a device says, or of
// enough others.
func (w *work) accused(r *openRoom, by protocol.DeviceID) bool {
	a, _, _ := r.state.AccountOf(by)
	return len(r.row.accusers) == maxRoomAccusers || slices.Contains(r.row.ignored, a) || slices.Contains(r.row.accusers, a)
}

// accuse notes that a member says to have another log, and tells the user so once. Of
// guests nothing is noted: who knows the password is as many of them as he likes.
func (w *work) accuse(r *openRoom, by protocol.DeviceID) error {
	a, _, _ := r.state.AccountOf(by)
	if m, _ := r.state.Member(a); m.Role == room.RoleGuest || w.accused(r, by) {
		return nil
	}
	r.row.accusers = append(r.row.accusers, a)
	return w.roomEvent(r, RoomWasForked, fmt.Sprintf("device %s of %v was shown another log of this room, or says so", short(by), a))
}

// weighs tells whether another log, which is valid, stops us from writing when this
// account shows it. Anybody in the room can sign entries to follow an old one, so there
// has to be one of somebody else, who was in the room where the logs part. For who may
// remove people his own do: he can do worse, and a removal of his may be what we are not
// shown. Guests count on neither side.
func (w *work) weighs(r *openRoom, f *room.Fork, from protocol.AccountID) (bool, error) {
	if m, _ := r.state.Member(from); m.Role == room.RoleGuest {
		return false, nil
	}
	if from == w.e.id.Account || r.state.Rights(from).Has(room.Kick) {
		return true, nil
	}
	base, err := room.Fold(f.Common)
	if err != nil {
		return false, fmt.Errorf("log of a room: %w: %v", store.ErrDamaged, err)
	}
	return slices.ContainsFunc(f.Theirs, func(entry room.Entry) bool {
		m, in := base.Member(entry.Account)
		return in && m.Role != room.RoleGuest && entry.Account != from
	}), nil
}

// stop stops writing until the fork is settled; not again for somebody after whose alarm
// the user went on.
func (w *work) stop(r *openRoom, from protocol.AccountID) error {
	if r.row.fork == forkStands || slices.Contains(r.row.ignored, from) {
		return nil
	}
	r.row.fork = forkStands
	if !slices.Contains(r.row.accusers, from) {
		r.row.accusers = newestAccusers(append(r.row.accusers, from))
	}
	w.hintRoom(r.id)
	return w.roomEvent(r, RoomWasForked, fmt.Sprintf("%v was shown another log of this room: nothing is sent until you have looked", from))
}

// inBranch tells that an entry is of the other log that is here.
func (w *work) inBranch(r *openRoom, seq uint64, head [32]byte) (bool, error) {
	b, err := get(w.tx, keyRoomItem(tableRoomBranch, r.id, seq))
	if err != nil || b == nil {
		return false, err
	}
	entry, err := room.ParseEntry(b)
	return err == nil && entry.Hash() == head, nil
}

// mergedAway tells that merges in our log end the fork to the log with this entry as
// its newest: one of an owner, or two of moderators.
func (w *work) mergedAway(r *openRoom, seq uint64, head [32]byte) (bool, error) {
	log, err := w.entriesIn(tableRoomLog, r.id)
	if err != nil {
		return false, err
	}
	by := map[protocol.AccountID]bool{}
	for _, entry := range log {
		o, is := entry.Op.(room.Merge)
		if !is || o.Seq != seq || o.Head != head {
			continue
		}
		by[entry.Account] = true
		if m, _ := r.state.Member(entry.Account); m.Role == room.RoleOwner || len(by) == 2 {
			return true, nil
		}
	}
	return false, nil
}

// merged ends the alarm when there is a merge in our log.
func (w *work) merged(r *openRoom, o room.Merge) error {
	if enough, err := w.mergedAway(r, o.Seq, o.Head); !enough || err != nil {
		return err
	}
	r.row.settle()
	w.hintRoom(r.id)
	return w.tellOfMerge(r)
}

// changeOver goes on with the other log of a fork, whose state is next. What is kept of
// the one given up tells who still has it.
func (w *work) changeOver(r *openRoom, f *room.Fork, next *room.State) error {
	waiting, err := w.entriesToAppend(r)
	if err != nil {
		return err
	}
	before := r.state
	if err := errors.Join(
		w.deleteFrom(tableRoomLog, r.id, f.Theirs[0].Seq), w.setAll(tableRoomLog, r.id, f.Theirs), w.setBranch(r, f.Ours),
	); err != nil {
		return err
	}
	r.state, r.row.seq, r.row.head = next, next.Seq(), next.Head()
	r.row.fork, r.row.aheadSeq, r.row.accusers, r.row.ignored = forkSettled, 0, nil, nil
	w.e.keepFolded(w.now, r.id, next)
	if waiting, err = w.rebase(r, before, unmerged(waiting)); err != nil {
		return err
	}
	text := fmt.Sprintf("the log of this room goes on as others have it from entry %d on", f.Theirs[0].Seq)
	if err := errors.Join(w.setEntries(r, waiting), w.roomEvent(r, RoomWasMerged, text), w.entered(r, f.Theirs)); err != nil {
		return err
	}
	return errors.Join(w.bringDevices(r, before), w.sealAgain(r))
}

// unmerged leaves out merges that wait: they were of the log that was here.
func unmerged(list []room.Entry) []room.Entry {
	return slices.DeleteFunc(list, func(entry room.Entry) bool { return entry.Op.Kind() == room.KindMerge })
}

// bringDevices adds the statements that the log which was given up had: a revoked
// device is back until then.
func (w *work) bringDevices(r *openRoom, before *room.State) error {
	if _, in := w.me(r); !in {
		return nil
	}
	for _, m := range before.Members() {
		now, in := r.state.Member(m.Account)
		if !in {
			continue
		}
		if err := w.passOn(r, now, m.Chain); err != nil {
			return err
		}
	}
	return nil
}

// sealAgain takes back what was sealed by the log that was given up: epochs may have
// the same number there, for other readers.
func (w *work) sealAgain(r *openRoom) error {
	err := all(w.tx, store.Key(tableRoomOut, r.id[:]), func(pair store.Pair) (bool, error) {
		row, err := decodeRow[roomOutRow](pair.Value)
		if err != nil || len(row.sealed) == 0 {
			return err == nil, err
		}
		row.epoch = 0
		return true, w.put(pair.Key, &row)
	})
	if err != nil || !w.maySend(r) {
		return err
	}
	s, err := w.senderOf(r)
	if err != nil {
		return err
	}
	return w.startChain(r, s)
}
