package engine

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Keys of a room go from device to device through sessions. In the queues a content
// only names them; they are put in when it is sealed, and an own chain's seed is
// destroyed when every reader has it.

// roomKeyRow is a key of a room's texts.
type roomKeyRow struct {
	fresh bool // made here, and not given to anybody yet
	key   []byte
	by    protocol.AccountID // who gave it; zero: nobody, or it was asked for
}

func (r *roomKeyRow) encode() []byte {
	e := newRow(72)
	e.bool(r.fresh)
	e.bytes(r.key)
	e.raw(r.by[:])
	return e.b
}

func (r *roomKeyRow) decode(b []byte) error {
	d := readRow(b)
	d.bool(&r.fresh)
	r.key = d.bytes()
	d.fixed(r.by[:])
	return d.end("key of a room")
}

// maxKeysOfOne is how many keys of a room's texts are kept from one account that its log
// does not name, or not yet.
const maxKeysOfOne = 16

func (w *work) stateKey(id protocol.RoomID, name room.KeyID) (k room.StateKey, ok bool, err error) {
	row, ok, err := load[roomKeyRow](w.tx, keyRoomKey(id, name))
	if err != nil || !ok {
		return k, false, err
	}
	if k, err = room.ParseStateKey(row.key); err != nil {
		return k, false, fmt.Errorf("key of a room: %w", store.ErrDamaged)
	}
	return k, true, nil
}

// sealingKey returns the key to seal texts of a room with: the one in force, or a
// new one.
func (w *work) sealingKey(r *openRoom) (room.StateKey, error) {
	_, top, err := w.top(r)
	if err != nil {
		return room.StateKey{}, err
	}
	return w.sealingKeyAt(r, top)
}

// sealingKeyAt is sealingKey for an entry that is written on top of a state.
func (w *work) sealingKeyAt(r *openRoom, top *room.State) (room.StateKey, error) {
	if name, holds := top.SealingKey(); holds {
		if k, ok, err := w.stateKey(r.id, name); err != nil || ok {
			return k, err
		}
	}
	k := room.NewStateKey()
	return k, w.put(keyRoomKey(r.id, k.ID()), &roomKeyRow{fresh: true, key: k.Bytes()})
}

// takeStateKey keeps a key that somebody gave, if the log names it or may soon: then
// while there are few from him. One who gives many that no entry names keeps out nobody
// else's.
func (w *work) takeStateKey(r *openRoom, by protocol.AccountID, b []byte) error {
	k, err := room.ParseStateKey(b)
	if err != nil {
		return nil
	}
	have, err := get(w.tx, keyRoomKey(r.id, k.ID()))
	if err != nil || have != nil {
		return err
	}
	var named []room.KeyID
	if r.state != nil {
		named = append(r.state.Keys(), r.state.Password().Secret.Key)
	}
	if !slices.Contains(named, k.ID()) {
		if more, err := w.keepsKeyOf(r.id, by, named); !more || err != nil {
			return err
		}
	}
	return w.put(keyRoomKey(r.id, k.ID()), &roomKeyRow{key: k.Bytes(), by: by})
}

// keepsKeyOf tells whether another key of an account may be kept that the log does not
// name.
func (w *work) keepsKeyOf(id protocol.RoomID, by protocol.AccountID, named []room.KeyID) (bool, error) {
	total, his := 0, 0
	err := all(w.tx, store.Key(tableRoomKey, id[:]), func(pair store.Pair) (bool, error) {
		row, err := decodeRow[roomKeyRow](pair.Value)
		if err != nil || slices.Contains(named, room.KeyID(pair.Key[33:])) {
			return true, err
		}
		total++
		if row.by == by {
			his++
		}
		return true, nil
	})
	return total < maxStateKeys && (his < maxKeysOfOne || by == w.e.id.Account), err
}

// giveFresh gives a key of ours to the readers, once an entry that uses it is in the
// log.
func (w *work) giveFresh(r *openRoom, text room.Sealed) error {
	row, ok, err := load[roomKeyRow](w.tx, keyRoomKey(r.id, text.Key))
	if err != nil || !ok || !row.fresh {
		return err
	}
	row.fresh = false
	if err := w.put(keyRoomKey(r.id, text.Key), &row); err != nil {
		return err
	}
	return w.giveKeys(r, text.Key, &roomChainRow{epoch: r.state.Epoch(), since: r.state.Epoch()})
}

