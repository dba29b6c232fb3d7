package engine

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// A new device of the account is told of all contacts and rooms by every sibling, and,
// if the user wants that, of the history by one. Both go in small batches: the next
// one when the last is settled.

// Bounds of one batch.
const (
	MaxPast           = 64 // messages
	shareContactCount = 16
	sharePastBytes    = 48 << 10
)

// shareRow is how far a sibling was told.
type shareRow struct {
	history  bool               // is wanted
	contacts bool               // are all told
	rooms    bool               // are all told
	inRooms  bool               // the history of contacts is told, and that of rooms under way
	with     protocol.AccountID // go on with this account, or room,
	below    uint64             // with its messages below this position (0: the newest), or this entry of its log
	pending  []protocol.MsgID   // contents that are not settled yet
}

func (r *shareRow) encode() []byte {
	e := newRow(48 + 16*len(r.pending))
	e.bool(r.history, r.contacts, r.rooms, r.inRooms)
	e.raw(r.with[:])
	e.u64(r.below)
	e.u8(uint8(len(r.pending)))
	for _, id := range r.pending {
		e.raw(id[:])
	}
	return e.b
}

func (r *shareRow) decode(b []byte) error {
	d := readRow(b)
	d.bool(&r.history, &r.contacts, &r.rooms, &r.inRooms)
	d.fixed(r.with[:])
	r.below = d.u64()
	r.pending = make([]protocol.MsgID, d.count(16))
	for i := range r.pending {
		d.fixed(r.pending[i][:])
	}
	return d.end("share")
}

func keyShare(d protocol.DeviceID) []byte { return store.Key(tableShare, d[:]) }

// SharePast begins or stops to send the history to another device of the
// account; ErrNotFound if it is none. It goes on by itself, also after a
// restart, until the device has all.
func (e *Engine) SharePast(tx store.Tx, now time.Time, device protocol.DeviceID, on bool) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	list, err := w.siblings()
	if err != nil {
		return Hint{}, err
	}
	if !slices.Contains(list, device) {
		return Hint{}, ErrNotFound
	}
	r, ok, err := load[shareRow](tx, keyShare(device))
	if err != nil {
		return Hint{}, err
	}
	if !ok { // they were told before
		r.contacts, r.rooms = true, true
	}
	if r.history = on; on || !r.rooms {
		err = w.putShare(device, &r)
	} else if ok {
		err = w.stopSharing(device)
	}
	if err != nil {
		return Hint{}, err
	}
	return w.end()
}

// putShare notes how far a sibling was told, and goes on soon.
func (w *work) putShare(device protocol.DeviceID, r *shareRow) error {
	if err := w.put(keyShare(device), r); err != nil {
		return err
	}
	if len(r.pending) > 0 {
		return nil
	}
	return w.at(w.now, timerShare, device[:])
}

// shareContacts begins to tell a new sibling of the contacts and rooms.
func (w *work) shareContacts(device protocol.DeviceID) error {
	return w.putShare(device, &shareRow{})
}

func (w *work) stopSharing(device protocol.DeviceID) error {
	b, err := get(w.tx, keyShare(device))
	if err != nil || b == nil {
		return err
	}
	return w.delete(keyShare(device))
}

// shared notes that a content for a sibling is settled.
func (w *work) shared(device protocol.DeviceID, id protocol.MsgID) error {
	r, ok, err := load[shareRow](w.tx, keyShare(device))
	if err != nil || !ok {
		return err
	}
	i := slices.Index(r.pending, id)
	if i < 0 {
		return nil
	}
	r.pending = slices.Delete(r.pending, i, i+1)
	return w.putShare(device, &r)
}

// share sends a sibling the next batch.
func (w *work) share(device protocol.DeviceID, d *deviceRow) error {
	r, ok, err := load[shareRow](w.tx, keyShare(device))
	if err != nil || !ok || len(r.pending) > 0 || d.revoked {
		return err
	}
	if !r.contacts {
		if err := w.shareSomeContacts(device, &r); err != nil {
			return err
		}
		return w.putShare(device, &r)
	}
	if !r.rooms {
		if err := w.shareSomeRooms(device, d, &r); err != nil {
			return err
		}
		return w.putShare(device, &r)
	}
	if !r.history {
		return w.stopSharing(device)
	}
	past, err := w.nextPast(&r)
	if err != nil {
		return err
	}
	content := &wire.Content{Body: &wire.Content_Past{Past: past}}
	id, err := w.postOther(device, d, wire.MailKind_MESSAGE, content)
	if err != nil {
		return err
	}
	if len(past.GetWith()) == 0 { // the end, and the other side knows by this
		return w.stopSharing(device)
	}
	r.pending = []protocol.MsgID{id}
	return w.putShare(device, &r)
}

func (w *work) shareSomeContacts(device protocol.DeviceID, r *shareRow) error {
	start := keyPeer(r.with)
	for pair, err := range w.tx.Scan(start, store.PrefixEnd([]byte{tablePeer})) {
		if err != nil {
			return err
		}
		p, err := decodeRow[peerRow](pair.Value)
		if err != nil {
			return err
		}
		a := protocol.AccountID(pair.Key[1:])
		if r.with = a; len(r.pending) >= shareContactCount || w.full(0) {
			return nil
		}
		if !p.tellable() {
			continue
		}
		id, err := w.tellContact(device, a)
		if err != nil {
			return err
		}
		r.pending = append(r.pending, id)
		if err := w.tellSettings(device, a); err != nil {
			return err
		}
	}
	r.contacts, r.with = true, protocol.AccountID{}
	return nil
}

// tellable are the people that other devices of ours, and backups, know of: also
// those who were removed, for what they wrote.
func (p *peerRow) tellable() bool { return p.known && p.relation != Self && p.name != "" }

// nextPast collects the next messages, and moves r on. Past without an account
// is the end.
func (w *work) nextPast(r *shareRow) (*wire.Past, error) {
	if r.inRooms {
		return w.nextRoomPast(r)
	}
	for pair, err := range w.tx.Scan(keyPeer(r.with), store.PrefixEnd([]byte{tablePeer})) {
		if err != nil {
			return nil, err
		}
		if a := protocol.AccountID(pair.Key[1:]); a != r.with {
			r.with, r.below = a, 0
		}
		list, err := w.messagesBelow(r)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			return &wire.Past{With: slices.Clone(r.with[:]), Messages: list}, nil
		}
	}
	r.inRooms, r.with, r.below = true, protocol.AccountID{}, 0
	return w.nextRoomPast(r)
}

// messagesBelow returns the next messages of a conversation, the newest first,
// and moves r below them.
func (w *work) messagesBelow(r *shareRow) (list []*wire.PastMessage, err error) {
	end := store.PrefixEnd(store.Key(tableHistory, r.with[:]))
	if r.below > 0 {
		end = keyHistory(r.with, r.below)
	}
	size := 0
	for pair, err := range w.tx.ScanDown(keyHistory(r.with, 0), end) {
		if err != nil {
			return nil, err
		}
		h, err := historyIn(w.tx, r.with, pair)
		if err != nil {
			return nil, err
		}
		position := keyNumber(pair.Key)
		m, err := w.past(&h, r.with, position)
		if err != nil {
			return nil, err
		}
		if size += proto.Size(m); len(list) > 0 && (size > sharePastBytes || len(list) == MaxPast) {
			break
		}
		if r.below = position; h.state != StateHole && !h.hidden {
			list = append(list, m)
		}
	}
	return list, nil
}
