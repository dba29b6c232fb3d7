package engine

import (
	"errors"
	"math"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

const (
	gapRun     = 64 // messages in one run that the rendezvous is asked for
	gapShare   = 4  // runs of one device in one question,
	wantsShare = 64 // and to a member
)

// RoomGap is a run of messages of a device that are known to exist, and are not
// here.
type RoomGap struct {
	Device      protocol.DeviceID
	First, Last uint64
}

// RoomGaps returns what of a room is missing, for one question to the rendezvous: at most
// limit runs of at most 64 messages. What comes is taken with TakeRoom, without a cursor.
// Each device has a share of 4 runs, so that one whose messages nobody has keeps nobody
// from those of others; another turn, which is any number, asks for others.
func (e *Engine) RoomGaps(tx store.Tx, id protocol.RoomID, turn uint64, limit int) (list []RoomGap, err error) {
	err = missing(tx, id, func(gaps []RoomGap) {
		list = append(list, gapsInTurn(gaps, turn&math.MaxUint32)...)
	})
	if len(list) == 0 {
		return nil, err
	}
	pages := (len(list) + limit - 1) / limit
	begin := int(turn>>32%uint64(pages)) * limit
	return list[begin:min(begin+limit, len(list))], err
}

// gapsInTurn cuts the gaps of one device into runs and returns the share of a turn.
func gapsInTurn(gaps []RoomGap, turn uint64) (list []RoomGap) {
	runs := uint64(0)
	for _, g := range gaps {
		runs += runsIn(g)
	}
	turns := (runs + gapShare - 1) / gapShare
	skip := turn % turns * gapShare
	for _, g := range gaps {
		n := runsIn(g)
		for ; skip < n && len(list) < gapShare; skip++ {
			first := g.First + skip*gapRun
			list = append(list, RoomGap{g.Device, first, min(first+gapRun-1, g.Last)})
		}
		skip -= min(skip, n)
	}
	return list
}

func runsIn(g RoomGap) uint64 { return (g.Last-g.First)/gapRun + 1 }

// missing tells of each device in a room, if something of it is missing, what, ascending.
func missing(tx store.Tx, id protocol.RoomID, tell func([]RoomGap)) error {
	return all(tx, store.Key(tableRoomReceiver, id[:]), func(pair store.Pair) (bool, error) {
		row, err := decodeRow[roomReceiverRow](pair.Value)
		if err != nil {
			return false, err
		}
		chains, err := row.parseChains()
		if err != nil {
			return false, err
		}
		device := protocol.DeviceID(pair.Key[33:])
		var list []RoomGap
		for _, g := range chains.Gaps() {
			list = append(list, RoomGap{device, g.First, g.Last})
		}
		if next := chains.Next(); next > 0 && next <= row.seen {
			list = append(list, RoomGap{device, next, row.seen})
		}
		if len(list) > 0 {
			tell(list)
		}
		return true, nil
	})
}

// sweepRooms destroys what nobody waits for any more in rooms.
func (w *work) sweepRooms(from []byte) error {
	if len(from) == 0 {
		if err := errors.Join(w.at(w.now.Add(sweepEvery), timerRooms, nil), w.sweepLent()); err != nil {
			return err
		}
	}
	rows := 0
	for pair, err := range w.tx.Scan(store.Key(tableRoomReceiver, from), store.PrefixEnd([]byte{tableRoomReceiver})) {
		if err != nil {
			return err
		}
		if w.full(rows) {
			return w.at(w.now, timerRooms, pair.Key[1:])
		}
		rows++
		row, err := decodeRow[roomReceiverRow](pair.Value)
		if err != nil {
			return err
		}
		chains, err := row.parseChains()
		if err != nil {
			return err
		}
		if next, changed := chains.Sweep(w.now); changed {
			row.receiver = next.Marshal()
			if err := w.put(pair.Key, &row); err != nil {
				return err
			}
		}
	}
	return nil
}