// startChain begins an own chain and gives it to the readers.
func (w *work) startChain(r *openRoom, s *chain.Sender) error {
	since := s.Epoch()
	if me, in := w.me(r); in {
		since = max(since, me.Joined)
	}
	next, d, err := s.Start(w.now, r.view(), w.e.id.Device)
	if err != nil {
		return fmt.Errorf("start a chain: %w", err)
	}
	*s = next
	return w.giveKeys(r, d.Chain, &roomChainRow{distribution: d.Marshal(), epoch: d.View.Epoch, since: since})
}

// giveKeys queues a chain, or keys of texts, for all readers from row.next on, as far as
// one transaction may carry it.
func (w *work) giveKeys(r *openRoom, id [32]byte, row *roomChainRow) error {
	readers, texts := r.state.Readers(), r.state.Keys()
	slices.SortFunc(readers, func(a, b room.Device) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if err := w.put(keyRoomChain(r.id, id), row); err != nil { // it is read when a content is sealed
		return err
	}
	rows := 0
	row.all = true
	for _, reader := range readers {
		if bytes.Compare(reader.ID[:], row.next[:]) < 0 || reader.ID == w.e.id.Device {
			continue
		}
		if w.full(rows) {
			row.next, row.all = reader.ID, false
			if err := w.at(w.now, timerRoomGive, slices.Concat(r.id[:], id[:])); err != nil {
				return err
			}
			break
		}
		rows++
		if len(row.distribution) > 0 && !r.state.May(reader.ID, row.epoch, room.Read) {
			continue // came later: it reads nothing older
		}
		given, err := w.giveTo(r, id, row, reader, texts)
		if err != nil {
			return err
		}
		if given {
			row.left++
		}
	}
	if row.all && row.left == 0 {
		return w.delete(keyRoomChain(r.id, id))
	}
	return w.put(keyRoomChain(r.id, id), row)
}

// giveTo queues a chain, or a key of texts, for one reader, with the keys of texts that
// it has not got.
func (w *work) giveTo(r *openRoom, id [32]byte, row *roomChainRow, to room.Device, texts []room.KeyID) (bool, error) {
	d, err := w.mateDevice(r, to)
	if err != nil || d == nil {
		return false, err
	}
	keys := keysFor(r, to)
	if len(row.distribution) > 0 {
		keys.Distributions = [][]byte{id[:]}
	} else {
		keys.StateKeys = [][]byte{id[:]}
	}
	if r.state.May(to.ID, row.since, room.Read) { // it has the others
		texts = nil
		if about := r.state.About(); !about.IsZero() && about.Key != id {
			texts = []room.KeyID{about.Key}
		}
	}
	return true, w.postNames(r, to, d, keys, texts)
}

// keysFor is what any device is given with other keys: the key of the password, if it may
// let guests in.
func keysFor(r *openRoom, to room.Device) *wire.RoomKeys {
	keys := &wire.RoomKeys{Room: r.id[:]}
	if secret := r.state.Password().Secret; !secret.IsZero() && r.state.Rights(to.Cert.Account).Has(room.Admit) {
		keys.PasswordKey = secret.Key[:]
	}
	return keys
}

// postNames queues keys, with those of texts of these names, in as many contents as it
// takes.
func (w *work) postNames(r *openRoom, to room.Device, d *deviceRow, keys *wire.RoomKeys, names []room.KeyID) error {
	for _, name := range names {
		if len(keys.StateKeys) == maxRoomGive {
			if err := w.postKeys(to.ID, d, keys); err != nil {
				return err
			}
			keys = &wire.RoomKeys{Room: r.id[:]}
		}
		keys.StateKeys = append(keys.StateKeys, name[:])
	}
	return w.postKeys(to.ID, d, keys)
}

func (w *work) postKeys(device protocol.DeviceID, d *deviceRow, keys *wire.RoomKeys) error {
	_, err := w.postRoomKeys(device, d, wire.MailKind_ROOM, &wire.Content{Body: &wire.Content_RoomKeys{RoomKeys: keys}})
	return err
}

// postRoomKeys queues a content that names keys of a room.
func (w *work) postRoomKeys(device protocol.DeviceID, d *deviceRow, kind wire.MailKind, content *wire.Content) (protocol.MsgID, error) {
	item, err := w.newItem(d, kind, content)
	if err != nil {
		return item.id, err
	}
	item.roomKeys = true
	_, err = w.post(device, d, item, content)
	return item.id, err
}

// mateDevice returns the row of a device in a room of ours, and makes its account
// known from the room's log; nil if nothing can be sealed for it.
func (w *work) mateDevice(r *openRoom, device room.Device) (*deviceRow, error) {
	m, in := r.state.Member(device.Cert.Account)
	if !in {
		return nil, nil
	}
	p, err := w.peer(m.Account)
	if err == ErrNotFound {
		p, err = w.newContact(m.Account), nil
	}
	if err != nil {
		return nil, err
	}
	w.remember(p)
	b, err := get(w.tx, keyChain(m.Account))
	if err != nil {
		return nil, err
	}
	if b == nil || len(m.Chain.Bytes()) > len(b) && bytes.HasPrefix(m.Chain.Bytes(), b) {
		if err := w.learnChain(p, m.Chain); err != nil {
			return nil, err
		}
	}
	d, err := w.device(device.ID)
	if err == ErrNotFound || err == nil && d.revoked { // its certificate is over, or it is
		return nil, nil
	}
	return d, err
}

// withRoomKeys puts the keys that a content names into it.
func (w *work) withRoomKeys(plain []byte) ([]byte, error) {
	content := &wire.Content{}
	if err := proto.Unmarshal(plain, content); err != nil {
		return nil, fmt.Errorf("queue row: %w", store.ErrDamaged)
	}
	var err error
	switch body := content.GetBody().(type) {
	case *wire.Content_RoomInvite:
		body.RoomInvite.StateKey, err = w.namedKey(body.RoomInvite.GetRoom(), body.RoomInvite.GetStateKey())
	case *wire.Content_RoomState:
		body.RoomState.Keys, err = w.namedKeys(body.RoomState.GetRoom(), body.RoomState.GetKeys())
	case *wire.Content_RoomKeys:
		err = w.fillRoomKeys(body.RoomKeys)
	}
	if err != nil {
		return nil, err
	}
	return proto.Marshal(content)
}

func (w *work) fillRoomKeys(keys *wire.RoomKeys) (err error) {
	id, err := protocol.FromBytes[protocol.RoomID](keys.GetRoom())
	if err != nil {
		return fmt.Errorf("queue row: %w", store.ErrDamaged)
	}
	var chains [][]byte
	for _, name := range keys.GetDistributions() {
		row, ok, err := load[roomChainRow](w.tx, store.Key(tableRoomChain, id[:], name))
		if err != nil {
			return err
		}
		if ok {
			chains = append(chains, row.distribution)
		}
	}
	keys.Distributions = chains
	if keys.StateKeys, err = w.namedKeys(id[:], keys.GetStateKeys()); err != nil {
		return err
	}
	keys.PasswordKey, err = w.namedKey(id[:], keys.GetPasswordKey())
	return err
}

// namedKeys are those of the named keys that are here.
func (w *work) namedKeys(id []byte, names [][]byte) (list [][]byte, err error) {
	for _, name := range names {
		k, err := w.namedKey(id, name)
		if err != nil {
			return nil, err
		}
		if k != nil {
			list = append(list, k)
		}
	}
	return list, nil
}

func (w *work) namedKey(id, name []byte) ([]byte, error) {
	if len(name) == 0 {
		return nil, nil
	}
	row, _, err := load[roomKeyRow](w.tx, store.Key(tableRoomKey, id, name))
	return row.key, err
}

// roomKeysSettled notes that a content with keys needs them no more.
func (w *work) roomKeysSettled(plain []byte) error {
	content := &wire.Content{}
	if err := proto.Unmarshal(plain, content); err != nil {
		return fmt.Errorf("queue row: %w", store.ErrDamaged)
	}
	keys := content.GetRoomKeys()
	names := keys.GetDistributions()
	if len(names) == 0 && len(keys.GetStateKeys()) > 0 {
		names = keys.GetStateKeys()[:1]
	}
	if len(names) == 0 {
		return nil
	}
	k := store.Key(tableRoomChain, keys.GetRoom(), names[0])
	row, ok, err := load[roomChainRow](w.tx, k)
	if err != nil || !ok {
		return err
	}
	row.left = max(row.left, 1) - 1
	if row.all && row.left == 0 {
		return w.delete(k)
	}
	return w.put(k, &row)
}

// goOnGiving is giveKeys after a pause.
func (w *work) goOnGiving(id []byte) error {
	r, err := w.roomOfTimer(id, 64)
	if r == nil || err != nil {
		return err
	}
	name := [32]byte(id[32:])
	row, ok, err := load[roomChainRow](w.tx, keyRoomChain(r.id, name))
	if err != nil || !ok || row.all {
		return err
	}
	return w.giveKeys(r, name, &row)
}
