package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/store"
)

// Members give each other what was said lately, sealed as it came, for when the
// rendezvous is away or does not have it. They believe each other no more than it:
// every message is signed by its author, and judged like one of the room's mailbox.

const (
	maxRoomLent  = 4 << 20            // bytes of messages of one room
	lentTime     = 7 * 24 * time.Hour // about: they go when something else is kept, or with the sweep
	maxRoomWants = 4096
	maxGiveRows  = 8192 // messages looked at for one question: about all that are kept of a room
)

// ErrBadWants tells that a member asks for more runs of messages than may be, or for one
// message twice.
var ErrBadWants = errors.New("too many ranges, or ranges that overlap")

// lend keeps a message that was verified, or is our own, for other members.
func (w *work) lend(r *openRoom, m message.Message) error {
	key := keyRoomFrom(tableRoomLent, r.id, m.Device, m.Number)
	have, err := get(w.tx, key)
	if err != nil || have != nil {
		return err
	}
	total, _, err := load[lentRow](w.tx, keyRoomLent(r.id))
	if err != nil {
		return err
	}
	total.newest++
	total.bytes += uint64(len(m.Bytes()))
	age := lentAgeRow{device: m.Device, number: m.Number, size: uint32(len(m.Bytes())), since: w.now}
	if err := errors.Join(w.set(key, m.Bytes()), w.put(keyRoomItem(tableRoomLentAge, r.id, total.newest), &age)); err != nil {
		return err
	}
	return w.dropLent(r.id, total, lentTime)
}

// dropLent drops what is older, and what is too much, and writes the total.
func (w *work) dropLent(id protocol.RoomID, total lentRow, older time.Duration) error {
	rows := 0
	for pair, err := range w.tx.Scan(keyRoomItem(tableRoomLentAge, id, 0), keyRoomItem(tableRoomLentAge, id, total.newest+1)) {
		if err != nil {
			return err
		}
		age, err := decodeRow[lentAgeRow](pair.Value)
		if err != nil {
			return err
		}
		if total.bytes <= maxRoomLent && w.now.Sub(age.since) < older || w.full(rows) {
			break
		}
		rows++
		total.bytes -= min(total.bytes, uint64(age.size))
		if err := errors.Join(w.delete(pair.Key), w.delete(keyRoomFrom(tableRoomLent, id, age.device, age.number))); err != nil {
			return err
		}
	}
	return w.put(keyRoomLent(id), &total)
}

// sweepLent drops what was kept for members long enough, and of rooms that this account
// is not in any more all.
func (w *work) sweepLent() error {
	ids, err := roomIDs(w.tx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		total, some, err := load[lentRow](w.tx, keyRoomLent(id))
		if err != nil {
			return err
		}
		if !some || total.bytes == 0 || w.full(0) {
			continue // the rest next time
		}
		r, err := w.room(id)
		if err != nil {
			return err
		}
		older := lentTime
		if r.row.stage != RoomJoined {
			older = 0
		}
		if err := w.dropLent(id, total, older); err != nil {
			return err
		}
	}
	return nil
}

// RoomWants are the messages of a room to ask members for: those that are missing, and
// what came after the newest ones that are here, of each device that may write.
func (e *Engine) RoomWants(tx store.Tx, now time.Time, id protocol.RoomID) (list []RoomGap, err error) {
	_, r, err := e.beginRoom(tx, now, id)
	if err != nil || r.state == nil || r.row.stage != RoomJoined {
		return nil, err
	}
	var newer []RoomGap
	for _, d := range r.state.Readers() {
		if d.ID == e.id.Device || len(newer) == maxRoomWants {
			continue
		}
		row, some, err := load[roomReceiverRow](tx, keyRoomReceiver(id, d.ID))
		if err != nil {
			return nil, err
		}
		first := uint64(1)
		if some {
			chains, err := row.parseChains()
			if err != nil {
				return nil, err
			}
			if next := chains.Next(); next > 0 {
				first = max(next, row.seen+1)
			}
		}
		newer = append(newer, RoomGap{d.ID, first, message.MaxNumber})
	}
	err = missing(tx, id, func(gaps []RoomGap) {
		list = append(list, gaps[:min(len(gaps), wantsShare, maxRoomWants-len(newer)-len(list))]...)
	})
	return append(list, newer...), err
}

// GiveRoomLog returns entries of a room's log for a device of a member, like RoomLog.
// ErrNotInRoom for another one.
func (e *Engine) GiveRoomLog(tx store.Tx, now time.Time, id protocol.RoomID, to protocol.DeviceID, from uint64, maxBytes int) ([][]byte, error) {
	if _, err := e.roomToGive(tx, now, id, to); err != nil {
		return nil, err
	}
	return e.RoomLog(tx, id, from, maxBytes)
}

