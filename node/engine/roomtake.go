package engine

import (
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/wire"
)

// mayGiveKeys tells whether keys of a room may be taken from a device now: OK, for
// Unavailable the log has to be read first.
func (w *work) mayGiveKeys(in *incoming, keys *wire.RoomKeys) (protocol.Code, error) {
	id, err := protocol.FromBytes[protocol.RoomID](keys.GetRoom())
	if err != nil || len(keys.GetDistributions()) > maxRoomGive || len(keys.GetStateKeys()) > maxRoomGive {
		return protocol.BadRequest, nil
	}
	stranger := protocol.OK // a contact's is taken, and dropped
	if !in.p.close() && in.p.relation != Blocked {
		stranger = protocol.NotContact
	}
	r, err := w.room(id)
	if err == ErrNoRoom || err == nil && r.row.stage == RoomOut && !w.doubted(r) {
		again, err := w.comesAgain(id)
		if again { // it may be in already, and not know
			stranger = protocol.Unavailable
		}
		return stranger, err
	}
	if err != nil {
		return protocol.Internal, err
	}
	if r.state == nil {
		w.hintRoom(id)
		return protocol.Unavailable, nil
	}
	if w.forced(r) {
		return stranger, nil
	}
	if epoch := r.aheadOf(in.from, keys); epoch > 0 {
		if waits, err := w.waitForEpoch(r, in, epoch); waits || err != nil {
			return protocol.Unavailable, err
		}
	}
	if account, _, ok := r.state.AccountOf(in.from); !ok || account != in.d.account {
		return stranger, nil
	}
	return protocol.OK, nil
}

// receiveRoomKeys takes the chains of a device and keys of texts, and opens what
// waited for them.
func (w *work) receiveRoomKeys(in *incoming, keys *wire.RoomKeys) error {
	r, err := w.room(protocol.RoomID(keys.GetRoom()))
	if err == ErrNoRoom || err == nil && (r.state == nil || w.forced(r)) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, b := range keys.GetDistributions() {
		if err := w.takeChain(r, in.from, in.d.account, b); err != nil {
			return err
		}
	}
	if account, _, ok := r.state.AccountOf(in.from); !ok || account != in.d.account {
		return nil
	}
	for _, b := range append(keys.GetStateKeys(), keys.GetPasswordKey()) {
		if err := w.takeStateKey(r, in.d.account, b); err != nil {
			return err
		}
	}
	return w.noteRoomName(r)
}

func (w *work) takeChain(r *openRoom, device protocol.DeviceID, a protocol.AccountID, b []byte) error {
	d, err := chain.ParseDistribution(device, b)
	if err != nil || d.View.Room != r.id {
		return w.trouble(CauseMalformed, a, "keys of a room that are not of their sender")
	}
	if w.checker(r).May(device, d.View.Epoch) != nil || !r.state.May(w.e.id.Device, d.View.Epoch, room.Read) {
		return nil
	}
	switch r.state.Judge(d.View.Epoch, d.View.Seq, d.View.Head) {
	case room.Ahead:
		w.hintRoom(r.id)
	case room.Forked:
		if err := w.forked(r, device, d.View.Seq, d.View.Head); err != nil {
			return err
		}
	}
	from, err := w.receiverOf(r, device)
	if err != nil {
		return err
	}
	if from.chains, err = from.chains.Accept(w.now, d); err != nil {
		return w.trouble(CauseMalformed, a, "keys of a room that are not of their sender")
	}
	return w.openWaiting(r, device, from)
}
