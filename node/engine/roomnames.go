package engine

import (
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// cameRow says by which entry somebody came into a room last: there is its name, also
// when it is out.
type cameRow struct{ seq uint64 }

func (r *cameRow) encode() []byte {
	e := newRow(9)
	e.u64(r.seq)
	return e.b
}

func (r *cameRow) decode(b []byte) error {
	d := readRow(b)
	r.seq = d.u64()
	return d.end("name in a room")
}

// noteCame notes whom an entry brings in, with a name. There is one row for each who ever
// was in, fewer than entries in the log.
func (w *work) noteCame(r *openRoom, entry room.Entry) error {
	a, name, err := nameIn(entry)
	if err != nil || name.IsZero() {
		return err
	}
	return w.put(keyRoomCame(r.id, a), &cameRow{entry.Seq})
}

// nameIn returns whom an entry brings in and its name; empty if it brings in nobody.
func nameIn(entry room.Entry) (a protocol.AccountID, name room.Sealed, err error) {
	switch op := entry.Op.(type) {
	case room.Join:
		return entry.Account, op.Name, nil
	case room.GuestJoin:
		chain, err := account.ParseChain(op.Chain)
		if err != nil { // it was taken, so it is one
			return a, name, fmt.Errorf("chain of a guest: %w", store.ErrDamaged)
		}
		return chain.Account(), op.Name, nil
	}
	return a, name, nil
}

// RoomAuthorName returns what an account is called in a room, or was when it was last in
// it. Empty if it chose no name, or its key is not here.
func (e *Engine) RoomAuthorName(tx store.Tx, id protocol.RoomID, a protocol.AccountID) (string, error) {
	came, ok, err := load[cameRow](tx, keyRoomCame(id, a))
	if err != nil || !ok {
		return "", err
	}
	entry, err := e.RoomEntry(tx, id, came.seq)
	if err == ErrNotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if who, _, err := nameIn(entry.Entry); err != nil || who != a {
		return "", err
	}
	return entry.Name, nil
}

// What tableRoomNote holds of a room.
const (
	noteCame  = 'c' // account -> cameRow
	noteTries = 't' // triesRow
)

func keyRoomCame(id protocol.RoomID, a protocol.AccountID) []byte {
	return store.Key(tableRoomNote, id[:], []byte{noteCame}, a[:])
}

func keyRoomTries(id protocol.RoomID) []byte {
	return store.Key(tableRoomNote, id[:], []byte{noteTries})
}
