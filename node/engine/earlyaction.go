package engine

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Bounds of what waits for its message.
const (
	earlyFor   = 31 * 24 * time.Hour
	maxEarly   = 2048 // actions in one conversation
	maxEarlyBy = 128  // of one account; of both a quarter is for deletions only
)

// earlyActionRow is something done to a message that did not come yet.
type earlyActionRow struct {
	may    powers
	action []byte // wire.Action
}

func (r *earlyActionRow) encode() []byte {
	e := newRow(16 + len(r.action))
	e.bool(r.may.react, r.may.edit, r.may.moderate, r.may.manage, r.may.answer)
	e.bytes(r.action)
	return e.b
}

func (r *earlyActionRow) decode(b []byte) error {
	d := readRow(b)
	d.bool(&r.may.react, &r.may.edit, &r.may.moderate, &r.may.manage, &r.may.answer)
	r.action = d.bytes()
	return d.end("early action")
}

func (r *earlyActionRow) read() (*action, error) {
	a := &wire.Action{}
	if err := proto.Unmarshal(r.action, a); err != nil {
		return nil, fmt.Errorf("early action row: %w", store.ErrDamaged)
	}
	act, ok := readAction(a, true)
	if !ok {
		return nil, fmt.Errorf("early action row: %w", store.ErrDamaged)
	}
	return act, nil
}

func keyAction(a protocol.AccountID, to Ref, kind actKind, by protocol.AccountID) []byte {
	return store.Key(tableAction, a[:], to.ID[:], to.Author[:], []byte{byte(kind)}, by[:])
}

// keepAction keeps an action until its message comes: the newest of its kind and
// account.
func (w *work) keepAction(a, by protocol.AccountID, act *action, may powers) error {
	key := keyAction(a, act.to, act.kind, by)
	old, ok, err := load[earlyActionRow](w.tx, key)
	if err != nil {
		return err
	}
	if ok {
		before, err := old.read()
		if err != nil || !act.newer(before) {
			return err
		}
	} else {
		if full, err := w.manyEarly(a, by, act.kind); err != nil || full {
			return err
		}
		if err := w.at(w.now.Add(earlyFor), timerAction, key[1:]); err != nil {
			return err
		}
	}
	b, err := proto.Marshal(act.wire())
	if err != nil {
		return fmt.Errorf("encode action: %w", err)
	}
	return w.put(key, &earlyActionRow{may: may, action: b})
}

// newer tells whether an action counts in place of another of its kind, account and
// message.
func (act *action) newer(than *action) bool {
	value := func(a *action) string { return fmt.Sprint(a.text, a.on, a.answer) }
	return markRow{at: act.at, text: value(act)}.newer(markRow{at: than.at, text: value(than)})
}

// manyEarly tells that no more actions of a kind and an account may wait in a conversation.
func (w *work) manyEarly(a, by protocol.AccountID, kind actKind) (bool, error) {
	total, ofOne := 0, 0
	most, mostBy := maxEarly, maxEarlyBy
	if kind != actDelete {
		most, mostBy = most*3/4, mostBy*3/4
	}
	err := all(w.tx, store.Key(tableAction, a[:]), func(pair store.Pair) (bool, error) {
		total++
		if string(pair.Key[len(pair.Key)-len(by):]) == string(by[:]) {
			ofOne++
		}
		return total < most && ofOne < mostBy, nil
	})
	return total >= most || ofOne >= mostBy, err
}

// applyActions does to a message that came what was done to it before.
func (w *work) applyActions(a protocol.AccountID, position uint64, h *historyRow) error {
	var rows []store.Pair
	err := all(w.tx, store.Key(tableAction, a[:], h.id[:]), func(pair store.Pair) (bool, error) {
		rows = append(rows, pair)
		return true, nil
	})
	if err != nil || len(rows) == 0 {
		return err
	}
	author, err := w.authorOf(a, h)
	if err != nil {
		return err
	}
	for _, pair := range rows {
		r, err := decodeRow[earlyActionRow](pair.Value)
		if err != nil {
			return err
		}
		act, err := r.read()
		if err != nil {
			return err
		}
		if act.to.Author != author {
			continue
		}
		if err := w.delete(pair.Key); err != nil {
			return err
		}
		by := protocol.AccountID(pair.Key[len(pair.Key)-len(protocol.AccountID{}):])
		if err := w.changeMessage(a, position, h, by, act, r.may); err != nil {
			return err
		}
	}
	return nil
}
