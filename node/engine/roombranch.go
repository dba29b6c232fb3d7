package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Members tell each other how their logs of a room go, and give each other what one has
// and the other has not, through their sessions: the rendezvous, which may show them
// different logs, cannot keep them from it.

const (
	maxBranch  = 256 << 10       // bytes of entries of another log
	maxPlaces  = 64              // entries named in one RoomHeads
	askLogTime = 2 * time.Minute // how long the rendezvous may take to show what a member has
)

// tellHeads tells a device of a member how our log goes, and may ask how its does.
func (w *work) tellHeads(r *openRoom, device protocol.DeviceID, ask bool) error {
	to, in := r.state.Device(device)
	if !in || device == w.e.id.Device || !w.e.limits.asked.left(w.now, device) {
		return nil
	}
	w.e.limits.asked.take(w.now, device)
	places, err := w.places(r)
	if err != nil {
		return err
	}
	heads := &wire.RoomHeads{Room: r.id[:], Places: places, Ask: ask}
	return w.postToMate(r, to, &wire.Content{Body: &wire.Content_RoomHeads{RoomHeads: heads}})
}

func (w *work) postToMate(r *openRoom, to room.Device, content *wire.Content) error {
	d, err := w.mateDevice(r, to)
	if err != nil || d == nil {
		return err
	}
	_, err = w.postOther(to.ID, d, wire.MailKind_ROOM, content)
	return err
}

// places are the newest entry of our log, the first, and some between, dense at the
// end; and, of a fork, where the logs part, and how far the other is here.
func (w *work) places(r *openRoom) (list []*wire.RoomPlace, err error) {
	add := func(seq uint64, hash [32]byte) { list = append(list, &wire.RoomPlace{Seq: seq, Hash: hash[:]}) }
	last := r.state.Seq()
	for back := uint64(0); back < last; back = 2*back + 1 {
		hash, _ := r.state.At(last - back)
		add(last-back, hash)
	}
	add(0, r.id)
	branch, err := w.entriesIn(tableRoomBranch, r.id)
	if err != nil || len(branch) == 0 {
		return list, err
	}
	if hash, ok := r.state.At(branch[0].Seq); ok {
		add(branch[0].Seq, hash)
	}
	if end := branch[len(branch)-1]; r.row.fork != forkSettled {
		add(end.Seq, end.Hash())
	}
	return list, nil
}

