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
// other log for it, so that the user sees both. A merge in one of them ends it.

// RoomFork is a room of which two logs were shown.
type RoomFork struct {
	Stands bool               // nothing is sent until MergeRoom or SettleRoomFork
	Device protocol.DeviceID  // that was shown the other log, or says so
	By     protocol.AccountID // whose it is
	Fork   *room.Fork         // both logs; nil: the other one did not come
}

// RoomFork returns what is known of a fork, and asks for the other log if it is not
// here. ErrNoFork if there is none.
func (e *Engine) RoomFork(tx store.Tx, now time.Time, id protocol.RoomID) (f RoomFork, h Hint, err error) {
	h, err = e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		if f.Fork, err = w.fork(r); err != nil {
			return err
		}
		f.Stands = len(r.row.fork) > 0
		if !f.Stands && f.Fork == nil {
			return ErrNoFork
		}
		if n := len(r.row.ignored); n > 0 {
			f.Device = r.row.ignored[n-1]
			f.By, _, _ = r.state.AccountOf(f.Device)
		}
		if f.Fork == nil {
			return w.tellHeads(r, f.Device, true)
		}
		return nil
	})
	return f, h, err
}

// SettleRoomFork goes on in a room with the log that is here, after the user looked at
// an alarm.
func (e *Engine) SettleRoomFork(tx store.Tx, now time.Time, id protocol.RoomID) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		r.row.fork = nil
		w.hintRoom(id)
		return nil
	})
}

// MergeRoom ends a fork: for all, once an owner has done it, or two moderators. Either
// this account's log goes on, or the other; who holds that which is given up changes
// over. A second moderator repeats what the first wrote, without having the other log; else
// it is ErrNoFork while that is not here. room.ErrForbidden for who may not, for theirs for
// everybody but an owner.
func (e *Engine) MergeRoom(tx store.Tx, now time.Time, id protocol.RoomID, theirs bool) (Hint, error) {
	return e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		f, err := w.fork(r)
		if err != nil {
			return err
		}
		if theirs {
			return w.mergeIntoTheirs(r, f)
		}
		merge, err := w.mergeOfTheirs(r, f)
		if err != nil {
			return err
		}
		if err := w.write(r, merge); err != nil {
			return err
		}
		r.row.fork = nil
		return nil
	})
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

func (w *work) entriesIn(table byte, id protocol.RoomID) (list []room.Entry, err error) {
	err = all(w.tx, store.Key(table, id[:]), func(pair store.Pair) (bool, error) {
		entry, err := room.ParseEntry(pair.Value)
		if err != nil {
			return false, fmt.Errorf("log of a room: %w", store.ErrDamaged)
		}
		list = append(list, entry)
		return true, nil
	})
	return list, err
}

// forked notes that a device signed for another log than ours, which has an entry of
// this hash there.
func (w *work) forked(r *openRoom, by protocol.DeviceID, seq uint64, head [32]byte, evidence []byte) error {
	if given, err := w.givenUp(r, seq, head); given || err != nil {
		return errors.Join(err, w.tellHeads(r, by, false))
	}
	if len(r.row.fork) > 0 || slices.Contains(r.row.ignored, by) || !w.e.limits.asked.left(w.now, by) {
		return nil
	}
	if len(r.row.ignored) == maxRoomIgnored {
		r.row.ignored = r.row.ignored[1:]
	}
	r.row.ignored = append(r.row.ignored, by) // only one alarm of each
	if merged, err := w.mergedAway(r, seq, head); merged || err != nil {
		return errors.Join(err, w.tellHeads(r, by, false))
	}
	r.row.fork = slices.Clone(evidence)
	who, _, _ := r.state.AccountOf(by)
	text := fmt.Sprintf("device %s of %v was shown another log of this room, or says so", short(by), who)
	return errors.Join(w.roomEvent(r, RoomWasForked, text), w.tellHeads(r, by, true))
}

// givenUp tells that an entry is of a log that the user decided about.
func (w *work) givenUp(r *openRoom, seq uint64, head [32]byte) (bool, error) {
	if len(r.row.fork) > 0 {
		return false, nil
	}
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
	r.row.fork = nil
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
	r.row.fork, r.row.aheadSeq, r.row.ignored = nil, 0, nil
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