// GiveRoom returns messages for a device of a member: of those that it wants the ones that
// are here and of epochs in which it may read, about maxBytes, and whether there are
// more. The runs of a device are ascending and do not overlap: ErrBadWants. ErrNotInRoom
// for another device.
func (e *Engine) GiveRoom(tx store.Tx, now time.Time, id protocol.RoomID, to protocol.DeviceID, wants []RoomGap, maxBytes int) (list [][]byte, more bool, err error) {
	r, err := e.roomToGive(tx, now, id, to)
	if err != nil {
		return nil, false, err
	}
	if !ascending(wants) {
		return nil, false, ErrBadWants
	}
	rows := 0
	for _, want := range wants {
		first := keyRoomFrom(tableRoomLent, id, want.Device, want.First)
		last := keyRoomFrom(tableRoomLent, id, want.Device, want.Last)
		for pair, err := range tx.Scan(first, append(last, 0)) {
			if err != nil {
				return nil, false, err
			}
			if rows++; rows > maxGiveRows {
				return list, true, nil
			}
			m, err := message.Parse(pair.Value)
			if err != nil {
				return nil, false, fmt.Errorf("message kept for members: %w", store.ErrDamaged)
			}
			if !r.state.May(to, m.Epoch, room.Read) || r.state.Demoted(m.Device, m.Seq) {
				continue
			}
			if maxBytes -= len(pair.Value); maxBytes < 0 && len(list) > 0 {
				return list, true, nil
			}
			list = append(list, pair.Value)
		}
	}
	return list, false, nil
}

// ascending tells whether runs of messages name none twice, so that each costs one look.
func ascending(wants []RoomGap) bool {
	last := map[protocol.DeviceID]uint64{}
	for _, want := range wants[:min(len(wants), maxRoomWants+1)] {
		before, again := last[want.Device]
		if want.Last < want.First || again && want.First <= before {
			return false
		}
		last[want.Device] = want.Last
	}
	return len(wants) <= maxRoomWants
}

// CheckReader checks that a device may read in a room now. ErrNotInRoom for another one,
// as for a room that is not here.
func (e *Engine) CheckReader(tx store.Tx, now time.Time, id protocol.RoomID, device protocol.DeviceID) error {
	_, err := e.roomToGive(tx, now, id, device)
	return err
}

// roomToGive returns a room of which a device may be given something.
func (e *Engine) roomToGive(tx store.Tx, now time.Time, id protocol.RoomID, to protocol.DeviceID) (*openRoom, error) {
	_, r, err := e.beginRoom(tx, now, id)
	if err == ErrNoRoom {
		err = ErrNotInRoom // who asks is not told which rooms there are
	}
	if err != nil {
		return nil, err
	}
	if r.row.stage != RoomJoined || r.state == nil || !r.state.May(to, r.state.Epoch(), room.Read) {
		return nil, ErrNotInRoom
	}
	return r, nil
}

// TakeRoomFrom takes what a member's device gave. Messages are judged as the rendezvous
// judges what somebody else than the author brings. Of the log it takes only what others
// wrote: who orders the log is the rendezvous, and one member alone, who may write
// entries, is not to make others go on with a log that it never showed anybody. ErrRoomLog
// tells that the log is not ours, or does not verify; then nothing changes.
func (e *Engine) TakeRoomFrom(tx store.Tx, now time.Time, id protocol.RoomID, from protocol.AccountID, page RoomPage) (Hint, error) {
	return e.withRoom(tx, now, id, func(w *work, r *openRoom) error {
		if r.state == nil || r.row.made {
			return nil
		}
		var entries [][]byte
		for _, b := range page.Entries {
			entry, err := room.ParseEntry(b)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrRoomLog, err)
			}
			if entry.Seq > r.row.seq && entry.Account == from {
				break
			}
			entries = append(entries, b)
		}
		if err := w.takeLog(r, entries); err != nil {
			return err
		}
		return w.takeBrought(r, page.Messages)
	})
}

// takeBrought takes messages that a member gave, as many as one transaction may carry.
func (w *work) takeBrought(r *openRoom, items []RoomItem) error {
	for i, item := range items {
		if w.full(i) {
			w.hintRoom(r.id)
			return nil
		}
		v, err := w.checker(r).Brought(item.Message)
		if err != nil {
			continue
		}
		if err := w.takeMessage(r, v, PathUnknown); err != nil {
			return err
		}
	}
	return nil
}

// lentRow is how much is kept of a room for its members.
type lentRow struct {
	newest uint64 // number of the newest lentAgeRow
	bytes  uint64 // of all messages
}

func (r *lentRow) encode() []byte {
	e := newRow(16)
	e.u64(r.newest)
	e.u64(r.bytes)
	return e.b
}

func (r *lentRow) decode(b []byte) error {
	d := readRow(b)
	r.newest, r.bytes = d.u64(), d.u64()
	return d.end("kept for members")
}

// lentAgeRow is a message that is kept for members, in the order in which they came.
type lentAgeRow struct {
	device protocol.DeviceID
	number uint64
	size   uint32
	since  time.Time
}

func (r *lentAgeRow) encode() []byte {
	e := newRow(64)
	e.raw(r.device[:])
	e.u64(r.number)
	e.u32(r.size)
	e.time(r.since)
	return e.b
}

func (r *lentAgeRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.device[:])
	r.number, r.size, r.since = d.u64(), d.u32(), d.time()
	return d.end("age of what is kept for members")
}

func keyRoomLent(id protocol.RoomID) []byte { return store.Key(tableRoomLentAge, id[:]) }