// mateRoom is the room that a member tells something of; nil if it is none, or not of a
// member.
func (w *work) mateRoom(in *incoming, b []byte) (*openRoom, error) {
	id, err := protocol.FromBytes[protocol.RoomID](b)
	if err != nil {
		return nil, nil
	}
	r, err := w.room(id)
	if err == ErrNoRoom || err == nil && (r.row.stage != RoomJoined || r.state == nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if a, _, ok := r.state.AccountOf(in.from); !ok || a != in.d.account {
		return nil, nil
	}
	return r, nil
}

// receiveRoomHeads holds the log of a member against ours, and answers with what it
// asks for.
func (w *work) receiveRoomHeads(in *incoming, heads *wire.RoomHeads) error {
	r, err := w.mateRoom(in, heads.GetRoom())
	if err != nil || r == nil || len(heads.GetPlaces()) > maxPlaces {
		return err
	}
	var common, end uint64
	var head [32]byte // at end: the newest entry that we do not have
	shared, differs := false, false
	for _, p := range heads.GetPlaces() {
		if len(p.GetHash()) != len(head) {
			return nil
		}
		hash, known := r.state.At(p.GetSeq())
		switch {
		case known && hash == [32]byte(p.GetHash()):
			shared, common = true, max(common, p.GetSeq())
		case known:
			differs = true
		}
		if p.GetSeq() >= end && hash != [32]byte(p.GetHash()) {
			end, head = p.GetSeq(), [32]byte(p.GetHash())
		}
	}
	if !shared {
		return nil
	}
	if differs {
		if err := w.otherHeads(r, in.from, end, head, heads.GetAsk()); err != nil {
			return err
		}
	}
	if !heads.GetAsk() {
		return nil
	}
	return w.sendLog(r, in.from, common+1)
}

// otherHeads answers a device that names the newest entry of another log, and asks for
// that if it is not here: there may be a merge in it.
func (w *work) otherHeads(r *openRoom, by protocol.DeviceID, seq uint64, head [32]byte, asks bool) error {
	known, _, err := w.answeredBranch(r, by, seq, head)
	if err != nil || known || asks && r.row.fork != forkNone || !w.e.limits.asked.left(w.now, by) {
		return err
	}
	over, err := w.mergedAway(r, seq, head)
	if err != nil {
		return err
	}
	return w.tellHeads(r, by, !over)
}

// sendLog gives a member's device entries of our log.
func (w *work) sendLog(r *openRoom, device protocol.DeviceID, from uint64) error {
	to, in := r.state.Device(device)
	if !in || from > r.row.seq || !w.e.limits.logs.left(w.now, device) {
		return nil
	}
	w.e.limits.logs.take(w.now, device)
	entries, err := w.e.RoomLog(w.tx, r.id, from, shareEntryBytes)
	if err != nil {
		return err
	}
	log := &wire.RoomLog{Room: r.id[:], Entries: entries, Seq: r.row.seq}
	return w.postToMate(r, to, &wire.Content{Body: &wire.Content_RoomLog{RoomLog: log}})
}

// receiveRoomLog takes entries of another log of a room; or, from a device of ours, of
// the log of a room that the account is in no more.
func (w *work) receiveRoomLog(in *incoming, l *wire.RoomLog) error {
	if in.p.relation == Self {
		if done, err := w.takeOldLog(l); done || err != nil {
			return err
		}
	}
	r, err := w.mateRoom(in, l.GetRoom())
	if err != nil || r == nil || !w.e.limits.branches.left(w.now, in.from) {
		return err
	}
	w.e.limits.branches.take(w.now, in.from)
	end, err := w.takeBranch(r, in.from, l.GetEntries())
	if err != nil || end == 0 || end >= l.GetSeq() {
		return err
	}
	return w.tellHeads(r, in.from, true)
}

// takeOldLog is receiveRoomLog for a room that the account is in no more.
func (w *work) takeOldLog(l *wire.RoomLog) (done bool, err error) {
	id, err := protocol.FromBytes[protocol.RoomID](l.GetRoom())
	if err != nil {
		return true, nil
	}
	r, err := w.room(id)
	if err == ErrNoRoom || err == nil && r.row.stage != RoomOut {
		return false, nil
	}
	if err == nil {
		err = w.takeLog(r, l.GetEntries())
	}
	if errors.Is(err, ErrRoomLog) {
		err = nil
	}
	return true, err
}

// takeBranch takes entries of another log, and changes over if a merge in it allows
// that. It returns how far that log is here; 0: they are of none.
func (w *work) takeBranch(r *openRoom, by protocol.DeviceID, raw [][]byte) (end uint64, err error) {
	have, err := w.entriesIn(tableRoomBranch, r.id)
	if err != nil {
		return 0, err
	}
	branch := joinBranch(r.state, have, raw)
	if branch == nil {
		return 0, nil
	}
	ours, err := w.entriesIn(tableRoomLog, r.id)
	if err != nil {
		return 0, err
	}
	f := &room.Fork{Common: ours[:branch[0].Seq], Ours: ours[branch[0].Seq:], Theirs: branch}
	next, err := room.Adopt(ours, slices.Concat(f.Common, branch))
	if err == nil {
		return next.Seq(), w.changeOver(r, f, next)
	}
	if !errors.Is(err, room.ErrUnmerged) {
		return 0, nil
	}
	from, _, _ := r.state.AccountOf(by)
	weighs, err := w.weighs(r, f, from)
	if err != nil || !weighs && r.row.fork != forkNone { // it is not to push out one that does
		return 0, err
	}
	newest := branch[len(branch)-1]
	known, err := w.inBranch(r, newest.Seq, newest.Hash())
	over, err2 := w.mergedAway(r, newest.Seq, newest.Hash())
	if err := errors.Join(err, err2, w.setBranch(r, branch)); err != nil {
		return 0, err
	}
	if over || known && r.row.fork == forkSettled {
		return newest.Seq, w.tellHeads(r, by, false)
	}
	if weighs {
		return newest.Seq, w.stop(r, from)
	}
	return newest.Seq, w.accuse(r, by)
}

// joinBranch puts entries behind those of a branch that are here, or begins one with
// them; nil if they fit nowhere, or are too many.
func joinBranch(ours *room.State, have []room.Entry, raw [][]byte) (branch []room.Entry) {
	size := 0
	for _, b := range raw {
		entry, err := room.ParseEntry(b)
		if err != nil {
			return nil
		}
		if hash, ok := ours.At(entry.Seq); !ok || hash != entry.Hash() {
			branch, size = append(branch, entry), size+len(b)
		}
	}
	if len(branch) == 0 || branch[0].Seq == 0 {
		return nil
	}
	if n := len(have); n > 0 && have[n-1].Hash() == branch[0].Prev {
		for _, entry := range have {
			size += len(entry.Bytes())
		}
		branch = append(have, branch...)
	}
	before, ok := ours.At(branch[0].Seq - 1)
	if !ok || before != branch[0].Prev || branch[0].Seq > ours.Seq() || size > maxBranch {
		return nil
	}
	return branch
}

func (w *work) setBranch(r *openRoom, branch []room.Entry) error {
	if err := w.deleteFrom(tableRoomBranch, r.id, 0); err != nil {
		return err
	}
	return w.setAll(tableRoomBranch, r.id, branch)
}

func (w *work) setAll(table byte, id protocol.RoomID, entries []room.Entry) error {
	for _, entry := range entries {
		if err := w.set(keyRoomItem(table, id, entry.Seq), entry.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) deleteFrom(table byte, id protocol.RoomID, from uint64) error {
	for pair, err := range w.tx.Scan(keyRoomItem(table, id, from), store.PrefixEnd(store.Key(table, id[:]))) {
		if err != nil {
			return err
		}
		if err := w.delete(pair.Key); err != nil {
			return err
		}
	}
	return nil
}

// tellOfMerge tells those who were shown the other log that there is a merge.
func (w *work) tellOfMerge(r *openRoom) error {
	for _, a := range r.row.ignored {
		if err := w.tellDevices(r, a, false); err != nil {
			return err
		}
	}
	return nil
}

// tellDevices is tellHeads for all devices of a member.
func (w *work) tellDevices(r *openRoom, a protocol.AccountID, ask bool) error {
	m, _ := r.state.Member(a)
	for _, d := range m.Devices() {
		if err := w.tellHeads(r, d.ID, ask); err != nil {
			return err
		}
	}
	return nil
}

// askIfItDoesNotCome asks a device later for its log, if ours does not get to an epoch
// that it names: the rendezvous may show another one.
func (w *work) askIfItDoesNotCome(r *openRoom, device protocol.DeviceID, epoch uint64) error {
	if !w.e.limits.asked.left(w.now, device) {
		return nil
	}
	k, at := roomDevice{r.id, device}, w.now.Add(askLogTime)
	w.e.aheads.name(w.now, k, r.state.Epoch(), epoch)
	if !w.e.aheads.askAt(w.now, at, k) {
		return nil
	}
	return w.at(at, timerRoomAsk, slices.Concat(r.id[:], device[:]))
}

// askForLog does what askIfItDoesNotCome put off.
func (w *work) askForLog(id []byte) error {
	if len(id) != 64 {
		return fmt.Errorf("timer row: %w", store.ErrDamaged)
	}
	r, err := w.room(protocol.RoomID(id[:32]))
	if err == ErrNoRoom {
		return nil
	}
	device := protocol.DeviceID(id[32:])
	if err != nil || r.state == nil || r.row.stage != RoomJoined || r.state.Epoch() >= w.e.aheads.newest(roomDevice{r.id, device}) {
		return err
	}
	return w.tellHeads(r, device, true)
}
