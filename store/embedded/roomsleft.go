package embedded

import (
	"errors"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func outOfRoomPrefix(a protocol.AccountID) []byte                 { return store.Key('O', a[:]) }
func outOfRoomKey(a protocol.AccountID, r protocol.RoomID) []byte { return store.Key('O', a[:], r[:]) }
func emptyRoomKey(r protocol.RoomID) []byte                       { return store.Key('X', r[:]) }

// untilRow says until when something is remembered: that an account left a room, a
// room that nobody is in, or a guest.
type untilRow struct{ until time.Time }

func (u *untilRow) encode(w *writer) { w.time(u.until) }
func (u *untilRow) decode(r *reader) { u.until = r.time() }

// isIn tells whether an account is in a room, or, with lately, left it lately.
func isIn(tx store.Tx, a protocol.AccountID, r protocol.RoomID, lately bool) (bool, error) {
	_, err := tx.Get(inRoomKey(a, r))
	if lately && errors.Is(err, store.ErrNotFound) {
		_, err = tx.Get(outOfRoomKey(a, r))
	}
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (w sweeper) untilPast(pair store.Pair) (bool, error) {
	u, err := parse[untilRow](pair.Value)
	return w.past(u.until), err
}

func (w sweeper) dropRow(tx store.Tx, row store.Pair, _ int) (int, error) {
	return 1, tx.Delete(row.Key)
}

// dropRoom deletes a room that nobody has been in for a while, with all that was said
// there, the log last: nobody can come into it any more.
func (w sweeper) dropRoom(tx store.Tx, row store.Pair, budget int) (removed int, err error) {
	id := protocol.RoomID(store.ReadKey(row.Key).Bytes(len(protocol.RoomID{})))
	for _, table := range []byte{'M', 'N', 'U', 'G'} {
		err := scanPrefix(tx, store.Key(table, id[:]), func(pair store.Pair) (bool, error) {
			if removed == budget {
				return false, nil
			}
			removed++
			return true, tx.Delete(pair.Key)
		})
		if err != nil || removed == budget {
			return removed, err // the rest comes next
		}
	}
	return removed + 1, errors.Join(tx.Delete(roomKey(id)), tx.Delete(row.Key))
}
