package engine

import (
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// takePast stands in until the work on several devices is merged.
func (w *work) takePast(p *wire.Past) error {
	with := protocol.AccountID(p.GetWith())
	peer, err := w.peer(with)
	if err != nil {
		return err
	}
	var below uint64
	err = all(w.tx, store.Key(tableHistory, with[:]), func(pair store.Pair) (bool, error) {
		below = keyNumber(pair.Key)
		return false, nil
	})
	if err != nil {
		return err
	}
	if below == 0 {
		peer.position = max(peer.position, 1<<32)
		below = peer.position + 1
	}
	for _, m := range p.GetMessages() {
		h := historyRow{
			id: protocol.MsgID(m.GetMsgId()), device: protocol.DeviceID(m.GetDevice()), mine: m.GetMine(), state: states[m.GetState()], text: m.GetText(),
			sent: fromMillis(int64(m.GetSentMs())), recorded: fromMillis(int64(m.GetRecordedMs())),
		}
		k := keyIndex(h.id, h.device)
		if h.mine {
			k = keyMine(h.id)
		}
		have, err := get(w.tx, k)
		if err != nil {
			return err
		}
		if have != nil {
			continue
		}
		below--
		if err := w.record(with, below, &h); err != nil {
			return err
		}
		if err := w.put(k, &indexRow{account: with, position: below}); err != nil {
			return err
		}
	}
	return nil
}
